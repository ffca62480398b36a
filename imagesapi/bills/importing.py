"""Keeping bills: each line once, a line that is told anew as its next revision, and which days are covered."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from imagesapi.bills import Bill, BillError, Line
from imagesapi.models import BillDay, BillLine, Offer, Provider

_BATCH = 5_000
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")


@dataclass(slots=True)
class Imported:
    """What an import did."""

    new: int = 0
    revised: int = 0
    known: int = 0
    unnamed: int = 0  # of all lines, those that name nothing that is offered here
    days: int = 0


@transaction.atomic
def keep(provider: str, bill: Bill) -> Imported:
    """Store a bill. Raises BillError for an unknown provider, or a day that another source has told already."""
    if not Provider.objects.filter(slug=provider).exists():
        raise BillError(f"There is no provider {provider!r}.")
    taken = BillDay.objects.select_for_update().filter(provider=provider, day__in=bill.days)
    for day in taken.exclude(source=bill.source).order_by("day")[:1]:
        raise BillError(
            f"{day.day} of {provider} was read from {day.source} already: the same cost would be counted twice."
        )
    now = timezone.now()
    models, done = _models(provider), Imported(days=len(bill.days))
    for start in range(0, len(bill.lines), _BATCH):
        _keep(provider, bill.source, bill.lines[start : start + _BATCH], models, done)
    if bill.is_whole:
        _take_back(provider, bill, done)
    covered = [BillDay(provider=provider, day=day, source=bill.source, imported_at=now) for day in sorted(bill.days)]
    BillDay.objects.bulk_create(
        covered, update_conflicts=True, unique_fields=["provider", "day"], update_fields=["imported_at"]
    )
    return done


def _keep(provider: str, source: str, lines: list[Line], models: dict[str, str], done: Imported) -> None:
    keys = [line.key for line in lines]
    known: dict[str, BillLine] = {}
    for row in BillLine.objects.filter(provider=provider, source=source, source_key__in=keys).order_by("revision"):
        known[row.source_key] = row
    added = []
    for line in lines:
        model, before = _model(line, models), known.get(line.key)
        done.unnamed += not model
        if before and (before.amount_nanos, before.model, before.day) == (line.amount_nanos, model, line.day):
            done.known += 1
            continue
        done.revised += before is not None
        done.new += before is None
        added.append(
            BillLine(
                provider=provider,
                source=source,
                source_key=line.key,
                revision=before.revision + 1 if before else 1,
                day=line.day,
                model=model,
                line_item=line.item,
                provider_request_id=line.request_id,
                amount_nanos=line.amount_nanos,
                told=line.told,
            )
        )
    BillLine.objects.bulk_create(added)


def _take_back(provider: str, bill: Bill, done: Imported) -> None:
    """Lines of these days that are not told any more come to nothing."""
    told = {line.key for line in bill.lines}
    latest = (
        BillLine.objects.filter(provider=provider, source=bill.source, day__in=bill.days)
        .order_by("source_key", "-revision")
        .distinct("source_key")
    )
    gone = [row for row in latest if row.source_key not in told and row.amount_nanos]
    for row in gone:
        row.pk, row.revision, row.amount_nanos, row.told = None, row.revision + 1, 0, "no longer told"
        row._state.adding = True
    BillLine.objects.bulk_create(gone)
    done.revised += len(gone)


def _models(provider: str) -> dict[str, str]:
    """Our slugs by what the provider calls its models."""
    found: dict[str, str] = {}
    for offer in Offer.objects.filter(provider__slug=provider).select_related("model"):
        for name in (offer.wire_id, offer.edit_wire_id, offer.model.slug):
            if name:
                found.setdefault(name.lower(), offer.model.slug)
    return found


def _model(line: Line, models: dict[str, str]) -> str:
    name = line.wire_id.lower()
    return models.get(name) or models.get(_DATED.sub("", name), "")


def default_days(today: dt.date) -> tuple[dt.date, dt.date]:
    """What is fetched when nothing is said: the last week, up to yesterday."""
    return today - dt.timedelta(days=7), today - dt.timedelta(days=1)


def fetched_by_itself() -> list[str]:
    """The providers whose bill is read every day: those for which an administrator's key is set."""
    keys = {"openai": settings.OPENAI_ADMIN_KEY, "fal": settings.FAL_ADMIN_KEY}
    return [provider for provider, key in keys.items() if key]
