"""T-19: for any price and quantity one rounding, half-even, within half a nano; shares and sums lose nothing."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from core import money
from imagesapi import estimates
from imagesapi.estimates import ATTOS_PER_NANO
from imagesapi.values import PriceLine

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
PRICES = st.integers(0, 10**13)
QUANTITIES = st.integers(0, 10**12)


def item(price_picos: int, quantity_micros: int) -> estimates.Item:
    line = PriceLine(
        id=1, meter="image", conditions={}, unit_price_picos=price_picos, basis="billed", valid_from=NOON,
        source="test", as_of=NOON.date(),
    )  # fmt: skip
    return estimates.item(line, quantity_micros, quantity_micros, estimated=False)


def total(*parts: list[estimates.Item]) -> estimates.Estimate:
    return estimates.total(list(parts), NOON, basis="actual", step_nanos=0)


@given(price=PRICES, quantity=QUANTITIES)
def test_it_is_never_further_than_half_a_nano_from_the_exact_price(price: int, quantity: int) -> None:
    found = total([item(price, quantity)])
    exact = min(price * quantity, money.MAX_NANOS * ATTOS_PER_NANO)
    assert 2 * abs(found.total_nanos * ATTOS_PER_NANO - exact) <= ATTOS_PER_NANO
    # So 10^8 charges are at most five cents away together.
    assert 10**8 * (ATTOS_PER_NANO // 2) <= 5 * money.NANOS_PER_CENT * ATTOS_PER_NANO


@given(price=PRICES, quantities=st.lists(st.integers(0, 10**9), min_size=1, max_size=10))
def test_splitting_a_request_into_its_images_sums_to_the_same(price: int, quantities: list[int]) -> None:
    whole = total([item(price, quantity) for quantity in quantities])
    split = total(*([item(price, quantity)] for quantity in quantities))
    assert whole.total_nanos == split.total_nanos
    assert whole.rounding.exact_attos == split.rounding.exact_attos == sum(price * quantity for quantity in quantities)


@given(numerator=st.integers(0, 10**30), denominator=st.integers(1, 10**15))
def test_ties_go_to_the_even_nano(numerator: int, denominator: int) -> None:
    found = money.divide_half_even(numerator, denominator)
    rest = numerator - found * denominator
    assert 2 * abs(rest) <= denominator
    if 2 * abs(rest) == denominator:
        assert found % 2 == 0


@given(weights=st.lists(st.integers(0, 10**15), min_size=1, max_size=50).filter(any), data=st.data())
def test_shares_add_up_and_none_is_above_its_weight(weights: list[int], data: st.DataObject) -> None:
    """How a credit is divided among those who were charged."""
    amount = data.draw(st.integers(0, sum(weights)))
    parts = money.share(amount, weights)
    assert sum(parts) == amount
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        assert 0 <= part <= weight
        assert abs(part * whole - amount * weight) < whole


@given(nanos=st.integers(-(10**18), 10**18))
def test_what_is_written_is_read_back(nanos: int) -> None:
    assert money.nearest_nanos(money.decimal(nanos)) == nanos == money.nanos(money.decimal(nanos))


@given(value=st.floats(0, 1e6, allow_nan=False))
def test_a_number_of_json_is_read_to_the_nearest_nano(value: float) -> None:
    found = money.nearest_nanos(repr(value))
    assert abs(found - value * 1e9) <= 0.5 + value * 1e-6
