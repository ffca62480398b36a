"""fal's queue: a job is submitted, remembered, asked about, and cancelled when nobody waits for it any more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from core import http
from imagesapi.providers import _fal_answers, _shared
from imagesapi.providers.base import BadAnswer, Blocked, Call, Cancelled, ProviderError, TimedOut, Unavailable
from imagesapi.values import Answer, Offer

_MOST_PICTURES: Final = 4
_FIRST_POLL_S: Final = 0.25
_SLOWEST_POLL_S: Final = 1.0
_ONE_POLL_S: Final = 10.0
# Kept back from the deadline to cancel a job and hear what became of it.
_CANCEL_RESERVE_S: Final = 2.0


def authorization(values: Mapping[str, str]) -> dict[str, str]:
    """The header that fal knows the operator by."""
    return {"Authorization": f"Key {values['FAL_KEY']}"}


def run(call: Call, wire_id: str, body: Mapping[str, Any]) -> Answer:
    """Submit a job and wait for its answer; cancelled upstream at the deadline and when the caller wants no result."""
    job = _submit(call, wire_id, body)
    try:
        call.remember(job)
    except BaseException:
        _cancel(job, call.offer.connection.settings, deadline=call.deadline)
        raise
    give_up_at = call.deadline - min(_CANCEL_RESERVE_S, (call.deadline - time.monotonic()) / 4)
    wait_s, cancelling = _FIRST_POLL_S, False
    while (now := time.monotonic()) < give_up_at:
        if not cancelling and call.cancelled():
            cancelling, wait_s = _cancel(job, call.offer.connection.settings, deadline=give_up_at), _FIRST_POLL_S
        answer = _result(job, call, deadline=give_up_at, cancelling=cancelling)
        if answer is not None:
            return answer
        time.sleep(min(wait_s, max(give_up_at - now, 0)))
        wait_s = min(wait_s * 1.5, _SLOWEST_POLL_S)
    return _abandon(job, call)


def resume(offer: Offer, reference: Mapping[str, Any], deadline: float) -> Answer | None:
    """The answer of a job submitted before a crash, None while it runs or cannot be asked about."""
    values = offer.connection.settings
    if _job(reference, values) is None:
        raise BadAnswer("The stored reference does not name a job on the provider's queue.")
    max_bytes = _MOST_PICTURES * _shared.MAX_PICTURE_BYTES
    return _ask(reference, values, n=_MOST_PICTURES, max_bytes=max_bytes, deadline=deadline)


def _submit(call: Call, wire_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
    values = call.offer.connection.settings
    start_within_s = max(int(call.deadline - time.monotonic()), 2)
    reply = _shared.send(
        "POST",
        f"{values['FAL_QUEUE_URL'].rstrip('/')}/{wire_id}",
        deadline=call.deadline,
        max_bytes=_shared.SMALL_ANSWER_BYTES,
        # Without these the queue tries again by itself, and a success after our failover is paid as well.
        headers={
            **authorization(values),
            "x-fal-no-retry": "1",
            "x-fal-request-timeout": str(start_within_s),
        },
        body=body,
    )
    if not 200 <= reply.status < 300:
        _fal_answers.fail(reply, values)
    job = _job(_shared.json_object(reply) or {}, values)
    if job is None:
        raise BadAnswer("The provider's queue answered without a usable job.", **_fal_answers.facts_of(reply))
    return job


def _job(found: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Any] | None:
    """The addresses of a job, each on the queue's own host; None when one is missing or elsewhere."""
    home = _shared.place(values["FAL_QUEUE_URL"])
    job: dict[str, Any] = {"request_id": _shared.word(found.get("request_id"))}
    for name in ("status_url", "response_url", "cancel_url"):
        address = found.get(name)
        if home is None or not isinstance(address, str) or len(address) > 2_000 or _shared.place(address) != home:
            return None
        job[name] = address
    return job


