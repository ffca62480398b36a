"""The story of one request for images: plan, hold, call, keep, settle; with failover while that is safe.

No database connection is held while a provider works, and whatever is interrupted leaves something recovery can finish.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from accounts import keys, scopes
from accounts.callers import Caller
from billing import ledger
from core import errors, faults, ids, load, memory, outages, sql
from core.group_commit import Locks
from imagesapi import (
    admission,
    answers,
    calling,
    cancelling,
    catalog,
    delivery,
    failures,
    key_rules,
    leases,
    own_keys,
    pricing,
    receipts,
    results,
    retry_budget,
    routing,
    store,
)
from imagesapi.admission import NO_MARKS, Marks, Settlement, Try
from imagesapi.answers import Recipient
from imagesapi.delivery import Kept
from imagesapi.providers.base import Blocked, ProviderError
from imagesapi.routing import Candidate, Plan
from imagesapi.values import Answer, ImageRequest, Partial

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Outcome:
    """A completed request: the answer, by whom, and what it cost."""

    generation_id: uuid.UUID
    candidate: Candidate
    document: dict[str, Any]
    charged_nanos: int
    verdict: ledger.Verdict | None = None


@dataclass(slots=True)
class Job:
    """One admitted generation while this process works on it."""

    id: uuid.UUID
    organization_id: int
    request: ImageRequest
    plan: Plan
    hold_nanos: int
    deadline: float
    recipient: Recipient
    marks: Marks = NO_MARKS
    on_partial: Callable[[Partial], None] | None = None
    goes_on_after_refusal: bool = False
    tries: list[Try] = field(default_factory=list)
    # Attempts that were made before by a process that is gone.
    earlier_tries: int = 0
    result_is_kept: bool = False
    is_resolved: bool = False

    @property
    def locks(self) -> Locks:
        return ledger.locks(self.organization_id, hold_nanos=self.hold_nanos)


def plan(caller: Caller, request: ImageRequest) -> Plan:
    """The candidates and their prices, before anything is held: what a dry run shows.

    Raises what routing.plan_for raises, what key_rules.allowed raises, and MaxCostExceeded.
    """
    snapshot = catalog.snapshot(caller.catalogue_version)
    sql.give_back()
    found = routing.plan_for(caller, request, snapshot, at=timezone.now())
    if caller.rules.restricts:
        candidates = key_rules.allowed(caller, found.candidates, aliases=snapshot.aliases)
        hold_nanos = max(candidate.hold_nanos for candidate in candidates)
        found = replace(found, candidates=candidates, hold_nanos=hold_nanos)
    if request.max_cost_nanos is not None and found.hold_nanos > request.max_cost_nanos:
        raise failures.above_max_cost(found.hold_nanos, request.max_cost_nanos)
    return found


def create(
    caller: Caller,
    request: ImageRequest,
    *,
    generation_id: uuid.UUID | None = None,
    marks: Marks = NO_MARKS,
    on_partial: Callable[[Partial], None] | None = None,
) -> Outcome:
    """Make the images and charge what they cost. `caller` may be some seconds old: the hold looks at its key again.

    `on_partial` gets unfinished pictures while a provider streams. Raises a PixelparError when there is nothing to
    deliver; then nothing is charged. Raises a database error when the idempotency key is taken (admission.is_taken),
    and one that is an outage when the hold could not be written.
    """
    generation_id = generation_id or ids.new()
    store.require_room()
    with load.slot(), memory.scope(), leases.working(generation_id):
        faults.point("before_hold")
        found, verdict = admitted(generation_id, caller, request, marks=marks)
        job = Job(
            id=generation_id,
            organization_id=caller.organization_id,
            request=request,
            plan=found,
            hold_nanos=found.hold_nanos,
            deadline=time.monotonic() + settings.PROVIDER_TIMEOUT_S,
            recipient=Recipient.of(caller, request),
            marks=marks,
            on_partial=on_partial,
            goes_on_after_refusal=caller.rules.on_refusal == "next",
        )
        with closed_whatever_happens(job):
            faults.point("after_hold")
            outcome = work(job)
        outcome.verdict = verdict
        return outcome


def admitted(
    generation_id: uuid.UUID, caller: Caller, request: ImageRequest, *, marks: Marks
) -> tuple[Plan, ledger.Verdict]:
    """Plan and hold; when the key or the catalogue changed meanwhile, once more with what they are now."""
    try:
        return _held(generation_id, caller, request, marks)
    except (admission.Stale, errors.PixelparError) as refusal:
        fresh = keys.look_again(caller, scope=scopes.IMAGES)
        if isinstance(refusal, errors.PixelparError) and _reads_the_same(caller, fresh):
            raise
    try:
        return _held(generation_id, fresh, request, marks)
    except admission.Stale as error:
        raise errors.Overloaded("The catalogue is being changed just now. Try again.", retry_after_s=1) from error


def _held(generation_id: uuid.UUID, caller: Caller, request: ImageRequest, marks: Marks) -> tuple[Plan, ledger.Verdict]:
    with load.turn():
        found = routing.claim(plan(caller, request))
    try:
        return found, admission.admit(generation_id, caller=caller, request=request, plan=found, marks=marks)
    except BaseException:
        routing.release(found)
        raise


def _reads_the_same(caller: Caller, fresh: Caller) -> bool:
    """Whether a refusal would come again: nothing that it can have been decided by has changed."""
    return (fresh.key_version, fresh.catalogue_version, own_keys.version(fresh)) == (
        caller.key_version,
        caller.catalogue_version,
        own_keys.version(caller),
    )


def work(job: Job) -> Outcome:
    """Try the candidates in their order until one delivers; its first attempt is written already."""
    retry_budget.deposit()
    for planned in job.plan.candidates:
        candidate = planned
        if job.tries:
            if not (routing.may_try(planned) and retry_budget.withdraw()):
                continue
            candidate = _at_todays_prices(planned)
            _go_on(job, candidate)
        attempt = Try(candidate=candidate, number=job.earlier_tries + len(job.tries) + 1)
        job.tries.append(attempt)
        sent_at = timezone.now()
        try:
            answer, images = calling.run(attempt, _surroundings(job, attempt))
        except ProviderError as error:
            _note_failure(attempt, error)
            if not _may_continue(error, job):
                break
            continue
        outcome = _settle(job, attempt, answer, images, sent_at)
        routing.note(candidate, None)
        return outcome
    ending = failures.ending(job.tries)
    told = close(job, ending.error, status=ending.status)
    routing.note(job.tries[-1].candidate, job.tries[-1].error)
    raise told


def _at_todays_prices(candidate: Candidate) -> Candidate:
    """A later attempt is charged by the prices valid when it is sent, also those that came since the hold."""
    fresh = catalog.snapshot().offers.get(candidate.offer.id)
    sql.give_back()
    if fresh is None or fresh.prices == candidate.offer.prices:
        return candidate
    return replace(candidate, offer=replace(candidate.offer, prices=fresh.prices))


def _go_on(job: Job, candidate: Candidate) -> None:
    faults.point("before_next_attempt")
    if not admission.next_attempt(job.id, failed=job.tries[-1], candidate=candidate):
        job.is_resolved = True
        raise failures.taken_over()
    routing.note(job.tries[-1].candidate, job.tries[-1].error)
    faults.point("after_next_attempt")


def _remember(job: Job, attempt: Try, call: int | None, reference: dict[str, Any]) -> None:
    faults.point("before_remember")
    admission.remember(job.id, number=attempt.number, call=call, job=reference)
    faults.point("after_remember")


def _surroundings(job: Job, attempt: Try) -> calling.Surroundings:
    return calling.Surroundings(
        request=job.request,
        generation_id=ids.public("req", job.id),
        deadline=_deadline(job, attempt),
        remember=lambda call, reference: _remember(job, attempt, call, reference),
        on_partial=job.on_partial,
        cancelled=lambda: cancelling.is_wished(job.id),
    )


def _deadline(job: Job, attempt: Try) -> float:
    """When this attempt gives up: where another may follow a timeout, each gets its share of the time that is left."""
    if not settings.FAILOVER_AFTER_TIMEOUT:
        return job.deadline
    now = time.monotonic()
    place = attempt.number - job.earlier_tries
    return now + (job.deadline - now) / (len(job.plan.candidates) - place + 1)


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


def _may_continue(error: ProviderError, job: Job) -> bool:
    """Whether another provider may be asked: what was surely not billed, what the operator allows after a timeout, and
    a refusal of content only where the caller's key says so."""
    if time.monotonic() >= job.deadline:
        return False
    if isinstance(error, Blocked):
        return job.goes_on_after_refusal
    return error.may_fail_over or (error.possibly_billed and bool(settings.FAILOVER_AFTER_TIMEOUT))


