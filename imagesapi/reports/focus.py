"""Charges in the columns of FOCUS, the FinOps Foundation's form for billing data, as far as they are true for us."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.db import connection
from django.db.models import Q
from django.db.models.functions import Substr

from accounts.models import Organization
from core import ids, money, sql
from core.tables import Amount, Cell
from imagesapi.models import BillAdjustment, Generation, Model, Provider

ROWS_AT_ONCE = 500
COLUMNS = (
    *("BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "BillingCurrency"),
    *("BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd"),
    *("ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "PricingCategory"),
    *("ConsumedQuantity", "ConsumedUnit"),
    *("ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceCategory", "ServiceSubcategory", "ServiceName"),
    *("BillingAccountId", "BillingAccountName", "SubAccountId", "SubAccountName"),
    *("ResourceId", "ResourceType", "SkuId", "x_Provider", "x_Model", "x_PromoCost"),
)
_ISSUER = "Pixelpar"
_PROMO = """
    SELECT t.reference_id, t.amount_nanos FROM billing_transfer t
    WHERE t.reference_id = ANY(%(ids)s) AND t.reference_type = 'generation' AND t.kind = 'charge_promo'
"""


def rows(organization: Organization, since: dt.datetime, until: dt.datetime) -> Iterator[list[Sequence[Cell]]]:
    """One row for each charged request, then one for each amount that was credited back after a provider's bill."""
    context = _Names(organization)
    place, end = ids.first_of(int(since.timestamp() * 1000)), ids.first_of(int(until.timestamp() * 1000))
    mine = Generation.objects.filter(organization=organization, status="completed", cost_nanos__gt=0, simulated=False)
    mine = mine.select_related("api_key").only(
        *("id", "created_at", "finished_at", "model", "provider", "cost_nanos", "receipt"),
        *("api_key__public_id", "api_key__name"),
    )
    while True:
        with sql.reading(timeout_s=10):
            found = list(mine.filter(pk__gt=place, pk__lt=end).order_by("pk")[:ROWS_AT_ONCE])
            promo = _promo([row.pk for row in found])
        sql.give_back()
        if not found:
            break
        yield [_charge(row, promo.get(row.pk, 0), context) for row in found]
        place = found[-1].pk
    yield from _credits(organization, since, until, context)


class _Names:
    """What every row says of the organization, and names by slug."""

    def __init__(self, organization: Organization) -> None:
        self.account = (organization.slug, organization.name)
        self.providers = dict(Provider.objects.values_list("slug", "name"))
        self.creators = dict(Model.objects.values_list("slug", Substr("creator", 1, 80)))


def _promo(charged: list[Any]) -> dict[Any, int]:
    with connection.cursor() as cursor:
        cursor.execute(_PROMO, {"ids": charged})
        return dict(cursor.fetchall())


def _charge(row: Generation, promo_nanos: int, names: _Names) -> Sequence[Cell]:
    cost_nanos = row.cost_nanos or 0
    receipt: Mapping[str, Any] = row.receipt or {}
    listed = receipt.get("list_price", {}).get("total")
    lines = [str(item["price_line"]) for item in receipt.get("items", ()) if item.get("price_line")]
    key = row.api_key
    return (
        *_costs(cost_nanos - promo_nanos, cost_nanos, money.nanos(listed) if listed else cost_nanos),
        *_periods(row.created_at, row.finished_at or row.created_at),
        *("Usage", None, f"{row.model} at {names.providers.get(row.provider, row.provider)}"),
        *("Usage-Based", "Standard", receipt.get("sent", {}).get("n") or 1, "Images"),
        *_service(row.model, row.provider, names),
        *(*names.account, key.public_id if key else None, key.name if key else None),
        *(ids.public("req", row.pk), "Image request", " ".join(lines) or None),
        *(row.provider, row.model, Amount(promo_nanos)),
    )


def _credits(
    organization: Organization, since: dt.datetime, until: dt.datetime, names: _Names
) -> Iterator[list[Sequence[Cell]]]:
    mine = BillAdjustment.objects.filter(organization=organization, created_at__gte=since, created_at__lt=until)
    mine, place = mine.order_by("created_at", "pk"), Q()
    while True:
        with sql.reading(timeout_s=10):
            found = list(mine.filter(place)[:ROWS_AT_ONCE])
        sql.give_back()
        if not found:
            return
        yield [_credit(row, names) for row in found]
        last = found[-1]
        place = Q(created_at__gt=last.created_at) | Q(created_at=last.created_at, pk__gt=last.pk)


def _credit(row: BillAdjustment, names: _Names) -> Sequence[Cell]:
    paid_nanos = row.amount_nanos if row.kind == "true_up" else 0
    begin = dt.datetime.combine(row.day, dt.time(), dt.UTC)
    return (
        *_costs(-paid_nanos, -row.amount_nanos, -row.amount_nanos),
        *_periods(begin, begin + dt.timedelta(days=1), booked_at=row.created_at),
        *("Usage", "Correction", f"Credited back: {names.providers.get(row.provider, row.provider)} billed less"),
        *("Usage-Based", "Standard", None, None),
        *_service(row.model, row.provider, names),
        *(*names.account, None, None),
        *(f"txn_{row.pk}", "Correction", None),
        *(row.provider, row.model, Amount(paid_nanos - row.amount_nanos)),
    )


def _costs(paid_nanos: int, cost_nanos: int, listed_nanos: int) -> Sequence[Cell]:
    """What was taken from the paid balance; what it cost, granted credit included; what the provider's list says."""
    return Amount(paid_nanos), Amount(paid_nanos), Amount(cost_nanos), Amount(listed_nanos), "USD"


def _periods(begin: dt.datetime, end: dt.datetime, *, booked_at: dt.datetime | None = None) -> Sequence[Cell]:
    """The month it is on the statement of, then when it happened; periods end before they have an end."""
    month = (booked_at or end).astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = (month + dt.timedelta(days=32)).replace(day=1)
    return month, following, begin, max(end, begin + dt.timedelta(seconds=1))


def _service(model: str, provider: str, names: _Names) -> Sequence[Cell]:
    publisher = names.providers.get(provider, provider)
    return (_ISSUER, publisher, _ISSUER, "AI and Machine Learning", "Generative AI", names.creators.get(model) or model)
