"""The ledger and the bills side by side: what one model cost at one provider on one day, by each."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.db.models import Count, Sum

from imagesapi import bills
from imagesapi.models import BillAdjustment

# An attempt is looked for on the day it was sent, and its money where it succeeded: nothing else is ever charged.
TRIED = """
    SELECT a.id, a.generation_id, a.status, a.worst_case_nanos, a.finished_at, m.slug AS model, g.organization_id,
           (a.sent_at AT TIME ZONE 'UTC')::date AS day
    FROM imagesapi_offer o
    JOIN imagesapi_provider p ON p.id = o.provider_id JOIN imagesapi_model m ON m.id = o.model_id
    JOIN imagesapi_attempt a ON a.offer_id = o.id AND a.sent_at >= %(start)s AND a.sent_at < %(end)s
    JOIN imagesapi_generation g ON g.id = a.generation_id
    WHERE p.slug = %(provider)s AND NOT a.own_key AND NOT g.simulated AND a.status NOT IN ('failed', 'sent')
"""
_PAID = """
    SELECT sum(t.amount_nanos) FILTER (WHERE t.kind = 'charge') AS wallet,
           sum(t.amount_nanos) FILTER (WHERE t.kind = 'charge_promo') AS promo,
           sum(t.amount_nanos) FILTER (WHERE t.kind = 'absorbed') AS absorbed
    FROM billing_transfer t
    JOIN billing_account payee ON payee.id = t.credit_account_id
        AND payee.kind = 'provider_payable' AND payee.provider = %(provider)s
    WHERE t.reference_id = tried.generation_id AND t.reference_type = 'generation'
      AND t.kind IN ('charge', 'charge_promo', 'absorbed')
"""
_BOOKED = f"""
SELECT day, model, count(*) FILTER (WHERE status = 'succeeded'), coalesce(sum(wallet), 0)::bigint,
       coalesce(sum(promo), 0)::bigint, coalesce(sum(absorbed), 0)::bigint, sum(worst_case_nanos)::bigint,
       coalesce(sum(coalesce(wallet, 0) + coalesce(promo, 0) + coalesce(absorbed, 0))
           FILTER (WHERE (finished_at AT TIME ZONE 'UTC')::date > day), 0)::bigint,
       count(*) FILTER (WHERE status = 'unknown')
FROM ({TRIED}) tried LEFT JOIN LATERAL ({_PAID}) paid ON tried.status = 'succeeded'
GROUP BY day, model
"""  # noqa: S608 - constants
_BY_ORGANIZATION = f"""
SELECT organization_id, coalesce(sum(wallet), 0)::bigint, coalesce(sum(promo), 0)::bigint
FROM ({TRIED}) tried CROSS JOIN LATERAL ({_PAID}) paid
WHERE tried.status = 'succeeded' AND tried.model = %(model)s GROUP BY organization_id ORDER BY organization_id
"""  # noqa: S608 - constants
_UNKNOWN = f"""
SELECT tried.id, tried.worst_case_nanos,
       coalesce(nullif(a.provider_request_id, ''), a.job ->> 'request_id', '')
FROM ({TRIED}) tried JOIN imagesapi_attempt a ON a.id = tried.id
WHERE tried.status = 'unknown' AND tried.model = %(model)s ORDER BY a.sent_at, a.id
"""  # noqa: S608 - constants
# Of each line what was told last; it may have been told of another day before.
_LATEST = """
    SELECT DISTINCT ON (source, source_key) day, model, amount_nanos, provider_request_id FROM imagesapi_billline
    WHERE provider = %(provider)s AND (source, source_key) IN (
        SELECT source, source_key FROM imagesapi_billline
        WHERE provider = %(provider)s AND day >= %(first)s AND day <= %(last)s
    )
    ORDER BY source, source_key, revision DESC
