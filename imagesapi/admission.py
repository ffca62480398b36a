"""The statements around a provider call, each one round trip and one commit: admit, next attempt, settle, fail.

The ledger's functions are called inside them, so money and the log of what it was for can never disagree.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.db import DatabaseError, IntegrityError

from accounts import keys
from accounts.callers import Caller
from billing import budgets, ledger
from core import sql
from core.group_commit import Locks
from imagesapi import catalog, leases, own_keys
from imagesapi.providers.base import ProviderError
from imagesapi.routing import Candidate, Plan
from imagesapi.values import ImageRequest

_ATTEMPT_COLUMNS = "(generation_id, number, offer_id, provider, executed_model, status, worst_case_nanos, own_key)"
_ATTEMPT_VALUES = (
    "%(number)s::smallint, %(offer_id)s, %(attempt_provider)s, %(executed_model)s, 'sent', %(worst_case_nanos)s, "
    "%(own_key)s"
)

_HOLD_AND_LOG = f"""
WITH held AS MATERIALIZED (
    -- The key, the catalogue and the organization's own provider keys may have changed since they were read; then there
    -- is no row and nothing happens.
    SELECT hold.* FROM (
        SELECT 1 WHERE {keys.STILL_VALID} AND {catalog.STILL_CURRENT} AND {own_keys.STILL_CURRENT}
    ) unchanged, LATERAL {ledger.HOLD} AS hold
), generation AS (
    INSERT INTO imagesapi_generation (id, organization_id, api_key_id, endpoint, model, status, asked, metadata, "user",
        simulated, request_size_bytes, idempotency_key, body_hash, joined_by_retry, inputs, is_async, lease_owner,
        lease_expires_at)
    SELECT %(id)s, %(organization_id)s, %(key_id)s, %(endpoint)s, %(model)s, %(status)s, %(asked)s::jsonb,
        %(metadata)s::jsonb, %(user)s, %(promo_only)s, %(request_size_bytes)s, %(idempotency_key)s, %(body_hash)s,
        %(retry_count)s::smallint, %(inputs)s::jsonb, %(is_async)s, %(lease_owner)s,
        now() + make_interval(secs => %(lease_s)s)
    FROM held WHERE verdict = 'held' RETURNING id
)"""  # noqa: S608 - constants, see billing.ledger

# In all of them an attempt is looked for by the parameter, not by the generation's row: joined to a row, the server may
# choose to read the whole table, and keeps to that for as long as the connection lives.
# A request that is worked on at once brings its first attempt along; one for the worker has none until it is sent.
_ADMIT = f"""{_HOLD_AND_LOG}, attempt AS (
    INSERT INTO imagesapi_attempt {_ATTEMPT_COLUMNS} SELECT id, {_ATTEMPT_VALUES} FROM generation
)
SELECT held.* FROM held
"""  # noqa: S608 - constants, see billing.ledger
_ADMIT_PENDING = f"{_HOLD_AND_LOG} SELECT held.* FROM held"  # noqa: S608 - constants, see billing.ledger

_FIRST_ATTEMPT = f"""
INSERT INTO imagesapi_attempt {_ATTEMPT_COLUMNS}
SELECT g.id, {_ATTEMPT_VALUES} FROM imagesapi_generation g
WHERE g.id = %(id)s AND g.status = 'processing' AND g.lease_owner = %(lease_owner)s RETURNING number
"""  # noqa: S608 - constants, see billing.ledger

_NEXT_ATTEMPT = f"""
WITH generation AS (
    SELECT id FROM imagesapi_generation
    WHERE id = %(id)s AND status = 'processing' AND lease_owner = %(lease_owner)s FOR NO KEY UPDATE
), closed AS (
    UPDATE imagesapi_attempt SET status = %(status)s, finished_at = now(), http_status = %(http_status)s,
        error_code = %(error_code)s, provider_request_id = %(provider_request_id)s
    FROM generation
    WHERE generation_id = %(id)s AND number = %(number)s::smallint - 1 AND imagesapi_attempt.status = 'sent'
    RETURNING generation_id
)
INSERT INTO imagesapi_attempt {_ATTEMPT_COLUMNS} SELECT generation_id, {_ATTEMPT_VALUES} FROM closed RETURNING number
"""  # noqa: S608 - constants, see billing.ledger

_SETTLE = f"""
WITH generation AS (
    UPDATE imagesapi_generation SET status = 'completed', provider = %(provider)s, sent = %(sent)s::jsonb,
        adjustments = %(adjustments)s::jsonb, receipt = %(receipt)s::jsonb, cost_nanos = %(charged_nanos)s,
        answer = %(answer)s,
        response_size_bytes = %(response_size_bytes)s, finished_at = now(), lease_owner = NULL, lease_expires_at = NULL
    WHERE id = %(id)s AND status = 'processing' RETURNING id, organization_id
), attempt AS (
    UPDATE imagesapi_attempt SET status = 'succeeded', finished_at = now(), http_status = 200,
        provider_request_id = %(provider_request_id)s, parts = %(parts)s::jsonb
    FROM generation
    WHERE generation_id = %(id)s AND number = %(number)s::smallint AND imagesapi_attempt.status = 'sent'
), image AS (
    INSERT INTO imagesapi_image (id, organization_id, generation_id, position, path, content_type, width_px, height_px,
        size_bytes, revised_prompt)
    SELECT i.id, generation.organization_id, generation.id, i.position, i.path, i.content_type, i.width_px, i.height_px,
        i.size_bytes, i.revised_prompt
    FROM generation, jsonb_to_recordset(%(images)s::jsonb) AS i(id uuid, position smallint, path text,
        content_type text, width_px int, height_px int, size_bytes int, revised_prompt text)
)
SELECT settled.charged_nanos, settled.absorbed_nanos FROM generation, LATERAL {ledger.SETTLE} AS settled
"""  # noqa: S608 - constants, see billing.ledger

_FAIL = f"""
WITH generation AS (
    UPDATE imagesapi_generation SET status = %(generation_status)s, provider = %(provider)s,
        error_code = %(generation_error_code)s, error_message = %(error_message)s, finished_at = now(),
        lease_owner = NULL, lease_expires_at = NULL
    WHERE id = %(id)s AND status = 'processing' RETURNING id
), attempt AS (
    UPDATE imagesapi_attempt SET status = %(status)s, finished_at = now(), http_status = %(http_status)s,
        error_code = %(error_code)s, provider_request_id = %(provider_request_id)s
    FROM generation WHERE generation_id = %(id)s AND imagesapi_attempt.status = 'sent'
)
SELECT {ledger.VOID} FROM generation
"""  # noqa: S608 - constants, see billing.ledger


@dataclass(frozen=True, slots=True)
class Marks:
    """By what a request can be recognised when it comes again, and whether a worker is to do it."""

    idempotency_key: str | None = None
    body_hash: bytes | None = None
    retry_count: int = 0
    is_async: bool = False
    inputs: list[dict[str, Any]] | None = None

    @property
    def keeps_answer(self) -> bool:
        return self.is_async or self.body_hash is not None


NO_MARKS = Marks()


class Stale(Exception):
    """The key was changed or the catalogue moved on since the request read them: read again, plan again."""


@dataclass(slots=True)
class Try:
    """One attempt as it went, for the answer's `attempts[]` and for its row."""

    candidate: Candidate
    number: int
    status: str = "sent"
    error: ProviderError | None = None
    duration_ms: int = 0
    parts: list[dict[str, Any]] | None = None  # where several calls were made

    @property
    def error_code(self) -> str | None:
        return self.error.error_code if self.error else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "provider": self.candidate.offer.provider,
            "status": self.status,
            "error_code": self.error_code,
            "duration_ms": self.duration_ms,
        }

    def outcome(self) -> dict[str, Any]:
        """How it ended, as the statements' parameters."""
        return {**attempt_outcome(self.error), "status": self.status}


