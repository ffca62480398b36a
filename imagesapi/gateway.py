"""The story of one request for images: plan, hold, call, keep, settle; with failover while that is safe.

No database connection is held while a provider works, and whatever is interrupted leaves something recovery can finish.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from accounts import keys
from accounts.callers import Caller
from core import errors, faults, ids, load, memory, sql
from imagesapi import (
    admission,
    catalog,
    delivery,
    failures,
    leases,
    pricing,
    providers,
    receipts,
    results,
    routing,
    store,
)
from imagesapi.admission import Settlement, Try
from imagesapi.delivery import Kept
from imagesapi.providers.base import BadAnswer, Call, ProviderError
from imagesapi.routing import Candidate, Plan
from imagesapi.values import Answer, ImageRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A completed request: what was delivered, by whom, and what it cost."""

    generation_id: uuid.UUID
    created_at: dt.datetime
    candidate: Candidate
    answer: Answer
    images: tuple[Kept, ...]
    tries: tuple[Try, ...]
    charged_nanos: int


@dataclass(slots=True)
class _Job:
    """One admitted generation while this process works on it."""

    id: uuid.UUID
    request: ImageRequest
    plan: Plan
    deadline: float
    tries: list[Try] = field(default_factory=list)
    result_is_kept: bool = False
    is_resolved: bool = False


def plan(caller: Caller, request: ImageRequest) -> Plan:
    """The candidates and their prices, before anything is held: what a dry run shows.

    Raises what routing.plan raises, and MaxCostExceeded.
    """
    snapshot = catalog.snapshot(caller.catalogue_version)
    sql.give_back()
    found = routing.plan(request, snapshot, at=timezone.now())
    if request.max_cost_nanos is not None and found.hold_nanos > request.max_cost_nanos:
        raise failures.above_max_cost(found.hold_nanos, request.max_cost_nanos)
    return found


def create(caller: Caller, request: ImageRequest, *, generation_id: uuid.UUID | None = None) -> Outcome:
    """Make the images and charge what they cost. `caller` may be some seconds old: the hold looks at its key again.

    Raises a PixelparError when there is nothing to deliver; then nothing is charged.
    """
    generation_id = generation_id or ids.new()
    with load.slot(), memory.scope(), leases.working(generation_id):
        faults.point("before_hold")
        with load.turn():
            found = _admitted(generation_id, caller, request)
        job = _Job(
            id=generation_id,
            request=request,
            plan=found,
            deadline=time.monotonic() + settings.PROVIDER_TIMEOUT_S,
        )
        with _closed_whatever_happens(job):
            faults.point("after_hold")
            return _work(job)


def _admitted(generation_id: uuid.UUID, caller: Caller, request: ImageRequest) -> Plan:
    """Plan and hold; when the key or the catalogue changed meanwhile, once more with what they are now."""
    try:
        found = plan(caller, request)
        admission.admit(generation_id, caller=caller, request=request, plan=found)
        return found
    except (admission.Stale, errors.PixelparError) as refusal:
        fresh = keys.look_again(caller)
        if isinstance(refusal, errors.PixelparError) and fresh.catalogue_version == caller.catalogue_version:
            raise
    found = plan(fresh, request)
    try:
        admission.admit(generation_id, caller=fresh, request=request, plan=found)
    except admission.Stale as error:
        raise errors.Overloaded("The catalogue is being changed just now. Try again.", retry_after_s=1) from error
    return found


def _work(job: _Job) -> Outcome:
    for candidate in job.plan.candidates:
        if job.tries:
            _go_on(job, candidate)
        attempt = Try(candidate=candidate, number=len(job.tries) + 1)
        job.tries.append(attempt)
        sent_at = timezone.now()
        try:
            answer, images = _call(job, attempt)
        except ProviderError as error:
            _note_failure(attempt, error)
            if not _may_continue(error, job.deadline):
                break
            continue
        with load.turn():
            return _settle(job, attempt, answer, images, sent_at)
    ending = failures.ending(job.tries)
    raise _close(job, ending.error, status=ending.status)


def _go_on(job: _Job, candidate: Candidate) -> None:
    faults.point("before_next_attempt")
    if not admission.next_attempt(job.id, failed=job.tries[-1], candidate=candidate):
        job.is_resolved = True
        raise failures.taken_over()
    faults.point("after_next_attempt")


def _remember(job: _Job, attempt: Try, reference: dict[str, Any]) -> None:
    faults.point("before_remember")
    admission.remember(job.id, number=attempt.number, job=reference)
    faults.point("after_remember")


def _call(job: _Job, attempt: Try) -> tuple[Answer, tuple[Kept, ...]]:
    """One provider call, and its pictures looked at: garbage in a success is the provider's failure."""
    offer, fitted = attempt.candidate.offer, attempt.candidate.fitted
    started = time.monotonic()
    call = Call(
        offer=offer,
        fitted=fitted,
        body=attempt.candidate.body,
        deadline=_deadline(job, attempt),
        generation_id=ids.public("req", job.id),
        remember=lambda reference: _remember(job, attempt, reference),
    )
    try:
        faults.point("before_call")
        answer = providers.load(offer.adapter).run(call)
        faults.point("after_call")
        return answer, delivery.examine(answer, fitted, job.request)
    except (ProviderError, DatabaseError):
        raise
    except Exception as error:  # an adapter's bug must not become a lost hold or a 500
        log.exception("an adapter failed in a way it should not", adapter=offer.adapter)
        raise BadAnswer(f"{offer.provider_name}'s answer could not be understood") from error
    finally:
        attempt.duration_ms = round((time.monotonic() - started) * 1000)


