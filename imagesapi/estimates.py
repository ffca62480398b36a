"""The items of an estimate or a receipt, and how they add up: exactly, rounded by the provider, then once by us."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from core import money
from imagesapi.values import PriceLine

# Micro-units times pico-USD is the exact unit (10^-18 USD) in which items are added before the one rounding.
ATTOS_PER_NANO = money.MICROS_PER_UNIT * money.PICOS_PER_NANO

Basis = Literal["worst_case", "expected", "actual"]


@dataclass(frozen=True, slots=True)
class Item:
    """One line of an estimate or a receipt. `estimated` marks a quantity that no provider reported."""

    meter: str
    quantity_micros: int
    billable_quantity_micros: int
    unit_price_picos: int
    price_line_id: int
    source: str
    as_of: dt.date
    conditions: Mapping[str, str] = field(default_factory=dict)
    estimated: bool = False

    @property
    def amount_attos(self) -> int:
        """The exact amount, before any rounding."""
        return self.billable_quantity_micros * self.unit_price_picos


@dataclass(frozen=True, slots=True)
class Rounding:
    """From the exact sum to the charge: the provider's own rounding first, then ours to the nano-dollar."""

    exact_attos: int
    provider_step_nanos: int  # 0 when the provider does not round
    after_provider_attos: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The items of one request at one offer, their total, and the rounding between the two."""

    basis: Basis
    items: tuple[Item, ...]
    rounding: Rounding
    total_nanos: int
    at: dt.datetime
    list_price: Estimate | None = None  # where the provider told the cost itself: what its prices come to


def item(line: PriceLine, quantity: int, billable: int, *, estimated: bool) -> Item:
    return Item(
        meter=line.meter,
        quantity_micros=quantity,
        billable_quantity_micros=billable,
        unit_price_picos=line.unit_price_picos,
        price_line_id=line.id,
        source=line.source,
        as_of=line.as_of,
        conditions=line.conditions,
        estimated=estimated,
    )


def told_item(picos: int, share_micros: int, *, by: str, on: dt.date) -> Item:
    """The cost as a provider told it, for the share of it that was delivered."""
    return Item(
        meter="reported",
        quantity_micros=share_micros,
        billable_quantity_micros=share_micros,
        unit_price_picos=picos,
        price_line_id=0,
        source=f"cost as reported by {by}",
        as_of=on,
    )


def ceiling_item(picos: int, quantity_micros: int, *, on: dt.date) -> Item:
    """What is held for given pictures whose price only the provider's own bill tells."""
    return Item(
        meter="input_image",
        quantity_micros=quantity_micros,
        billable_quantity_micros=quantity_micros,
        unit_price_picos=picos,
        price_line_id=0,
        source="a ceiling stated by the catalogue",
        as_of=on,
        estimated=True,
    )


def merged(items: Iterable[Item]) -> list[Item]:
    """Items at the same price in one line."""
    found: dict[tuple[str, int, bool], Item] = {}
    for one in items:
        key = (one.meter, one.price_line_id, one.estimated)
        found[key] = _sum(found[key], one) if key in found else one
    return list(found.values())


def _sum(one: Item, other: Item) -> Item:
    return replace(
        one,
        quantity_micros=one.quantity_micros + other.quantity_micros,
        billable_quantity_micros=one.billable_quantity_micros + other.billable_quantity_micros,
    )


def total(parts: list[list[Item]], at: dt.datetime, *, basis: Basis, step_nanos: int) -> Estimate:
    """Add up exactly, round each call (a part) up to the provider's step, then once to the nano-dollar."""
    sums = [sum(item.amount_attos for item in part) for part in parts]
    rounded = sum(money.round_up(value, step_nanos * ATTOS_PER_NANO) if step_nanos else value for value in sums)
    return Estimate(
        basis=basis,
        items=tuple(parts[0] if len(parts) == 1 else merged(item for part in parts for item in part)),
        rounding=Rounding(exact_attos=sum(sums), provider_step_nanos=step_nanos, after_provider_attos=rounded),
        total_nanos=min(money.divide_half_even(rounded, ATTOS_PER_NANO), money.MAX_NANOS),
        at=at,
    )