"""
_BILLED = f"""
SELECT day, model, sum(amount_nanos)::bigint, count(*) FROM ({_LATEST}) latest
WHERE day >= %(first)s AND day <= %(last)s GROUP BY day, model
"""  # noqa: S608 - constants
_BILLED_REQUESTS = f"""
SELECT provider_request_id FROM ({_LATEST}) latest
WHERE day >= %(first)s AND day <= %(last)s AND model = %(model)s AND provider_request_id <> '' AND amount_nanos > 0
"""  # noqa: S608 - constants

ADJUSTMENTS = ("true_up", "true_up_promo", "bill_absorbed", "bill_credited")


@dataclass(slots=True)
class Cell:
    """One model at one provider on one day, by the ledger and by the bill."""

    provider: str
    model: str
    day: dt.date
    calls: int = 0
    wallet_nanos: int = 0
    promo_nanos: int = 0
    absorbed_nanos: int = 0
    # The most that its attempts can have cost, whatever was charged.
    ceiling_nanos: int = 0
    # Of what was booked, the part whose answer came after midnight: a bill by the end of calls has it a day later.
    late_nanos: int = 0
    unknown: int = 0
    billed_nanos: int = 0
    lines: int = 0
    adjusted: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ADJUSTMENTS, 0))
    # How often each kind was booked for each organization so far.
    times: dict[tuple[str, int | None], int] = field(default_factory=dict)

    @property
    def booked_nanos(self) -> int:
        """What the ledger says this provider is owed for it, after all that bills have led to so far."""
        carried = self.adjusted["bill_absorbed"] - self.adjusted["bill_credited"]
        credited = self.adjusted["true_up"] + self.adjusted["true_up_promo"]
        return self.wallet_nanos + self.promo_nanos + self.absorbed_nanos + carried - credited

    @property
    def wanting_nanos(self) -> int:
        """What the bill has more than the ledger; negative where it has less."""
        return self.billed_nanos - self.booked_nanos

    @property
    def rounding_nanos(self) -> int:
        """What rounding to the nano alone can make of difference: half a nano for each charge and each line."""
        return (self.calls + self.lines + 1) // 2


def read(provider: str, first: dt.date, last: dt.date) -> dict[tuple[dt.date, str], Cell]:
    """Every cell of these days, by day and model."""
    found: dict[tuple[dt.date, str], Cell] = {}

    def cell(day: dt.date, model: str) -> Cell:
        return found.setdefault((day, model), Cell(provider, model, day))

    with connection.cursor() as cursor:
        cursor.execute(_BOOKED, _span(provider, first, last))
        for day, model, calls, wallet, promo, absorbed, ceiling, late, unknown in cursor.fetchall():
            one = cell(day, model)
            one.calls, one.wallet_nanos, one.promo_nanos, one.absorbed_nanos = calls, wallet, promo, absorbed
            one.ceiling_nanos, one.late_nanos, one.unknown = ceiling, late, unknown
        cursor.execute(_BILLED, {"provider": provider, "first": first, "last": last})
        for day, model, billed, lines in cursor.fetchall():
            cell(day, model).billed_nanos, cell(day, model).lines = billed, lines
    rows = BillAdjustment.objects.filter(provider=provider, day__gte=first, day__lte=last)
    counted = rows.values_list("day", "model", "kind", "organization_id")
    for day, model, kind, organization, times, total in counted.annotate(Count("pk"), Sum("amount_nanos")):
        cell(day, model).adjusted[kind] += total
        cell(day, model).times[kind, organization] = times
    return found


def charged(cell: Cell) -> list[tuple[int, str, int]]:
    """What each organization still pays for a cell: (organization, true-up kind that gives it back, amount)."""
    rows = BillAdjustment.objects.filter(provider=cell.provider, model=cell.model, day=cell.day)
    given = {
        (organization, kind): total
        for organization, kind, total in rows.values_list("organization_id", "kind").annotate(total=Sum("amount_nanos"))
    }
    found = []
    with connection.cursor() as cursor:
        cursor.execute(_BY_ORGANIZATION, {**_span(cell.provider, cell.day, cell.day), "model": cell.model})
        for organization, wallet, promo in cursor.fetchall():
            for kind, amount_nanos in (("true_up", wallet), ("true_up_promo", promo)):
                left = amount_nanos - given.get((organization, kind), 0)
                if left > 0:
                    found.append((organization, kind, left))
    return found


def unknown(cell: Cell) -> list[tuple[int, int, bool]]:
    """A cell's open attempts: (row, worst case, whether the bill names it), those that it names first, then oldest."""
    named = {"model": cell.model}
    with connection.cursor() as cursor:
        cursor.execute(_BILLED_REQUESTS, {"provider": cell.provider, "first": cell.day, "last": cell.day, **named})
        on_bill = {request for (request,) in cursor.fetchall()}
        cursor.execute(_UNKNOWN, {**_span(cell.provider, cell.day, cell.day), **named})
        rows = [(row, worst, request in on_bill) for row, worst, request in cursor.fetchall()]
    return sorted(rows, key=lambda row: not row[2])


def _span(provider: str, first: dt.date, last: dt.date) -> dict[str, Any]:
    return {
        "provider": provider,
        "start": bills.midnight(first),
        "end": bills.midnight(last + dt.timedelta(days=1)),
    }
