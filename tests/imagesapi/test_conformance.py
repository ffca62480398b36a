"""T-30: whatever is sent by whomever, the API answers what its document says, and never with a fault of ours."""

from __future__ import annotations

import pytest

from tests.fakes.providers import ProviderFake


def test_it_answers_as_documented(committed: None, providers: ProviderFake) -> None:
    from tests import conformance  # takes a third of a second, and every process of the suite would

    world = conformance.build()
    conformance.run(world, examples=2)
    assert not world.failures, "\n\n".join(world.failures)
    assert world.cases > 120


@pytest.mark.prove
def test_it_answers_as_documented_twenty_thousand_times(committed: None, providers: ProviderFake) -> None:
    from tests import conformance

    world = conformance.build()
    conformance.run(world, examples=270)
    print(f"\n{world.cases} cases, {len(world.failures)} violations; by status {world.by_status()}")
    assert not world.failures, "\n\n".join(world.failures)
    assert world.cases >= 20_000