def _deadline(job: _Job, attempt: Try) -> float:
    """When this attempt gives up: where another may follow a timeout, each gets its share of the time that is left."""
    if not settings.FAILOVER_AFTER_TIMEOUT:
        return job.deadline
    now = time.monotonic()
    return now + (job.deadline - now) / (len(job.plan.candidates) - attempt.number + 1)


def _note_failure(attempt: Try, error: ProviderError) -> None:
    attempt.error = error
    attempt.status = admission.attempt_outcome(error)["status"]
    log.warning(
        "attempt failed",
        provider=attempt.candidate.offer.provider,
        status=attempt.status,
        code=error.error_code,
        http_status=error.http_status,
        duration_ms=attempt.duration_ms,
    )


def _may_continue(error: ProviderError, deadline: float) -> bool:
    if time.monotonic() >= deadline:
        return False
    return error.may_fail_over or (error.possibly_billed and settings.FAILOVER_AFTER_TIMEOUT)


def _settle(job: _Job, attempt: Try, answer: Answer, images: tuple[Kept, ...], sent_at: dt.datetime) -> Outcome:
    """Price, keep the bytes, keep the result, settle: in this order a crash anywhere costs nobody twice."""
    settlement = settlement_for(
        job.id, attempt, job.request, answer, images, sent_at=sent_at, hold_nanos=job.plan.hold_nanos
    )
    try:
        faults.point("before_images")
        keep(settlement, images)
        job.result_is_kept = True
    except store.StoreError as error:
        log.exception("images could not be kept; the platform absorbs their cost")
        attempt.status = "succeeded"
        raise _close(
            job,
            failures.store_is_down(),
            status="upstream_failure",
            absorbed_nanos=0 if settlement.simulated else settlement.cost_nanos,
        ) from error
    faults.point("before_settle")
    resolved = admission.settle(settlement)
    job.is_resolved = True
    faults.point("after_settle")
    if resolved is None:
        raise failures.taken_over()
    results.drop(job.id)
    faults.point("after_drop")
    _, absorbed_nanos = resolved
    if absorbed_nanos:
        log.error("a cost above its hold was absorbed", absorbed_nanos=absorbed_nanos, provider=settlement.provider)
    attempt.status = "succeeded"
    return Outcome(
        generation_id=job.id,
        created_at=timezone.now(),
        candidate=attempt.candidate,
        answer=answer,
        images=images,
        tries=tuple(job.tries),
        charged_nanos=settlement.charged_nanos,
    )


def settlement_for(
    generation_id: uuid.UUID,
    attempt: Try,
    request: ImageRequest,
    answer: Answer,
    images: tuple[Kept, ...],
    *,
    sent_at: dt.datetime,
    hold_nanos: int,
) -> Settlement:
    """What the delivered pictures cost, at the prices valid when the attempt was sent, with the receipt."""
    candidate = attempt.candidate
    offer, fitted = candidate.offer, candidate.fitted
    cost = pricing.actual(offer, fitted, answer, sent_at, [image.pixels for image in images])
    charged_nanos = min(cost.total_nanos, hold_nanos)
    return Settlement(
        generation_id=generation_id,
        number=attempt.number,
        provider=offer.provider,
        provider_request_id=answer.request_id or "",
        cost_nanos=cost.total_nanos,
        charged_nanos=charged_nanos,
        simulated=offer.simulated,
        sent=delivery.shortened(candidate.body),
        adjustments=[change.as_dict() for change in fitted.adjustments],
        receipt=receipts.compose(request, candidate, answer, cost, charged_nanos=charged_nanos),
    )


def keep(settlement: Settlement, images: tuple[Kept, ...]) -> None:
    """Bytes first, then what they come to: whoever finds the result finds its images. Raises store.StoreError."""
    try:
        for image in images:
            delivery.describe(image)
            image.path = store.save(image.id, image.data, extension=image.extension)
            settlement.images.append(image.as_row())
            if image.b64 is not None:
                image.data = b""  # the answer hands the text through; a thousand of these at once add up
        faults.point("after_images")
        results.keep(settlement.generation_id, delivery.as_document(settlement))
    except store.StoreError:
        for row in settlement.images:
            with contextlib.suppress(OSError):
                store.delete(row["path"])
        raise
    faults.point("after_result")


def _close(job: _Job, error: errors.PixelparError, *, status: str, absorbed_nanos: int = 0) -> errors.PixelparError:
    """Void the hold and end the generation; returns the error to raise."""
    faults.point("before_void")
    last = job.tries[-1]
    closed = admission.fail(
        job.id,
        provider=last.candidate.offer.provider,
        attempt=last.outcome(),
        generation_status=status,
        error_code=error.error_code,
        error_message=error.message,
        absorbed_nanos=absorbed_nanos,
    )
    job.is_resolved = True
    faults.point("after_void")
    return error if closed else failures.taken_over()


@contextlib.contextmanager
def _closed_whatever_happens(job: _Job) -> Iterator[None]:
    """No exception of any kind leaves a hold open: what was kept is left to recovery, the rest is voided here."""
    try:
        yield
    except BaseException as error:
        if job.result_is_kept:
            results.leave(job.id)
        if job.is_resolved and isinstance(error, errors.PixelparError):
            raise
        log.exception("a request broke off")
        if job.result_is_kept:
            raise failures.settlement_pending() from error
        if not job.tries:
            job.tries.append(Try(candidate=job.plan.first, number=1))
        last = job.tries[-1]
        if last.status in ("sent", "succeeded"):  # what the provider bills for it is for reconciliation to find
            last.status = "unknown"
        failure = errors.InternalError("Something went wrong on our side, and nothing was charged.")
        with contextlib.suppress(DatabaseError):  # then recovery voids it when the lease ends
            _close(job, failure, status="upstream_failure")
        if isinstance(error, Exception):
            raise failure from error
        raise
