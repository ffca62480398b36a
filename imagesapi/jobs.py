"""Asynchronous requests: admitted like any other, done by a worker, found again by their id."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

import orjson
import structlog
from django.conf import settings
from django.db import transaction
from procrastinate.contrib.django import app

from accounts import keys
from accounts.callers import Caller
from core import errors, faults, ids, sql
from imagesapi import admission, failures, gateway, inputs, leases, store, uploads
from imagesapi.admission import Marks
from imagesapi.answers import Recipient
from imagesapi.inputs import Context
from imagesapi.values import ImageRequest, InputImage

log = structlog.get_logger(__name__)

# A request that was interrupted is sent again this often: each time the provider may have been paid for nothing.
TRIES_MAX = 3
_PICTURES = ("image", "mask", "markup")

_TAKE = """
WITH taken AS (
    UPDATE imagesapi_generation SET status = 'processing', lease_owner = %(owner)s,
        lease_expires_at = now() + make_interval(secs => %(life_s)s)
    WHERE id = %(id)s AND status = 'pending'
    RETURNING id, endpoint, asked, inputs, api_key_id, organization_id, simulated
)
SELECT t.endpoint, t.asked::text, t.inputs::text, t.api_key_id, t.organization_id, t.simulated,
    h.promo_nanos + h.wallet_nanos,
    coalesce((SELECT max(number) FROM imagesapi_attempt a WHERE a.generation_id = t.id), 0)
FROM taken t JOIN billing_hold h ON h.id = t.id
"""

_PUT_BACK = """
WITH again AS (
    UPDATE imagesapi_generation SET status = 'pending', lease_owner = NULL,
        lease_expires_at = now() + make_interval(secs => %(life_s)s)
    WHERE id = %(id)s AND status = 'processing' AND is_async AND cancel_requested_at IS NULL
      AND (SELECT count(*) FROM imagesapi_attempt WHERE generation_id = %(id)s AND status = ANY('{sent,unknown}'))
          < %(tries_max)s
    RETURNING id
), closed AS (
    UPDATE imagesapi_attempt SET status = 'unknown', finished_at = now(), error_code = 'interrupted'
    FROM again WHERE generation_id = again.id AND imagesapi_attempt.status = 'sent'
)
SELECT id FROM again
"""


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request that this worker has taken, in the order of _TAKE's columns."""

    endpoint: str
    asked: dict[str, Any]
    inputs: list[dict[str, Any]]
    key_id: int | None
    organization_id: int
    simulated: bool
    hold_nanos: int
    earlier_tries: int


def enqueue(caller: Caller, request: ImageRequest, *, generation_id: uuid.UUID, marks: Marks) -> None:
    """Hold, log and queue in one transaction: what was accepted is done. Raises what gateway.admitted raises."""
    marks = replace(marks, inputs=_keep_inputs(request))
    try:
        with transaction.atomic():
            gateway.admitted(generation_id, caller, request, marks=marks)
            run.defer(generation_id=str(generation_id))
    except BaseException:
        _forget_inputs(marks.inputs or [])
        raise
    finally:
        sql.give_back()


def put_back(generation_id: uuid.UUID) -> bool:
    """Queue an interrupted request again, its open attempt unknown; False when it has been tried often enough."""
    with transaction.atomic():
        names = {"id": generation_id, "life_s": leases.life_s(), "tries_max": TRIES_MAX}
        if sql.row(_PUT_BACK, names) is None:
            return False
        run.defer(generation_id=str(generation_id))
    log.warning("an interrupted request is done again", generation=ids.public("req", generation_id))
    return True


def wake(generation_id: uuid.UUID) -> None:
    """Queue a request that still waits and whose job may be lost; a second job for it finds nothing to do."""
    run.defer(generation_id=str(generation_id))
    sql.give_back()


@app.task(name="imagesapi.run", queue="images", pass_context=False)
def run(generation_id: str) -> None:
    """Do one asynchronous request."""
    number = uuid.UUID(generation_id)
    try:
        store.require_room()
    except errors.StorageUnavailable:  # it goes on waiting, and recovery wakes it again
        log.warning("an asynchronous request waits for room in the store", request_id=ids.public("req", number))
        return
    faults.point("before_take")
    with leases.working(number):
        taken = _take(number)
        if taken is not None:
            structlog.contextvars.bind_contextvars(request_id=ids.public("req", number))
            try:
                _work(number, taken)
            except errors.PixelparError as error:
                log.info("an asynchronous request ended without images", code=error.error_code)
            finally:
                structlog.contextvars.clear_contextvars()
    _announce(number)
    sql.give_back()


