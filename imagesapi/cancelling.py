"""Requests whose caller wants no result any more: ended at once while they wait, told to whoever works on them else."""

from __future__ import annotations

import threading
import time
import uuid

from django.db import connection

from accounts.callers import Caller
from billing import ledger
from core import errors, ids, sql
from imagesapi import leases
from imagesapi.models import Generation, GenerationStatus

_LOOK_EVERY_S = 2.0

_CANCEL_PENDING = f"""
WITH generation AS (
    UPDATE imagesapi_generation SET status = 'cancelled', error_code = 'cancelled',
        error_message = 'The request was cancelled before it was sent to a provider.', finished_at = now(),
        cancel_requested_at = now(), lease_owner = NULL, lease_expires_at = NULL
    WHERE id = %(id)s AND organization_id = %(organization_id)s AND status = 'pending' RETURNING id
)
SELECT {ledger.VOID} FROM generation
"""  # noqa: S608 - constants, see billing.ledger

_WISH = """
UPDATE imagesapi_generation SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = %(id)s AND organization_id = %(organization_id)s AND status IN ('pending', 'processing') RETURNING id
"""

_WISHED = """
SELECT id FROM imagesapi_generation
WHERE lease_owner = %s AND lease_expires_at IS NOT NULL AND cancel_requested_at IS NOT NULL
"""

_lock = threading.Lock()
_looked_at_s = 0.0
_wished: frozenset[uuid.UUID] = frozenset()


def cancel(caller: Caller, word: str) -> Generation:
    """End a request of the caller's organization: at once and without a charge while it waits.

    One that a provider works on is cancelled there where that is possible, and otherwise completes. Raises NotFound or
    AlreadyFinished.
    """
    generation_id = ids.parse("req", word)
    mine = Generation.objects.filter(organization_id=caller.organization_id)
    rows = mine.filter(pk=generation_id) if generation_id else mine.none()
    if not rows.exists():
        raise errors.NotFound(f"There is no request {word[:40]!r}.")
    names = {"id": generation_id, "organization_id": caller.organization_id, "provider": "", "absorbed_nanos": 0}
    sql.give_back()
    if sql.row(_CANCEL_PENDING, names) is None:
        sql.row(_WISH, names)
    row = rows.select_related("api_key").get()
    sql.give_back()
    if row.status not in (GenerationStatus.PENDING, GenerationStatus.PROCESSING, GenerationStatus.CANCELLED):
        raise errors.AlreadyFinished(f"The request is {row.status} already; there is nothing to cancel.")
    return row


def is_wished(generation_id: uuid.UUID) -> bool:
    """Whether the caller of a request that this process works on wants no result any more, as of some seconds ago.

    All requests of the process share one look, however many of them ask.
    """
    global _looked_at_s, _wished
    now_s = time.monotonic()
    if now_s - _looked_at_s >= _LOOK_EVERY_S and _lock.acquire(blocking=False):
        try:
            with connection.cursor() as cursor:
                cursor.execute(_WISHED, [leases.owner()])
                _wished = frozenset(found for (found,) in cursor.fetchall())
            _looked_at_s = now_s
        finally:
            sql.give_back()
            _lock.release()
    return generation_id in _wished