def attempt_outcome(error: ProviderError | None) -> dict[str, Any]:
    """How an attempt ended, from its error: without one, nobody knows."""
    if error is None:
        return {"status": "unknown", "http_status": None, "error_code": "", "provider_request_id": ""}
    status = "unknown" if error.possibly_billed else "refused" if error.refused else "failed"
    return {
        "status": status,
        "http_status": error.http_status,
        "error_code": error.error_code[:64],
        "provider_request_id": (error.request_id or "")[:200],
    }


@dataclass(frozen=True, slots=True)
class Settlement:
    """Everything the settling statement writes; kept in the store beforehand, so recovery can write it too."""

    generation_id: uuid.UUID
    number: int
    provider: str
    provider_request_id: str
    cost_nanos: int
    charged_nanos: int
    simulated: bool
    sent: dict[str, Any]
    adjustments: list[dict[str, Any]]
    receipt: dict[str, Any]
    images: list[dict[str, Any]] = field(default_factory=list)
    response_size_bytes: int = 0
    absorbed_nanos: int = 0
    parts: list[dict[str, Any]] | None = None
    # The answer without its pictures, where somebody may ask for it again.
    answer: str | None = None


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _attempt(candidate: Candidate, number: int) -> dict[str, Any]:
    return {
        "number": number,
        "offer_id": candidate.offer.id,
        "attempt_provider": candidate.offer.provider,
        "executed_model": candidate.executed_model,
        "worst_case_nanos": candidate.worst_case.total_nanos,
        "own_key": candidate.own_key,
    }


