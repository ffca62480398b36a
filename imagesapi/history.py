"""An organization's requests for its API: a page of them, and one whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from accounts.callers import Caller
from core import errors, ids, money
from imagesapi import links
from imagesapi.models import Attempt, Generation, Image

LIMIT_MAX = 100
_LIMIT_DEFAULT = 20


def page(caller: Caller, query: Mapping[str, str], *, path: str) -> dict[str, Any]:
    """Requests of the caller's organization, newest first; `limit`, and `starting_after` or `ending_before` an id."""
    limit = _limit(query.get("limit"))
    rows = Generation.objects.filter(organization_id=caller.organization_id).select_related("api_key")
    after, before = _cursor(query, "starting_after"), _cursor(query, "ending_before")
    if after and before:
        raise errors.InvalidRequest("Send 'starting_after' or 'ending_before', not both.", param="ending_before")
    if before:
        found = list(rows.filter(pk__gt=before).order_by("pk")[: limit + 1])
        more_newer, more_older = len(found) > limit, True
        found = found[:limit][::-1]
    else:
        rows = rows.filter(pk__lt=after) if after else rows
        found = list(rows.order_by("-pk")[: limit + 1])
        more_newer, more_older = bool(after), len(found) > limit
        found = found[:limit]
    return {
        "object": "list",
        "data": [item(row) for row in found],
        "next_page_url": _link(path, limit, "starting_after", found[-1]) if found and more_older else None,
        "previous_page_url": _link(path, limit, "ending_before", found[0]) if found and more_newer else None,
    }


def _limit(text: str | None) -> int:
    if text is None:
        return _LIMIT_DEFAULT
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= LIMIT_MAX):
        raise errors.InvalidRequest(f"'limit' must be from 1 to {LIMIT_MAX}.", param="limit")
    return int(text)


def _cursor(query: Mapping[str, str], name: str) -> Any:
    word = query.get(name)
    if word is None:
        return None
    found = ids.parse("req", word)
    if found is None:
        raise errors.InvalidRequest(f"'{name}' must be the id of a request, such as req_01….", param=name)
    return found


def _link(path: str, limit: int, name: str, row: Generation) -> str:
    return f"{path}?{urlencode({'limit': limit, name: ids.public('req', row.pk)})}"


def item(row: Generation) -> dict[str, Any]:
    """One request as the list shows it."""
    duration = row.finished_at - row.created_at if row.finished_at else None
    return {
        "id": ids.public("req", row.pk),
        "object": "request",
        "created_at": int(row.created_at.timestamp()),
        "model": row.model,
        "modality": "image",
        "endpoint": row.endpoint,
        "status": row.status,
        "provider": row.provider or None,
        "cost": money.json_number(row.cost_nanos or 0),
        "currency": "usd",
        "duration_ms": round(duration.total_seconds() * 1000) if duration else None,
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
    generation_id = ids.parse("req", word)
    rows = Generation.objects.filter(organization_id=caller.organization_id).select_related("api_key")
    row = rows.filter(pk=generation_id).first() if generation_id else None
    if row is None:
        raise errors.NotFound(f"There is no request {word[:40]!r}.")
    expires_at_s = int(time.time()) + caller.link_life_minutes * 60
    images = Image.objects.filter(organization_id=caller.organization_id, generation=row, deleted_at=None).order_by(
        "position"
    )
    return {
        **item(row),
        "asked": row.asked,
        "sent": row.sent,
        "adjustments": row.adjustments or [],
        "attempts": [_attempt(attempt) for attempt in row.attempts.order_by("number")],
        "images": [_image(image, expires_at_s) for image in images],
        "receipt": row.receipt,
    }


def _attempt(attempt: Attempt) -> dict[str, Any]:
    duration = attempt.finished_at - attempt.sent_at if attempt.finished_at else None
    return {
        "number": attempt.number,
        "provider": attempt.provider,
        "executed_model": attempt.executed_model,
        "status": attempt.status,
        "error_code": attempt.error_code or None,
        "http_status": attempt.http_status,
        "provider_request_id": attempt.provider_request_id or None,
        "duration_ms": round(duration.total_seconds() * 1000) if duration else None,
    }


def _image(image: Image, expires_at_s: int) -> dict[str, Any]:
    return {
        "id": ids.public("img", image.pk),
        "object": "image",
        "url": links.make(image.pk, expires_at_s=expires_at_s),
        "expires_at": expires_at_s,
        "content_type": image.content_type,
        "width": image.width_px,
        "height": image.height_px,
        "size_bytes": image.size_bytes,
        "revised_prompt": image.revised_prompt or None,
    }
