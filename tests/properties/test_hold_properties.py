"""M5: whatever a caller asks for, a hold is for something, and asking for more never holds less."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from imagesapi import pricing
from tests.imagesapi.offers import NOON, catalogue
from tests.properties.test_pricing_properties import Case, cases, relaxed

# The offline provider is free, and says so in the catalogue.
FREE = {name for name, offer in catalogue().items() if offer.provider == "mock"}


@relaxed
@given(case=cases([name for name in sorted(catalogue()) if name not in FREE]))
def test_a_hold_is_never_nothing(case: Case) -> None:
    assert pricing.worst_case(case.offer, case.fitted, NOON).total_nanos > 0


@relaxed
@given(case=cases(), more=st.integers(1, 10))
def test_more_pictures_never_hold_less(case: Case, more: int) -> None:
    fewer = dataclasses.replace(case.fitted, n=min(case.fitted.n, more))
    bigger = dataclasses.replace(case.fitted, n=max(case.fitted.n, more))
    held = [pricing.worst_case(case.offer, fitted, NOON).total_nanos for fitted in (fewer, bigger)]
    assert 0 <= held[0] <= held[1]