def admit(
    generation_id: uuid.UUID, *, caller: Caller, request: ImageRequest, plan: Plan, marks: Marks = NO_MARKS
) -> ledger.Verdict:
    """Hold the worst case, and write the generation and its first attempt: durable before any byte is sent.

    Raises Stale, PaymentRequired, BudgetReached, TooManyRequests, or a database error when the idempotency key is taken
    (`is_taken`); then nothing was written.
    """
    found = sql.row(
        _ADMIT_PENDING if marks.is_async else _ADMIT,
        {
            "id": generation_id,
            "organization_id": caller.organization_id,
            "key_id": caller.key_id,
            "key_version": caller.key_version,
            "member_id": caller.created_by_id,
            "hold_nanos": plan.hold_nanos,
            "promo_only": plan.simulated,
            "endpoint": request.endpoint,
            "model": plan.model,
            "status": "pending" if marks.is_async else "processing",
            "asked": _json(request.asked),
            "metadata": _json(request.metadata) if request.metadata else None,
            "user": request.safety_identifier or request.user or "",
            "request_size_bytes": request.body_size_bytes,
            "idempotency_key": marks.idempotency_key,
            "body_hash": marks.body_hash,
            "retry_count": marks.retry_count,
            "inputs": _json(marks.inputs) if marks.inputs else None,
            "is_async": marks.is_async,
            "lease_owner": None if marks.is_async else leases.owner(),
            "lease_s": leases.life_s(),
            "catalogue_version": plan.catalogue_version,
            "own_keys_version": plan.own_keys_version,
            **_attempt(plan.first, 1),
        },
        locks=ledger.locks(caller.organization_id, hold_nanos=plan.hold_nanos),
    )
    if found is None:
        raise Stale
    verdict = ledger.Verdict(*found)
    if not verdict.held:
        budgets.note_refusal(
            verdict, organization_id=caller.organization_id, key_id=caller.key_id, member_id=caller.created_by_id
        )
        raise ledger.refuse(verdict, needed_nanos=plan.hold_nanos, promo_only=plan.simulated)
    return verdict


def is_taken(error: DatabaseError) -> bool:
    """Whether another request of this organization holds the idempotency key."""
    return isinstance(error, IntegrityError) and "generation_once_per_idempotency_key" in str(error)


def first_attempt(generation_id: uuid.UUID, *, candidate: Candidate, number: int) -> bool:
    """Write the first attempt of a request that a worker took; False when it is no longer ours to work on."""
    parameters = {"id": generation_id, "lease_owner": leases.owner(), **_attempt(candidate, number)}
    return sql.row(_FIRST_ATTEMPT, parameters) is not None


def next_attempt(generation_id: uuid.UUID, *, failed: Try, candidate: Candidate) -> bool:
    """Close one attempt and write the next as sent; False when the generation is no longer ours to work on."""
    parameters = {"id": generation_id, "lease_owner": leases.owner(), **failed.outcome()}
    return sql.row(_NEXT_ATTEMPT, {**parameters, **_attempt(candidate, failed.number + 1)}) is not None


def settle(settlement: Settlement, *, locks: Locks | None = None) -> tuple[int, int] | None:
    """Complete the generation: states, images, charge. (charged, absorbed), or None when it was resolved before.

    With the locks that its hold has (ledger.locks) it may share a commit with others.
    """
    return sql.row(
        _SETTLE,
        {
            "id": settlement.generation_id,
            "number": settlement.number,
            "provider": settlement.provider,
            "provider_request_id": settlement.provider_request_id[:200],
            "cost_nanos": settlement.cost_nanos,
            "charged_nanos": settlement.charged_nanos,
            "absorbed_nanos": settlement.absorbed_nanos,
            "simulated": settlement.simulated,
            "sent": _json(settlement.sent),
            "adjustments": _json(settlement.adjustments) if settlement.adjustments else None,
            "receipt": _json(settlement.receipt),
            "images": _json(settlement.images),
            "parts": _json(settlement.parts) if settlement.parts else None,
            "answer": settlement.answer,
            "response_size_bytes": settlement.response_size_bytes,
        },
        locks=locks,
    )


def fail(
    generation_id: uuid.UUID,
    *,
    provider: str,
    attempt: dict[str, Any],
    generation_status: str,
    error_code: str,
    error_message: str,
    absorbed_nanos: int = 0,
    locks: Locks | None = None,
) -> bool:
    """Close the generation without a charge; False when it was resolved before. Locks as with `settle`."""
    found = sql.row(
        _FAIL,
        {
            "id": generation_id,
            "generation_status": generation_status,
            "generation_error_code": error_code,
            "error_message": error_message[:1000],
            "provider": provider,
            "absorbed_nanos": absorbed_nanos,
            **attempt,
        },
        locks=locks,
    )
    return found is not None


def remember(generation_id: uuid.UUID, *, number: int, call: int | None, job: dict[str, Any]) -> None:
    """Keep a queued job's addresses with its attempt; under the call's number where there are several."""
    sql.row(
        _REMEMBER,
        {"id": generation_id, "number": number, "call": None if call is None else str(call), "job": _json(job)},
    )


_REMEMBER = """
UPDATE imagesapi_attempt SET job = CASE
    WHEN %(call)s::text IS NULL THEN %(job)s::jsonb
    ELSE jsonb_build_object('calls', coalesce(job -> 'calls', '{}'::jsonb)
        || jsonb_build_object(%(call)s::text, %(job)s::jsonb)) END
WHERE generation_id = %(id)s AND number = %(number)s::smallint
"""
