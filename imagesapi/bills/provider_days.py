"""Charged and paid, added up by provider and day: what the public page is served from."""

from __future__ import annotations

import datetime as dt

from django.db import transaction

from imagesapi.bills import cells
from imagesapi.models import BillDay, Provider, ProviderDay

# Written anew every hour: requests of these days may still have been under way.
RECENT_DAYS = 3


@transaction.atomic
def write(provider: str, first: dt.date, last: dt.date) -> None:
    """One provider's days, whole and anew."""
    covered = set(
        BillDay.objects.filter(provider=provider, day__gte=first, day__lte=last).values_list("day", flat=True)
    )
    rows = [
        ProviderDay(
            provider=provider,
            model=cell.model,
            day=cell.day,
            calls=cell.calls,
            charged_wallet_nanos=cell.wallet_nanos,
            charged_promo_nanos=cell.promo_nanos,
            absorbed_nanos=cell.absorbed_nanos,
            bill_absorbed_nanos=cell.adjusted["bill_absorbed"],
            bill_credited_nanos=cell.adjusted["bill_credited"],
            true_up_nanos=cell.adjusted["true_up"],
            true_up_promo_nanos=cell.adjusted["true_up_promo"],
            billed_nanos=cell.billed_nanos if cell.day in covered else None,
            unknown_attempts=cell.unknown,
        )
        for cell in cells.read(provider, first, last).values()
    ]
    known = {(row.day, row.model) for row in rows}
    for old in ProviderDay.objects.filter(provider=provider, day__gte=first, day__lte=last):
        if (old.day, old.model) not in known:
            old.delete()
    fields = [field.name for field in ProviderDay._meta.concrete_fields if field.name != "id"]
    ProviderDay.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["provider", "model", "day"],
        update_fields=[name for name in fields if name not in ("provider", "model", "day")],
    )


def write_recent(today: dt.date) -> None:
    """The days that may still change by themselves."""
    for provider in Provider.objects.values_list("slug", flat=True):
        write(provider, today - dt.timedelta(days=RECENT_DAYS - 1), today)
