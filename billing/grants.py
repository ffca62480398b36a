"""Promotional credit in lots: what is left of each and until when, and the proof that they are the promo balance."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import structlog
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now

from billing import ledger
from billing.models import Grant
from core import sql

log = structlog.get_logger(__name__)

# What was spent since lots were last brought up to date is taken from them here as it will be when they are.
_LOTS = """
SELECT reason, amount_nanos, rest - LEAST(rest, GREATEST(unattributed - earlier, 0)), expires_at, created_at FROM (
    SELECT t.note AS reason, g.amount_nanos, g.expires_at, g.created_at, g.id,
           g.amount_nanos - g.spent_nanos - g.expired_nanos AS rest,
           (sum(g.amount_nanos - g.spent_nanos - g.expired_nanos) OVER before_and_this)::bigint
               - (g.amount_nanos - g.spent_nanos - g.expired_nanos) AS earlier,
           (sum(g.amount_nanos - g.spent_nanos - g.expired_nanos) OVER ())::bigint - a.posted_nanos AS unattributed
    FROM billing_grant g JOIN billing_transfer t ON t.id = g.transfer_id
    JOIN billing_account a ON a.organization_id = g.organization_id AND a.kind = 'promo'
    WHERE g.organization_id = %(organization_id)s AND g.amount_nanos > g.spent_nanos + g.expired_nanos
    WINDOW before_and_this AS (ORDER BY g.expires_at NULLS LAST, g.id)
) lots WHERE rest > GREATEST(unattributed - earlier, 0) ORDER BY expires_at NULLS LAST, id
"""

PROOFS = {
    "promotional credit differs from its lots": """
        SELECT a.id, a.posted_nanos, coalesce(g.kept, 0) - coalesce(c.charged, 0) FROM billing_account a
        LEFT JOIN (
            SELECT organization_id, sum(amount_nanos - expired_nanos) AS kept FROM billing_grant GROUP BY 1
        ) g ON g.organization_id = a.organization_id
        LEFT JOIN (
            SELECT debit_account_id, sum(amount_nanos) AS charged FROM billing_transfer
            WHERE kind = 'charge_promo' GROUP BY 1
        ) c ON c.debit_account_id = a.id
        WHERE a.kind = 'promo' AND a.posted_nanos <> coalesce(g.kept, 0) - coalesce(c.charged, 0)
    """,
    "more was taken from lots than was spent": """
        SELECT a.id, sum(g.spent_nanos), coalesce(max(c.charged), 0) FROM billing_account a
        JOIN billing_grant g ON g.organization_id = a.organization_id
        LEFT JOIN (
            SELECT debit_account_id, sum(amount_nanos) AS charged FROM billing_transfer
            WHERE kind = 'charge_promo' GROUP BY 1
        ) c ON c.debit_account_id = a.id
        WHERE a.kind = 'promo' GROUP BY a.id HAVING sum(g.spent_nanos) > coalesce(max(c.charged), 0)
    """,
    "a lot differs from the transfer that brought it": """
        SELECT t.id, coalesce(g.amount_nanos, 0), t.amount_nanos FROM billing_transfer t
        LEFT JOIN billing_grant g ON g.transfer_id = t.id
        LEFT JOIN billing_account a ON a.id = t.credit_account_id
        WHERE t.kind IN ('grant', 'true_up_promo')
          AND (g.amount_nanos, g.organization_id) IS DISTINCT FROM (t.amount_nanos, a.organization_id)
    """,
}


@dataclass(frozen=True, slots=True)
class Lot:
    """Credit of which something is left."""

    reason: str
    amount_nanos: int
    remaining_nanos: int
    expires_at: dt.datetime | None
    created_at: dt.datetime


def lots(organization_id: int) -> list[Lot]:
    """An organization's promotional credit, what is spent first at the top. Their sum is its promo balance."""
    with connection.cursor() as cursor:
        cursor.execute(_LOTS, {"organization_id": organization_id})
        return [Lot(*row) for row in cursor.fetchall()]


def expire_due() -> int:
    """Book what has expired, for every organization; how much that was.

    Each organization is a transaction of its own. One whose expired credit is held is looked at again the next time.
    """
    due = Grant.objects.filter(
        expires_at__lte=Now(), amount_nanos__gt=F("spent_nanos") + F("expired_nanos")
    ).values_list("organization_id", flat=True)
    expired_nanos = 0
    for organization_id in list(due.order_by("organization_id").distinct()):
        try:
            expired_nanos += ledger.expire(organization_id)
        except Exception:  # one that cannot be booked must not keep the others
            log.exception("credit could not expire; trying again", organization=organization_id)
        finally:
            sql.give_back()
    return expired_nanos
