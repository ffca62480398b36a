"""The public proof: what was charged and what providers were paid, by provider and day, from the daily sums."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.db.models import Sum

from core import errors, money, query
from imagesapi.models import Provider, ProviderDay, Reconciliation

DAYS_DEFAULT = 30
DAYS_MAX = 92
_TAKES = ("from", "to")
_SUMMED = (
    *("calls", "charged_wallet_nanos", "charged_promo_nanos", "absorbed_nanos", "bill_absorbed_nanos"),
    *("bill_credited_nanos", "true_up_nanos", "true_up_promo_nanos", "billed_nanos", "unknown_attempts"),
)


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some calls. Charged and carried, less what was credited back, is what the ledger owes the provider."""

    calls: int = 0
    # From what people paid in, and from credit that was granted to them.
    charged_wallet_nanos: int = 0
    charged_promo_nanos: int = 0
    carried_nanos: int = 0
    credited_nanos: int = 0
    # Of these, what customers got back to their paid balance.
    credited_wallet_nanos: int = 0
    # The provider's bill, as far as it covers the days; and what the ledger owes for the same days.
    billed_nanos: int = 0
    owed_for_billed_nanos: int = 0
    days_without_bill: int = 0
    unknown_attempts: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    @property
    def charged_nanos(self) -> int:
        return self.charged_wallet_nanos + self.charged_promo_nanos

    @property
    def paid_by_customers_nanos(self) -> int:
        """From their own money: granted credit is the platform's."""
        return self.charged_wallet_nanos - self.credited_wallet_nanos

    @property
    def owed_nanos(self) -> int:
        return self.charged_nanos + self.carried_nanos - self.credited_nanos

    @property
    def difference_nanos(self) -> int:
        """What is left between the ledger and the bill."""
        return self.owed_for_billed_nanos - self.billed_nanos

    @property
    def is_billed(self) -> bool:
        return not self.days_without_bill

    def as_dict(self) -> dict[str, Any]:
        return {
            "calls": self.calls,
            "charged": money.decimal(self.charged_nanos),
            "charged_from_promo": money.decimal(self.charged_promo_nanos),
            "paid_by_customers": money.decimal(self.paid_by_customers_nanos),
            "carried_by_platform": money.decimal(self.carried_nanos),
            "credited_back": money.decimal(self.credited_nanos),
            "owed_to_provider": money.decimal(self.owed_nanos),
            "billed_by_provider": money.decimal(self.billed_nanos) if self.is_billed else None,
            "difference": money.decimal(self.difference_nanos) if self.is_billed else None,
            "unknown_attempts": self.unknown_attempts,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """Some days, newest first, by provider, and their totals."""

    first: dt.date
    last: dt.date
    rows: list[tuple[dt.date, str, Sums]]
    by_provider: dict[str, Sums]
    total: Sums
    reconciled: Reconciliation | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "object": "zero_markup",
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "timezone": "UTC",
            "currency": "usd",
            "last_reconciled_at": int(self.reconciled.created_at.timestamp()) if self.reconciled else None,
            "unexplained": money.decimal(self.reconciled.unexplained_nanos) if self.reconciled else None,
            "total": self.total.as_dict(),
            "providers": [{"provider": slug, **sums.as_dict()} for slug, sums in self.by_provider.items()],
            "days": [{"day": day.isoformat(), "provider": slug, **sums.as_dict()} for day, slug, sums in self.rows],
        }


def report(asked: Any) -> Report:
    """The days a query string asks for. Raises InvalidRequest."""
    query.check_known(asked, _TAKES, takes=_TAKES)
    today = dt.datetime.now(dt.UTC).date()
    last = query.day(asked, "to") or today
    first = query.day(asked, "from") or last - dt.timedelta(days=DAYS_DEFAULT - 1)
    if not 0 <= (last - first).days < DAYS_MAX:
        raise errors.InvalidRequest(f"'from' must be at most {DAYS_MAX - 1} days before 'to'.", param="from")
    rows = _rows(first, last)
    by_provider: dict[str, Sums] = {}
    for _, slug, sums in rows:
        by_provider[slug] = by_provider.get(slug, Sums()) + sums
    return Report(
        first,
        last,
        rows,
        dict(sorted(by_provider.items())),
        sum(by_provider.values(), Sums()),
        Reconciliation.objects.order_by("-pk").first(),
    )


def names() -> dict[str, str]:
    """Providers' names by slug."""
    return dict(Provider.objects.values_list("slug", "name"))


def _rows(first: dt.date, last: dt.date) -> list[tuple[dt.date, str, Sums]]:
    sums = {name: Sum(name) for name in _SUMMED}
    # What names nothing that is offered here is the operator's other use of the account.
    days = ProviderDay.objects.filter(day__gte=first, day__lte=last).exclude(model="")
    found = []
    summed: Iterable[Mapping[str, Any]] = days.values("day", "provider").annotate(
        **{f"s_{name}": one for name, one in sums.items()}
    )
    for row in summed:
        value = {name: row[f"s_{name}"] or 0 for name in sums}
        is_billed = row["s_billed_nanos"] is not None
        one = Sums(
            calls=value["calls"],
            charged_wallet_nanos=value["charged_wallet_nanos"],
            charged_promo_nanos=value["charged_promo_nanos"],
            carried_nanos=value["absorbed_nanos"] + value["bill_absorbed_nanos"] - value["bill_credited_nanos"],
            credited_nanos=value["true_up_nanos"] + value["true_up_promo_nanos"],
            credited_wallet_nanos=value["true_up_nanos"],
            billed_nanos=value["billed_nanos"],
            days_without_bill=int(not is_billed),
            unknown_attempts=value["unknown_attempts"],
        )
        owed = Sums(owed_for_billed_nanos=one.owed_nanos if is_billed else 0)
        found.append((row["day"], row["provider"], one + owed))
    return sorted(found, key=lambda entry: (-entry[0].toordinal(), entry[1]))
