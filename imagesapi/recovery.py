"""What a dead process left behind: settled from a kept result, asked about upstream, or voided."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
import structlog
from django.db import connection
from django.utils import timezone

from accounts.models import Organization
from core import errors, faults, ids, outages, sql
from imagesapi import (
    admission,
    calling,
    catalog,
    delivery,
    fitting,
    gateway,
    jobs,
    leases,
    pricing,
    providers,
    results,
    store,
)
from imagesapi.admission import Marks, Settlement, Try
from imagesapi.answers import Recipient
from imagesapi.models import Image
from imagesapi.providers.base import ProviderError
from imagesapi.routing import Candidate, Plan
from imagesapi.values import Answer, Fitted, ImageRequest, Offer

log = structlog.get_logger(__name__)

EVERY_S = 15
_ASK_TIMEOUT_S = 30
# A queued job older than this is given up: no picture takes so long.
JOB_MAX_AGE = dt.timedelta(hours=1)
_BATCH = 50
# A kept result may still be on its way to being settled for this long after its request ended.
LEFTOVERS_AFTER = dt.timedelta(minutes=1)

_CLAIM = """
WITH expired AS (
    SELECT id FROM imagesapi_generation WHERE lease_expires_at < now()
    ORDER BY lease_expires_at LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
), claimed AS (
    UPDATE imagesapi_generation g
    SET lease_owner = %(owner)s, lease_expires_at = now() + make_interval(secs => %(life_s)s)
    FROM expired WHERE g.id = expired.id
    RETURNING g.id, g.organization_id, g.status, g.is_async, g.body_hash IS NOT NULL AS is_marked, g.endpoint, g.asked,
        g.simulated, g.created_at
)
SELECT c.*, h.promo_nanos + h.wallet_nanos,
       a.number, a.offer_id, a.provider, a.executed_model, a.sent_at, a.job
