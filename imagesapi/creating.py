"""From an understood request to its HTTP answer: at once, as a stream, accepted for later, or given once more."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError
from django.http import HttpResponse
from django.http.response import HttpResponseBase

from accounts import keys, scopes
from accounts.callers import Caller
from billing.rate_headers import rate_headers
from core import api, errors, ids, memory, money
from imagesapi import admission, answers, gateway, history, jobs, outputs, replays, streaming
from imagesapi.admission import Marks
from imagesapi.models import Generation, GenerationStatus
from imagesapi.values import ImageRequest, Partial

_ASYNC = "respond-async"


@dataclass(frozen=True, slots=True)
class Creation:
    """One call of a creating route: who asks for what, and since when (time.monotonic()'s clock)."""

    caller: Caller
    asked: ImageRequest
    marks: Marks
    generation_id: uuid.UUID
    started_s: float


def wants_async(environ: Mapping[str, str]) -> bool:
    """Whether `Prefer: respond-async` was sent (RFC 7240), alone or among other preferences."""
    preferences = environ.get("HTTP_PREFER", "").lower().split(",")
    return any(preference.partition(";")[0].strip() == _ASYNC for preference in preferences)


def respond(creation: Creation) -> HttpResponseBase:
    """The answer, made once however often the same request comes."""
    earlier = _earlier(creation)
    if earlier is not None:
        return _replayed(creation, earlier)
    try:
        if creation.marks.is_async:
            return _accepted(creation)
        return _streamed(creation) if creation.asked.stream else _answered(creation)
    except DatabaseError as error:
        if not admission.is_taken(error):
            raise
    earlier = _earlier(creation)  # another process was faster by a moment
    if earlier is None:
        raise errors.InProgress("The request with this Idempotency-Key has just ended. Try again.", retry_after_s=1)
    return _replayed(creation, earlier)


def _earlier(creation: Creation) -> Generation | None:
    marks = creation.marks
    if marks.idempotency_key is None and marks.retry_count == 0:
        return None
    # What was made is given to whoever may have it now, not to a key as it was some seconds ago.
    return replays.find(keys.look_again(creation.caller, scope=scopes.IMAGES), marks)


def _answered(creation: Creation) -> HttpResponse:
    with memory.scope():
        outcome = _made(creation, None)
        response = api.render(outcome.document, headers=_headers(creation, outcome))
        sent = memory.hand_over()
        if sent is not None:
            response._resource_closers.append(sent)  # type: ignore[attr-defined]
        return response


def _made(creation: Creation, on_partial: Callable[[Partial], None] | None) -> gateway.Outcome:
    return gateway.create(
        creation.caller,
        creation.asked,
        generation_id=creation.generation_id,
        marks=creation.marks,
        on_partial=on_partial,
    )


def _headers(creation: Creation, outcome: gateway.Outcome) -> dict[str, str]:
    found = outputs.headers(outcome, started_s=creation.started_s)
    return found if outcome.verdict is None else {**found, **rate_headers(outcome.verdict)}


def _streamed(creation: Creation) -> HttpResponseBase:
    # A stream carries pictures as text, whatever form answers have otherwise; links come along.
    asked = replace(creation.asked, response_format=None)
    caller = replace(creation.caller, default_response_format="")
    creation = replace(creation, asked=asked, caller=caller)

    def work(on_partial: Callable[[Partial], None]) -> dict[str, Any]:
        return _made(creation, on_partial).document

    return streaming.respond(asked, work)


# Later


def _accepted(creation: Creation) -> HttpResponse:
    if creation.asked.stream:
        raise errors.InvalidRequest("A request is streamed or answered later (Prefer: respond-async), not both.",
                                    param="stream")  # fmt: skip
    jobs.enqueue(creation.caller, creation.asked, generation_id=creation.generation_id, marks=creation.marks)
    return _location(Generation.objects.select_related("api_key").get(pk=creation.generation_id))


def _location(row: Generation) -> HttpResponse:
    word = ids.public("req", row.pk)
    headers = {"Location": f"/v1/requests/{word}", "Preference-Applied": _ASYNC, "x-request-id": word}
    return api.render(history.item(row), status=202, headers=headers)


# Once more


def _replayed(creation: Creation, row: Generation) -> HttpResponseBase:
    """What was answered before. A stream is answered as a stream, a later one with its whereabouts."""
    if creation.marks.is_async and (row.is_async or row.status != GenerationStatus.COMPLETED):
        response: HttpResponseBase = _location(row)
    else:
        document = answers.again(row)
        if document is None:
            raise errors.Gone("The answer of this request was not kept.")
        streams = creation.asked.stream
        response = streaming.of_document(creation.asked, document) if streams else api.render(document)
        for name, value in _told(row, document, creation.started_s).items():
            response.headers[name] = value
    response.headers["Idempotency-Replayed"] = "true"
    return response


def _told(row: Generation, document: Mapping[str, Any], started_s: float) -> dict[str, str]:
    """What is said beside an answer, and once more beside its replay."""
    metadata = document["metadata"]
    return {
        "x-request-id": document["id"],
        "x-pixelpar-provider": metadata["provider"],
        "x-pixelpar-model": metadata["executed_model"],
        "x-pixelpar-cost": money.decimal(row.cost_nanos or 0),
        "openai-processing-ms": str(round((time.monotonic() - started_s) * 1000)),
    }