def _take(number: uuid.UUID) -> _Taken | None:
    row = sql.row(_TAKE, {"id": number, "owner": leases.owner(), "life_s": leases.life_s()})
    faults.point("after_take")
    if row is None:
        return None
    endpoint, asked, kept, *rest = row
    return _Taken(endpoint, orjson.loads(asked), orjson.loads(kept) if kept else [], *rest)


def _work(number: uuid.UUID, taken: _Taken) -> None:
    """The story of gateway.create from the hold on, which was taken when the request came in."""
    try:
        caller = keys.on_behalf(taken.key_id, organization_id=taken.organization_id)
        request = again(taken.asked, taken.endpoint, kept=taken.inputs)
        found = gateway.plan(caller, request)
        affordable = tuple(one for one in found.candidates if one.hold_nanos <= taken.hold_nanos)
        if not affordable or found.simulated != taken.simulated:
            raise errors.Unpriced("Prices changed while the request waited, and none of them is covered by its hold.")
        job = gateway.Job(
            id=number,
            organization_id=taken.organization_id,
            request=request,
            plan=replace(found, candidates=affordable),
            hold_nanos=taken.hold_nanos,
            deadline=time.monotonic() + settings.PROVIDER_TIMEOUT_S,
            recipient=Recipient.of(caller, request),
            marks=Marks(is_async=True),
            goes_on_after_refusal=caller.rules.on_refusal == "next",
            earlier_tries=taken.earlier_tries,
        )
    except errors.PixelparError as error:
        _refuse(number, error)
        _forget_inputs(taken.inputs)
        raise
    try:
        with gateway.closed_whatever_happens(job):
            if not admission.first_attempt(number, candidate=job.plan.first, number=taken.earlier_tries + 1):
                job.is_resolved = True
                raise failures.taken_over()
            faults.point("after_first_attempt")
            gateway.work(job)
    finally:
        if job.is_resolved:
            _forget_inputs(taken.inputs)


def _refuse(number: uuid.UUID, error: errors.PixelparError) -> None:
    """What was possible when the request came in and is not any more: nothing was sent, nothing is charged."""
    admission.fail(
        number,
        provider="",
        attempt=admission.attempt_outcome(None),
        generation_status="rejected",
        error_code=error.error_code,
        error_message=error.message,
    )


def _announce(number: uuid.UUID) -> None:
    from imagesapi import webhooks  # noqa: PLC0415 - it renders requests, and they are rendered with what we know

    webhooks.announce(number)


# The request, from what was kept of it


def again(asked: dict[str, Any], endpoint: str, *, kept: list[dict[str, Any]] | None = None) -> ImageRequest:
    """A request as it was asked, from the log; its pictures from the store where they were kept, else their facts."""
    read = {inputs.EDIT: inputs.edit, inputs.VARIATION: inputs.variation}.get(endpoint, inputs.generation)
    pictures = {name: asked[name] for name in _PICTURES if name in asked}
    fields = {name: value for name, value in asked.items() if name not in pictures}
    request = read(fields, Context(default_model=str(asked.get("model", settings.DEFAULT_MODEL))))
    if not pictures:
        return request
    by_digest = {entry["sha256"]: entry["path"] for entry in kept or []}
    images = tuple(_picture(facts, by_digest) for facts in pictures.get("image", []))
    mask, markup = (_picture(pictures[name], by_digest) if name in pictures else None for name in ("mask", "markup"))
    return uploads.with_pictures(request, images, mask, markup)


def _picture(facts: dict[str, Any], paths: dict[str, str]) -> InputImage:
    path = paths.get(facts["sha256"], "")
    data = b""
    if path:
        with store.open_image(path) as handle:
            data = handle.read()
    return InputImage(
        content_type=facts["content_type"],
        width_px=facts["width"],
        height_px=facts["height"],
        sha256=facts["sha256"],
        data=data,
        path=path,
    )


def _keep_inputs(request: ImageRequest) -> list[dict[str, Any]]:
    """Put the pictures where the worker finds them. Raises StorageUnavailable when they cannot be stored."""
    kept: list[dict[str, Any]] = []
    try:
        for image in (*request.images, request.mask, request.markup):
            if image is not None and image.sha256 not in {entry["sha256"] for entry in kept}:
                path = store.save(ids.new(), image.data, extension=image.content_type.removeprefix("image/"))
                kept.append({"sha256": image.sha256, "path": path})
    except store.StoreError as error:
        _forget_inputs(kept)
        log.error("input pictures could not be kept", reason=str(error))
        raise failures.inputs_are_not_stored() from error
    return kept


def _forget_inputs(kept: list[dict[str, Any]]) -> None:
    for entry in kept:
        store.delete(entry["path"])