FROM claimed c
JOIN billing_hold h ON h.id = c.id
LEFT JOIN LATERAL (
    SELECT * FROM imagesapi_attempt WHERE generation_id = c.id ORDER BY number DESC LIMIT 1
) a ON true
ORDER BY c.id
"""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """One claimed generation with its last attempt."""

    id: uuid.UUID
    organization_id: int
    status: str
    is_async: bool
    is_marked: bool
    endpoint: str
    asked: dict[str, Any]
    simulated: bool
    created_at: dt.datetime
    hold_nanos: int
    # Of its last attempt; an asynchronous request that was taken and not yet sent has none.
    number: int
    offer_id: int
    provider: str
    executed_model: str
    sent_at: dt.datetime
    job: dict[str, Any] | None

    @property
    def keeps_answer(self) -> bool:
        return self.is_async or self.is_marked


@dataclass(slots=True)
class Report:
    """What one sweep did, in generations."""

    settled: int = 0
    voided: int = 0
    waiting: int = 0


def sweep() -> Report:
    """Take every generation whose lease expired and bring it to an end. Safe to run anywhere at any time: each is
    claimed by one sweeper, and closing it is conditional on it being open."""
    report = Report()
    while batch := _claim():
        # Jobs last: asking upstream may take its time, and the others must not wait for it.
        for abandoned in sorted(batch, key=lambda found: found.job is not None):
            try:
                word = _resolve(abandoned)
            except store.StoreError as error:
                log.error("what a generation came to could not be kept; trying again", reason=str(error))
                word = "waiting"
            except Exception as error:  # noqa: BLE001 - one that cannot be resolved must not keep the others waiting
                told = str(abandoned.id)
                outages.tell(log, "a generation could not be recovered; trying again", error, generation=told)
                word = "waiting"
            setattr(report, word, getattr(report, word) + 1)
        if len(batch) < _BATCH:
            break
    _drop_leftovers()
    return report


def _claim() -> list[Abandoned]:
    faults.point("before_claim")
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, {"batch": _BATCH, "owner": leases.owner(), "life_s": leases.life_s()})
        rows = cursor.fetchall()
    sql.give_back()
    faults.point("after_claim")
    return [_read(dict(zip(Abandoned.__slots__, row, strict=True))) for row in rows]


def _read(row: dict[str, Any]) -> Abandoned:
    for name in ("asked", "job"):
        if isinstance(row[name], str):
            row[name] = orjson.loads(row[name])
    if row["number"] is None:
        row |= {"number": 0, "provider": "", "sent_at": row["created_at"]}
    return Abandoned(**row)


def _resolve(abandoned: Abandoned) -> str:
    if abandoned.status == "pending":  # still in the queue, or its job was lost
        jobs.wake(abandoned.id)
        return "waiting"
    document = results.find(abandoned.id)
    if document is not None:
        log.warning("settling from a kept result", generation=ids.public("req", abandoned.id))
        return _settle(delivery.from_document(document))
    if abandoned.job:
        return _ask(abandoned)
    if abandoned.is_async and jobs.put_back(abandoned.id):
        return "waiting"
    return _void(abandoned, "interrupted", "The server was interrupted while it worked on this; nothing was charged.")


def _settle(settlement: Settlement) -> str:
    faults.point("before_recovered_settle")
    resolved = admission.settle(settlement)
    faults.point("after_recovered_settle")
    if resolved is not None:  # else somebody was faster, and what this one kept goes with the leftovers
        results.drop(settlement.generation_id)
    return "settled"


def _void(abandoned: Abandoned, code: str, message: str, error: ProviderError | None = None) -> str:
    faults.point("before_recovered_void")
    admission.fail(
        abandoned.id,
        provider=abandoned.provider,
        attempt=admission.attempt_outcome(error),
        generation_status="upstream_failure",
        error_code=code,
        error_message=message,
    )
    faults.point("after_recovered_void")
    log.warning("voided an interrupted generation", generation=ids.public("req", abandoned.id), code=code)
    return "voided"


def _ask(abandoned: Abandoned) -> str:
    """A queued job outlives us: fetch what it made, leave it while it runs, void it when it failed."""
    offer = catalog.snapshot().offers.get(abandoned.offer_id)
    sql.give_back()
    if offer is None or not offer.connection.configured:
        return _void(abandoned, "interrupted", "The provider of this request is no longer configured.")
    try:
        request = jobs.again(abandoned.asked, abandoned.endpoint)
        fitted = fitting.fit(request, offer)
        faults.point("before_ask")
        answer = _resumed(offer, abandoned.job or {})
        faults.point("after_ask")
        if answer is None:
            if timezone.now() - abandoned.created_at > JOB_MAX_AGE:
                return _void(abandoned, "provider_timeout", "The provider did not finish in time; nothing was charged.")
            return "waiting"
        images = delivery.examine(answer, fitted, request)
    except ProviderError as error:
        return _void(abandoned, error.error_code, "The provider could not deliver; nothing was charged.", error)
    except errors.PixelparError:
        return _void(abandoned, "interrupted", "The request could not be continued; nothing was charged.")
    attempt = Try(candidate=_candidate(abandoned, offer, fitted), number=abandoned.number)
    settlement, _ = gateway.settlement_for(
        gateway.Job(
            id=abandoned.id,
            organization_id=abandoned.organization_id,
            request=request,
            plan=Plan(offer.model, (attempt.candidate,), abandoned.hold_nanos, abandoned.created_at, 0),
            hold_nanos=abandoned.hold_nanos,
            deadline=0,
            recipient=_recipient(abandoned, request),
            marks=Marks(is_async=abandoned.keeps_answer),
            tries=[attempt],
        ),
        attempt,
        answer,
        images,
        sent_at=abandoned.sent_at,
    )
    delivery.keep(settlement, images)
    return _settle(settlement)


def _resumed(offer: Offer, job: dict[str, Any]) -> Answer | None:
    """What a queued job made, or several of one attempt; None while one of them still runs."""
    adapter = providers.load(offer.adapter)
    deadline = time.monotonic() + _ASK_TIMEOUT_S
    if "calls" not in job:
        return adapter.resume(offer, job, deadline)
    answers: list[Answer] = []
    failures: list[ProviderError] = []
    for _, reference in sorted(job["calls"].items(), key=lambda entry: int(entry[0])):
        try:
            answer = adapter.resume(offer, reference, deadline)
        except ProviderError as error:
            failures.append(error)
            continue
        if answer is None:
            return None
        answers.append(answer)
    if not answers:
        raise next((error for error in failures if error.possibly_billed), failures[0])
    return calling.merged(answers)


def _candidate(abandoned: Abandoned, offer: Offer, fitted: Fitted) -> Candidate:
    return Candidate(
        offer=offer,
        fitted=fitted,
        body=providers.load(offer.adapter).build(fitted, offer),
        worst_case=pricing.worst_case(offer, fitted, abandoned.sent_at),
    )


def _recipient(abandoned: Abandoned, request: ImageRequest) -> Recipient:
    organization = Organization.objects.get(pk=abandoned.organization_id)
    chosen = request.response_format or organization.default_response_format
    return Recipient(chosen, organization.link_life_minutes)


def _drop_leftovers() -> None:
    """Results whose generation has ended: the crash came between settling and forgetting, or the claim was lost."""
    waiting = list(results.waiting())
    results.remove_empty()
    if not waiting:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id FROM imagesapi_generation "
            "WHERE id = ANY(%s) AND finished_at < now() - make_interval(secs => %s)",
            [waiting, LEFTOVERS_AFTER.total_seconds()],
        )
        ended = cursor.fetchall()
    sql.give_back()
    for (generation_id,) in ended:
        document = results.find(generation_id)
        paths = {image["path"] for image in document["images"]} if document is not None else set()
        for path in paths - set(Image.objects.filter(generation=generation_id).values_list("path", flat=True)):
            store.delete(path)
        results.drop(generation_id)
    sql.give_back()