def _ask(
    job: Mapping[str, Any], values: Mapping[str, str], *, n: int, max_bytes: int, deadline: float
) -> Answer | None:
    """The job's answer once it has one; None while it runs or when asking failed in a way that may pass."""
    status = _state(job, values, deadline=deadline)
    if status is None or status.get("status") != "COMPLETED":
        return None
    try:
        reply = _shared.send(
            "GET", job["response_url"], deadline=deadline, max_bytes=max_bytes, headers=authorization(values)
        )
    except (Unavailable, TimedOut):
        return None
    if _is_front_trouble(reply):
        return None
    kind = _shared.word(status.get("error_type"))
    if 200 <= reply.status < 300 and (status.get("error") or kind):
        _fal_answers.raise_kind({kind}, _fal_answers.tidy(status.get("error"), values), _fal_answers.facts_of(reply))
        raise BadAnswer("The provider's job both failed and has a result.", **_fal_answers.facts_of(reply))
    return _fal_answers.read(reply, values, n=n, deadline=deadline)


def _state(job: Mapping[str, Any], values: Mapping[str, str], *, deadline: float) -> dict[str, Any] | None:
    """What the queue says of a job, None when it could not be asked just now; BadAnswer when it knows it no more."""
    try:
        reply = _shared.send(
            "GET",
            job["status_url"],
            deadline=min(deadline, time.monotonic() + _ONE_POLL_S),
            max_bytes=_shared.SMALL_ANSWER_BYTES,
            headers=authorization(values),
        )
    except (Unavailable, TimedOut):
        return None
    if reply.status >= 500 or reply.status in (408, 429):
        return None
    found = _shared.json_object(reply)
    if not 200 <= reply.status < 300 or found is None:
        raise BadAnswer("The provider's queue no longer tells about the job.", **_fal_answers.facts_of(reply))
    return found


def _is_front_trouble(reply: http.Reply) -> bool:
    """A result that did not come from the job: its own errors carry a `detail` or an error kind, a proxy's do not."""
    if reply.status in (408, 429):
        return True
    return (
        reply.status >= 500
        and "x-fal-error-type" not in reply.headers
        and "detail" not in (_shared.json_object(reply) or {})
    )


def _result(job: Mapping[str, Any], call: Call, *, deadline: float, cancelling: bool) -> Answer | None:
    """The job's answer once it has one; Cancelled when it ended without one after the queue took our wish."""
    values, n, max_bytes = call.offer.connection.settings, call.fitted.n, _shared.answer_bytes(call)
    try:
        return _ask(job, values, n=n, max_bytes=max_bytes, deadline=deadline)
    except ProviderError as error:
        if not cancelling or error.refused or not _ended_unbilled(error, accepted=True):
            raise
        message = "The job was cancelled before it had a result."
        raise Cancelled(message, http_status=error.http_status, request_id=job.get("request_id")) from error


def _ended_unbilled(error: ProviderError, *, accepted: bool) -> bool:
    """Whether a failure says that a job we cancelled ended without a result; a queue may also forget such a job."""
    return not error.possibly_billed or (accepted and error.http_status == 404)


def _abandon(job: Mapping[str, Any], call: Call) -> Answer:
    """Cancel at the deadline. Unbilled only when the queue then says that the job ended without a result."""
    values, n, max_bytes = call.offer.connection.settings, call.fitted.n, _shared.answer_bytes(call)
    accepted = _cancel(job, values, deadline=call.deadline)
    late = TimedOut("The provider did not answer in time.", request_id=job.get("request_id"))
    try:
        answer = _ask(job, values, n=n, max_bytes=max_bytes, deadline=call.deadline)
    except Blocked:
        raise
    except ProviderError as error:
        if not _ended_unbilled(error, accepted=accepted):
            raise late from error
        raise Unavailable("The provider was not done in time; the job was cancelled.") from error
    if answer is None:
        raise late
    return answer


def _cancel(job: Mapping[str, Any], values: Mapping[str, str], *, deadline: float) -> bool:
    """Whether the queue took the wish to cancel; a job that runs may still finish."""
    try:
        reply = _shared.send(
            "PUT",
            job["cancel_url"],
            deadline=deadline,
            max_bytes=_shared.SMALL_ANSWER_BYTES,
            headers=authorization(values),
        )
    except ProviderError:
        return False
    return 200 <= reply.status < 300