def _settle(job: Job, attempt: Try, answer: Answer, images: tuple[Kept, ...], sent_at: dt.datetime) -> Outcome:
    """Price, keep the bytes, keep the result, settle: in this order a crash anywhere costs nobody twice."""
    with load.turn():
        settlement, document = settlement_for(job, attempt, answer, images, sent_at=sent_at)
    try:
        faults.point("before_images")
        delivery.keep(settlement, images)
        job.result_is_kept = True
    except store.StoreError as error:
        log.error("images could not be kept; the platform absorbs their cost", reason=str(error))
        raise close(
            job,
            failures.store_is_down(),
            status="upstream_failure",
            absorbed_nanos=0 if settlement.simulated else settlement.cost_nanos,
        ) from error
    faults.point("before_settle")
    resolved = admission.settle(settlement, locks=job.locks)
    job.is_resolved = True
    faults.point("after_settle")
    if resolved is None:
        raise failures.taken_over()
    results.drop(job.id)
    faults.point("after_drop")
    _, absorbed_nanos = resolved
    if absorbed_nanos:
        log.error("a cost above its hold was absorbed", absorbed_nanos=absorbed_nanos, provider=settlement.provider)
    return Outcome(
        generation_id=job.id,
        candidate=attempt.candidate,
        document=answers.with_pictures(document, images),
        charged_nanos=settlement.charged_nanos,
    )


