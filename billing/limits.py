"""Limits of a key or an organization: what each is called outside, and the rows that every hold must fit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from django.db import transaction

from accounts.models import ApiKey, Organization
from billing.models import BudgetAlert, Limit
from core import money
from core.errors import InvalidRequest, UnknownParameter

COUNT_MAX = 1_000_000
SPEND_MAX_NANOS = 1_000_000 * money.NANOS_PER_USD
# By the name that callers use: what is counted, and in which window.
NAMES: Mapping[str, tuple[str, str]] = {
    "requests_per_minute": ("requests", "minute"),
    "concurrent": ("in_flight", "total"),
    "spend_day_usd": ("spend", "day"),
    "spend_month_usd": ("spend", "month"),
    "spend_total_usd": ("spend", "total"),
}
# Those that count dollars.
BUDGETS = tuple(name for name, (meter, _) in NAMES.items() if meter == "spend")
_BY_METER = {meter: name for name, meter in NAMES.items()}
_WORDS = {
    "requests_per_minute": "{} requests a minute",
    "concurrent": "{} at a time",
    "spend_day_usd": "${} a day",
    "spend_month_usd": "${} a month",
    "spend_total_usd": "${} in all",
}


def parse(document: object, *, within: str = "limits.") -> dict[str, int]:
    """Limits as a caller writes them; null is none. `within` is where in the body they stand, for the errors' `param`.
    Raises InvalidRequest and its kinds."""
    if not isinstance(document, dict):
        raise InvalidRequest("'limits' must be an object.", param="limits", code="invalid_type")
    for name in document:
        if name not in NAMES:
            raise UnknownParameter(
                f"There is no limit {str(name)[:40]!r}; there are {', '.join(NAMES)}.", param="limits"
            )
    return {name: _cap(name, value, f"{within}{name}") for name, value in document.items() if value is not None}


def _cap(name: str, value: object, param: str) -> int:
    if NAMES[name][0] == "spend":
        return _nanos(name, value, param)
    rule = f"'{name}' must be an integer from 1 to {COUNT_MAX}."
    if isinstance(value, bool | str | list | dict):
        raise InvalidRequest(rule, param=param, code="invalid_type")
    if not isinstance(value, int) or not 1 <= value <= COUNT_MAX:  # a very large integer is read as a double
        raise InvalidRequest(rule, param=param)
    return value


def _nanos(name: str, value: object, param: str) -> int:
    most = SPEND_MAX_NANOS // money.NANOS_PER_USD
    rule = f"'{name}' must be dollars above 0 and up to {most}, such as \"25.00\", with at most 9 decimal places."
    if isinstance(value, bool | list | dict):
        raise InvalidRequest(rule, param=param, code="invalid_type")
    try:
        amount_nanos = money.nanos_from_json(value)
        if not 0 < amount_nanos <= SPEND_MAX_NANOS:
            raise ValueError
    except ValueError as error:
        raise InvalidRequest(rule, param=param) from error
    return amount_nanos


def replace(key: ApiKey, wanted: Mapping[str, int]) -> None:
    """Make these the key's limits, and no others; from the next hold on."""
    _replace(key.organization_id, "key", key.pk, wanted)


def replace_for_organization(organization: Organization, wanted: Mapping[str, int]) -> None:
    """Make these the limits of everything the organization does, and no others."""
    _replace(organization.pk, "organization", None, wanted)


def replace_budgets(organization_id: int, *, scope: str, scope_id: int | None, wanted: Mapping[str, int]) -> None:
    """Make these the dollars that a scope may spend, and leave its rates as they are."""
    _replace(organization_id, scope, scope_id, wanted, names=BUDGETS)


def _replace(
    organization_id: int, scope: str, scope_id: int | None, wanted: Mapping[str, int], names: Iterable[str] = NAMES
) -> None:
    whose = {"organization_id": organization_id, "scope": scope, "scope_id": scope_id}
    with transaction.atomic():
        there = {
            (row.meter, row.window): row for row in Limit.objects.filter(**whose).order_by("pk").select_for_update()
        }
        for name in names:
            meter, window = NAMES[name]
            row, cap = there.get((meter, window)), wanted.get(name)
            if row is None and cap is not None:
                # Somebody else may make it at the same moment.
                row, _ = Limit.objects.get_or_create(**whose, meter=meter, window=window, defaults={"cap": cap})
            if row is not None and cap != (row.cap if row.active else None):
                _change(row, cap)


def _change(row: Limit, cap: int | None) -> None:
    """Another size, or none: what is running took from it and gives back to it. Its end is told of again."""
    BudgetAlert.objects.filter(limit=row).delete()
    same = {} if cap is None else {"cap": cap}
    Limit.objects.filter(pk=row.pk).update(active=cap is not None, refused_at=None, **same)


def of(key_ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Every limit of each key by its name outside, dollars as decimal strings, None where there is none."""
    found: dict[int, dict[str, Any]] = {key_id: dict.fromkeys(NAMES) for key_id in key_ids}
    rows = Limit.objects.filter(scope="key", scope_id__in=list(key_ids), active=True)
    for row in rows:
        shown = money.decimal(row.cap) if row.meter == "spend" else row.cap
        found[row.scope_id or 0][_BY_METER[row.meter, row.window]] = shown
    return found


def in_words(limits: Mapping[str, Any]) -> list[str]:
    """What a page says about a key's limits."""
    return [words.format(limits[name]) for name, words in _WORDS.items() if limits[name] is not None]
