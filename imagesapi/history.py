"""An organization's requests and images for its API: one as a list shows it, one whole, its receipt, its pictures."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any, Protocol

from accounts.callers import Caller
from core import errors, ids, money
from imagesapi import answers, links
from imagesapi.models import Attempt, Generation, GenerationStatus, Image

OPEN = frozenset({GenerationStatus.PENDING, GenerationStatus.PROCESSING})
_RETRY_AFTER_S = 2
_NOTHING_CHARGED = {
    GenerationStatus.UPSTREAM_FAILURE: "no provider delivered a picture",
    GenerationStatus.REJECTED: "the request or its content was refused",
    GenerationStatus.CANCELLED: "it was cancelled",
}


class Tenant(Protocol):
    """Whoever looks, as far as it matters what may be seen: an API key's caller, or a person's membership."""

    @property
    def organization_id(self) -> int: ...


def item(row: Generation) -> dict[str, Any]:
    """One request as the list shows it."""
    return {
        "id": ids.public("req", row.pk),
        "object": "request",
        # When it came in: what ids are sorted by, and lists cut by.
        "created_at": ids.made_at_ms(row.pk) // 1000,
        "model": row.model,
        "modality": "image",
        "endpoint": row.endpoint,
        "status": row.status,
        "provider": row.provider or None,
        "cost": money.json_number(row.cost_nanos or 0),
        "currency": "usd",
        "duration_ms": _duration_ms(row.created_at, row.finished_at),
        "key_id": row.api_key.public_id if row.api_key else None,
        "error_code": row.error_code or None,
        "error_message": row.error_message or None,
        "user": row.user or None,
        "metadata": row.metadata or {},
        "simulated": row.simulated,
        "request_size_bytes": row.request_size_bytes,
        "response_size_bytes": row.response_size_bytes,
    }


def detail(caller: Caller, word: str) -> dict[str, Any]:
    """One request with its attempts, its receipt and fresh links to its images. Raises NotFound."""
    row = find(caller, word)
    images = Image.objects.filter(organization_id=caller.organization_id, generation=row, deleted_at=None)
    return {
        **item(row),
        "asked": row.asked,
        "sent": row.sent,
        "adjustments": row.adjustments or [],
        "attempts": [_attempt(attempt) for attempt in row.attempts.order_by("number")],
        "images": [_facts(image, caller) for image in images.order_by("position")],
        "receipt": row.receipt,
        **_result(row),
        "purged_at": int(row.purged_at.timestamp()) if row.purged_at else None,
    }


def _result(row: Generation) -> dict[str, Any]:
    """What became of an asynchronous request: the answer as it would have been given at once."""
    if not row.is_async:
        return {}
    found = answers.again(row) if row.status == GenerationStatus.COMPLETED and row.purged_at is None else None
    return {"result": found, "cancel_requested": row.cancel_requested_at is not None}


def find(caller: Tenant, word: str) -> Generation:
    """A request of the caller's organization. Raises NotFound, for others' as for missing ones."""
    generation_id = ids.parse("req", word)
    rows = Generation.objects.filter(organization_id=caller.organization_id).select_related("api_key")
    row = rows.filter(pk=generation_id).first() if generation_id else None
    if row is None:
        raise errors.NotFound(f"There is no request {word[:40]!r}.")
    return row


def check_finished(row: Generation) -> None:
    """Raise NotFinished while somebody works on it."""
    if row.status in OPEN:
        raise errors.NotFinished(
            f"The request is {row.status}: it is still being worked on. Try again when it has ended.",
            retry_after_s=_RETRY_AFTER_S,
        )


def receipt(caller: Tenant, word: str) -> dict[str, Any]:
    """The itemised proof of a charge, or that there is none and why. Raises NotFound or NotFinished."""
    row = find(caller, word)
    check_finished(row)
    return {
        "object": "receipt",
        "request_id": ids.public("req", row.pk),
        "created_at": ids.made_at_ms(row.pk) // 1000,
        "status": row.status,
        **(row.receipt or _of_nothing(row)),
    }


def _of_nothing(row: Generation) -> dict[str, Any]:
    why = _NOTHING_CHARGED.get(GenerationStatus(row.status), "there is nothing to charge")
    code = f" ({row.error_code})" if row.error_code else ""
    return {
        "version": 1,
        "model": row.model,
        "provider": row.provider or None,
        "simulated": row.simulated,
        "items": [],
        "currency": "USD",
        "total": money.decimal(0),
        "charged": money.decimal(0),
        "explanation": f"Nothing was charged: {why}{code}.",
    }


def image(caller: Caller, word: str) -> dict[str, Any]:
    """The facts of one stored image. Raises NotFound."""
    image_id = ids.parse("img", word)
    rows = Image.objects.filter(organization_id=caller.organization_id, deleted_at=None)
    found = rows.filter(pk=image_id).first() if image_id else None
    if found is None:
        raise no_image(word)
    return {
        **_facts(found, caller),
        "request_id": ids.public("req", _generation_id(found)),
        "created_at": int(found.created_at.timestamp()),
    }


def no_image(word: str) -> errors.NotFound:
    """The same for an image that never was, was deleted, or is another organization's."""
    return errors.NotFound(f"There is no image {word[:40]!r}.")


def _generation_id(found: Image) -> uuid.UUID:
    generation_id: uuid.UUID = found.generation_id
    return generation_id


def _duration_ms(begun_at: dt.datetime, ended_at: dt.datetime | None) -> int | None:
    return round((ended_at - begun_at).total_seconds() * 1000) if ended_at else None


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "executed_model": attempt.executed_model,
        "status": attempt.status,
        "error_code": attempt.error_code or None,
        "http_status": attempt.http_status,
        "provider_request_id": attempt.provider_request_id or None,
        "duration_ms": _duration_ms(attempt.sent_at, attempt.finished_at),
    }


def _facts(found: Image, caller: Caller) -> dict[str, Any]:
    expires_at_s = int(time.time()) + caller.link_life_minutes * 60
    return {
        "id": ids.public("img", found.pk),
        "object": "image",
        "url": links.make(found.pk, expires_at_s=expires_at_s),
        "expires_at": expires_at_s,
        "content_type": found.content_type,
        "width": found.width_px,
        "height": found.height_px,
        "size_bytes": found.size_bytes,
        "revised_prompt": found.revised_prompt or None,
    }