def settlement_for(
    job: Job, attempt: Try, answer: Answer, images: tuple[Kept, ...], *, sent_at: dt.datetime
) -> tuple[Settlement, dict[str, Any]]:
    """What the delivered pictures cost, at the prices valid when the attempt was sent, with receipt and answer."""
    candidate = attempt.candidate
    offer, fitted = candidate.offer, candidate.fitted
    cost = pricing.actual(offer, fitted, answer, sent_at, [image.pixels for image in images])
    charged_nanos = 0 if candidate.own_key else min(cost.total_nanos, job.hold_nanos)
    attempt.status = "succeeded"
    document = answers.compose(
        job.id,
        created_at=timezone.now(),
        answer=answer,
        images=images,
        tries=job.tries,
        charged_nanos=charged_nanos,
        recipient=job.recipient,
    )
    written = answers.to_keep(document)
    settlement = Settlement(
        generation_id=job.id,
        number=attempt.number,
        provider=offer.provider,
        provider_request_id=answer.request_id or "",
        cost_nanos=0 if candidate.own_key else cost.total_nanos,
        charged_nanos=charged_nanos,
        simulated=offer.simulated,
        sent=delivery.sent(candidate.body, fitted),
        adjustments=[change.as_dict() for change in fitted.adjustments],
        receipt=receipts.compose(job.request, candidate, answer, cost, charged_nanos=charged_nanos),
        parts=attempt.parts,
        answer=written if job.marks.keeps_answer else None,
        response_size_bytes=answers.size_bytes(written, document, images),
    )
    return settlement, document


def close(job: Job, error: errors.PixelparError, *, status: str, absorbed_nanos: int = 0) -> errors.PixelparError:
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
        locks=job.locks,
    )
    job.is_resolved = True
    faults.point("after_void")
    return error if closed else failures.taken_over()


@contextlib.contextmanager
def closed_whatever_happens(job: Job) -> Iterator[None]:
    """No exception of any kind leaves a hold open: what was kept is left to recovery, the rest is voided here."""
    try:
        yield
    except BaseException as error:
        if job.result_is_kept:
            results.leave(job.id)
        if job.is_resolved and isinstance(error, errors.PixelparError):
            raise
        outages.tell(log, "a request broke off", error)
        if job.result_is_kept:
            raise failures.settlement_pending() from error
        if not job.tries:
            job.tries.append(Try(candidate=job.plan.first, number=1))
        last = job.tries[-1]
        if last.status in ("sent", "succeeded"):  # what the provider bills for it is for reconciliation to find
            last.status = "unknown"
        failure = failures.database_is_down() if outages.is_outage(error) else failures.broke_off()
        with contextlib.suppress(DatabaseError):  # then recovery voids it when the lease ends
            close(job, failure, status="upstream_failure")
        if isinstance(error, Exception):
            raise failure from error
        raise
