"""The same request sent again: answered from what was kept, never made and charged a second time.

A caller's Idempotency-Key says so itself. Stock SDKs send none and retry all the same; their retry counter tells.
"""

from __future__ import annotations

import hashlib
import re
import time
import uuid
from collections.abc import Mapping

import orjson
from django.conf import settings

from accounts.callers import Caller
from core import errors, load, sql
from imagesapi.admission import Marks
from imagesapi.models import Generation, GenerationStatus
from imagesapi.values import ImageRequest

KEY_MAX_CHARS = 255
JOIN_WITHIN_MINUTES = 10
KEY = re.compile(r"[!-~](?:[ -~]{0,253}[!-~])?", re.ASCII)
_RETRIES_MAX = 100
_HASH_BYTES = 16
_RETRY_AFTER_S = 2
_FIRST_LOOK_S, _SLOWEST_LOOK_S = 0.1, 1.0
_LIVING = (GenerationStatus.PENDING, GenerationStatus.PROCESSING, GenerationStatus.COMPLETED)

_JOIN = """
UPDATE imagesapi_generation SET joined_by_retry = %(retry_count)s::smallint WHERE id = (
    SELECT id FROM imagesapi_generation
    WHERE api_key_id = %(key_id)s AND body_hash = %(body_hash)s AND idempotency_key IS NULL
      AND joined_by_retry < %(retry_count)s::smallint AND status IN ('pending', 'processing', 'completed')
      AND created_at > now() - make_interval(mins => %(minutes)s)
    ORDER BY joined_by_retry DESC, id LIMIT 1 FOR NO KEY UPDATE
) RETURNING id
"""


def marks(environ: Mapping[str, str], request: ImageRequest, *, is_async: bool) -> Marks:
    """What this request can be recognised by; `environ` is WSGI's. Raises InvalidRequest for a key that is none."""
    key = environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is not None and not KEY.fullmatch(key):
        raise errors.InvalidRequest(
            f"Idempotency-Key must be 1 to {KEY_MAX_CHARS} printable ASCII characters.", param="Idempotency-Key"
        )
    count = environ.get("HTTP_X_STAINLESS_RETRY_COUNT", "")
    counts = count.isascii() and count.isdigit() and len(count) < 4
    if key is None and not counts:
        return Marks(is_async=is_async)
    retry_count = min(int(count), _RETRIES_MAX) if counts and key is None else 0
    return Marks(idempotency_key=key, body_hash=fingerprint(request), retry_count=retry_count, is_async=is_async)


def fingerprint(request: ImageRequest) -> bytes:
    """A digest of everything that was asked, pictures included; the same however a form's parts are separated."""
    asked = orjson.dumps(request.asked, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(asked, digest_size=_HASH_BYTES, person=request.endpoint[-16:].encode()).digest()


def find(caller: Caller, marks: Marks) -> Generation | None:
    """The request that this one repeats, finished; None when there is none.

    For a key: KeyReused when it came with another body, InProgress while it is worked on (an asynchronous one is
    handed out as it stands). A stock SDK's retry waits for the one it joins.
    """
    if marks.idempotency_key is not None:
        return _by_key(caller, marks)
    if marks.retry_count > 0:
        return _joined(caller, marks)
    return None


def _by_key(caller: Caller, marks: Marks) -> Generation | None:
    rows = Generation.objects.filter(
        organization_id=caller.organization_id, idempotency_key=marks.idempotency_key, status__in=_LIVING
    )
    found = rows.first()
    sql.give_back()
    if found is None:
        return None
    if bytes(found.body_hash or b"") != marks.body_hash:
        raise errors.KeyReused(
            "This Idempotency-Key was used with another request. Use a new key for a new request.",
            param="Idempotency-Key",
        )
    if found.status != GenerationStatus.COMPLETED and not (found.is_async and marks.is_async):
        raise errors.InProgress(
            "The request with this Idempotency-Key is still being worked on. Try again.", retry_after_s=_RETRY_AFTER_S
        )
    return found


def _joined(caller: Caller, marks: Marks) -> Generation | None:
    found = sql.row(
        _JOIN,
        {
            "key_id": caller.key_id,
            "body_hash": marks.body_hash,
            "retry_count": marks.retry_count,
            "minutes": JOIN_WITHIN_MINUTES,
        },
    )
    return None if found is None else _finished(found[0], marks)


def _finished(generation_id: uuid.UUID, marks: Marks) -> Generation | None:
    """Wait until it ends, in whatever process it runs. None when it ended without an answer: then the retry tries."""
    give_up_at = time.monotonic() + settings.PROVIDER_TIMEOUT_S + settings.LEASE_S
    pause_s = _FIRST_LOOK_S
    with load.slot():
        while True:
            row = Generation.objects.filter(pk=generation_id).first()
            sql.give_back()
            if row is None or row.status not in _LIVING:
                return None
            if row.status == GenerationStatus.COMPLETED or (row.is_async and marks.is_async):
                return row
            if time.monotonic() > give_up_at:
                raise errors.InProgress("The request is still being worked on. Try again.", retry_after_s=30)
            time.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _SLOWEST_LOOK_S)
