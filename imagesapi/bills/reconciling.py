"""Comparing bills with the ledger, day by day: once each, whoever does it and however often."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Now

from core import money
from imagesapi import bills
from imagesapi.bills import booking, cells, provider_days
from imagesapi.bills.cells import Cell
from imagesapi.models import Attempt, BillDay, Generation, Provider, Reconciliation

log = structlog.get_logger(__name__)

DAYS_DEFAULT = 35
# After this long an attempt whose ending nobody knows should have been found on a bill, or found missing there.
UNKNOWN_MAX = dt.timedelta(hours=48)
_DAY = dt.timedelta(days=1)


@dataclass(slots=True)
class Report:
    """What was compared, booked and closed, and what is left for people."""

    first: dt.date
    last: dt.date
    providers: list[str]
    days: int = 0
    booked: int = 0
    closed: int = 0
    unexplained_nanos: int = 0
    findings: list[dict[str, Any]] = field(default_factory=list)
    # Attempts that no bill has covered in time.
    overdue: int = 0


def days(first: dt.date | None = None, last: dt.date | None = None) -> tuple[dt.date, dt.date]:
    """What is compared where nobody says otherwise: the days up to yesterday."""
    last = last or dt.datetime.now(dt.UTC).date() - _DAY
    return first or last - (DAYS_DEFAULT - 1) * _DAY, last


def run(*, provider: str | None = None, first: dt.date | None = None, last: dt.date | None = None) -> Report:
    """Compare every covered and settled day of the providers with the ledger and book what it leads to."""
    first, last = days(first, last)
    slugs = [provider] if provider else list(Provider.objects.order_by("slug").values_list("slug", flat=True))
    report = Report(first, last, slugs)
    report.closed += _close_simulated()
    for slug in slugs:
        _one(slug, report)
    overdue = Attempt.objects.filter(status="unknown", sent_at__lt=Now() - UNKNOWN_MAX)
    report.overdue = overdue.filter(own_key=False, provider__in=slugs).count()
    Reconciliation.objects.create(
        first=first,
        last=last,
        providers=slugs,
        booked=report.booked,
        closed_attempts=report.closed,
        unexplained_nanos=report.unexplained_nanos,
        findings=report.findings,
    )
    return report


def _close_simulated() -> int:
    """Nobody bills what was drawn here."""
    simulated = Generation.objects.filter(simulated=True)
    closed: int = Attempt.objects.filter(status="unknown", generation__in=simulated).update(status="not_billed")
    return closed


@transaction.atomic
def _one(provider: str, report: Report) -> None:
    """One provider, by one process at a time; the days beside are read too, for calls that ran over midnight."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('reconcile ' || %s))", [provider])
    settled = _settled_days(provider, report.first - _DAY, report.last + _DAY)
    if not settled:
        return
    found = cells.read(provider, report.first - _DAY, report.last + _DAY)
    wanting = _over_midnight(found, settled)
    for (day, _), cell in sorted(found.items()):
        if day in settled and report.first <= day <= report.last:
            _note(cell, booking.settle(cell, wanting[cell.day, cell.model]), report)
    report.days += sum(report.first <= day <= report.last for day in settled)
    provider_days.write(provider, report.first, report.last)


def _settled_days(provider: str, first: dt.date, last: dt.date) -> set[dt.date]:
    """Days whose bill was read late enough to be whole."""
    settles = dt.timedelta(hours=24 + settings.BILL_SETTLES_H)
    rows = BillDay.objects.filter(provider=provider, day__gte=first, day__lte=last)
    return {row.day for row in rows if row.imported_at >= bills.midnight(row.day) + settles}


def _over_midnight(found: dict[tuple[dt.date, str], Cell], settled: set[dt.date]) -> dict[tuple[dt.date, str], int]:
    """What each cell's bill has more, once calls that a bill counts on the day they ended are back on theirs.

    Only as much moves as ran over midnight, is missing on the one day and is too much on the next. While the next day's
    bill is not there it may still come, and so is not missed.
    """
    wanting = {place: cell.wanting_nanos for place, cell in found.items()}
    for (day, model), cell in sorted(found.items()):
        missing = min(-wanting[day, model], cell.late_nanos)
        if missing <= 0:
            continue
        beside = (day + _DAY, model)
        moved = missing
        if day + _DAY in settled:
            moved = min(missing, max(wanting.get(beside, 0), 0))
            if moved:
                wanting[beside] -= moved
        wanting[day, model] += moved
    return wanting


def _note(cell: Cell, done: booking.Done, report: Report) -> None:
    report.booked += done.booked
    report.closed += done.closed
    report.unexplained_nanos += abs(done.unexplained_nanos)
    for what, amount_nanos in (("unexplained", done.unexplained_nanos), ("price", done.disagrees_nanos)):
        if not amount_nanos:
            continue
        finding = {
            "what": what,
            "provider": cell.provider,
            "model": cell.model,
            "day": cell.day.isoformat(),
            "amount": money.decimal(amount_nanos),
            "billed": money.decimal(cell.billed_nanos),
            "charged": money.decimal(cell.wallet_nanos + cell.promo_nanos),
            "calls": cell.calls,
        }
        report.findings.append(finding)
        if what == "unexplained":
            log.error("a bill cannot be explained", **finding)
        else:
            log.error("a bill disagrees with the price list", **finding)
