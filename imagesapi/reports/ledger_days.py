"""The journal added up by organization and day, each row once, and the statements of months that are over."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any

from django.db import connection, transaction

from core import money
from imagesapi.models import LedgerMark, Statement
from imagesapi.reports import statement_lines

# A row's time is when its transaction began; this much later it has been committed, and its neighbours too.
SETTLES_AFTER = dt.timedelta(minutes=10)
_ROWS_AT_ONCE = 20_000
_RUN_MAX_S = 240

# Every movement from an organization's side, with whom it was paid to and for what. `provider` is "simulated" where
# nobody is. What is late for a month that is closed counts for the first day after it.
SIDES = """
    SELECT a.organization_id, GREATEST((t.created_at AT TIME ZONE 'UTC')::date, %(next_month)s::date) AS day,
           a.kind AS account, t.kind,
           CASE other.kind WHEN 'simulated' THEN 'simulated' ELSE other.provider END AS provider,
           coalesce(g.model, b.model, '') AS model, t.amount
    FROM moved t
    JOIN billing_account a ON a.id = t.own_id AND a.organization_id IS NOT NULL
    JOIN billing_account other ON other.id = t.other_id
    LEFT JOIN imagesapi_generation g ON t.reference_type = 'generation' AND g.id = t.reference_id
    LEFT JOIN imagesapi_billadjustment b ON t.reference_type = 'bill' AND b.id = t.reference_id
"""
_END = """
SELECT max(id), count(*), min(id) FILTER (WHERE created_at >= %(cutoff)s) FROM (
    SELECT id, created_at FROM billing_transfer WHERE id > %(last)s ORDER BY id LIMIT %(rows)s
) next
"""
_ADD = f"""
WITH moved AS (
    SELECT credit_account_id AS own_id, debit_account_id AS other_id, amount_nanos AS amount, kind, created_at,
           reference_type, reference_id FROM billing_transfer WHERE id > %(last)s AND id <= %(end)s
    UNION ALL
    SELECT debit_account_id, credit_account_id, -amount_nanos, kind, created_at,
           reference_type, reference_id FROM billing_transfer WHERE id > %(last)s AND id <= %(end)s
)
INSERT INTO imagesapi_ledgerday (organization_id, day, account, kind, provider, model, count, amount_nanos)
SELECT organization_id, day, account, kind, provider, model, count(*), sum(amount)::bigint FROM ({SIDES}) sides
GROUP BY 1, 2, 3, 4, 5, 6
ON CONFLICT (organization_id, day, account, kind, provider, model) DO UPDATE
SET count = imagesapi_ledgerday.count + excluded.count,
    amount_nanos = imagesapi_ledgerday.amount_nanos + excluded.amount_nanos
"""  # noqa: S608 - constants
_OF_MONTH = """
SELECT organization_id, kind, provider, model, sum(count)::bigint, sum(amount_nanos)::bigint
FROM imagesapi_ledgerday WHERE day >= %(month)s AND day < %(next)s
GROUP BY 1, 2, 3, 4 ORDER BY 1
"""
_CLOSINGS = """
SELECT DISTINCT ON (organization_id) organization_id, closing_nanos FROM imagesapi_statement
WHERE organization_id = ANY(%(organizations)s) ORDER BY organization_id, month DESC
"""


def roll_up(now: dt.datetime | None = None) -> int:
    """Add up what has settled, close the months that are over; how many movements were looked at.

    Safe to run anywhere and at any time: who has the mark's row has the work.
    """
    now, began_s, rows = now or dt.datetime.now(dt.UTC), time.monotonic(), 0
    LedgerMark.objects.get_or_create(id=1, defaults={"complete_until": _EPOCH, "next_month": _first_month(now)})
    while time.monotonic() - began_s < _RUN_MAX_S:
        step, is_done = _step(now)
        rows += step
        if is_done:
            break
    while _close_month():
        pass
    return rows


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def following(month: dt.date) -> dt.date:
    """The first day of the month after."""
    return (month.replace(day=1) + dt.timedelta(days=32)).replace(day=1)


def _first_month(now: dt.datetime) -> dt.date:
    with connection.cursor() as cursor:
        cursor.execute("SELECT created_at FROM billing_transfer ORDER BY id LIMIT 1")
        oldest: tuple[dt.datetime] | None = cursor.fetchone()
    return (oldest[0] if oldest else now).astimezone(dt.UTC).date().replace(day=1)


@transaction.atomic
def _step(now: dt.datetime) -> tuple[int, bool]:
    """The next movements: how many, and whether that was all that has settled."""
    mark = LedgerMark.objects.select_for_update().get()
    cutoff = now - SETTLES_AFTER
    named: dict[str, Any] = {"last": mark.last_transfer, "cutoff": cutoff, "rows": _ROWS_AT_ONCE}
    with connection.cursor() as cursor:
        cursor.execute(_END, named)
        end, count, unsettled = cursor.fetchone()
        is_done = count < _ROWS_AT_ONCE or unsettled is not None
        end = unsettled - 1 if unsettled is not None else end
        if end is not None and end > mark.last_transfer:
            cursor.execute(_ADD, {**named, "end": end, "next_month": mark.next_month})
            mark.last_transfer = end
    if is_done:
        mark.complete_until = max(mark.complete_until, cutoff - SETTLES_AFTER)
    mark.save()
    return count, is_done


@transaction.atomic
def _close_month() -> bool:
    """Write the statements of the next month if it is over and all of it is added up."""
    mark = LedgerMark.objects.select_for_update().get()
    month, after = mark.next_month, following(mark.next_month)
    if dt.datetime.combine(after, dt.time(), dt.UTC) > mark.complete_until:
        return False
    lines: dict[int, list[tuple[Any, ...]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_OF_MONTH, {"month": month, "next": after})
        for organization_id, *row in cursor.fetchall():
            lines.setdefault(organization_id, []).append(tuple(row))
        cursor.execute(_CLOSINGS, {"organizations": list(lines)})
        openings = dict(cursor.fetchall())
    written = []
    for organization_id, rows in lines.items():
        opening_nanos, folded = openings.get(organization_id, 0), statement_lines.fold(rows)
        change_nanos = sum(money.nanos(line["amount"]) for line in folded)
        written.append(
            Statement(
                organization_id=organization_id,
                month=month,
                opening_nanos=opening_nanos,
                change_nanos=change_nanos,
                closing_nanos=opening_nanos + change_nanos,
                lines=folded,
            )
        )
    Statement.objects.bulk_create(written, batch_size=1000)
    mark.next_month = after
    mark.save()
    return True
