"""T-08: a process killed at any step of a request, or of the recovery after it, loses no money and no picture."""

from __future__ import annotations

from imagesapi import store
from tests import money
from tests.fakes.providers import ProviderFake
from tests.imagesapi import steps
from tests.imagesapi.steps import STEPS
from tests.victims import Victims


def test_every_point_of_the_source_has_a_step_here() -> None:
    assert steps.points() == set(STEPS)


def test_a_kill_at_any_point_of_a_request_or_of_its_recovery_loses_nothing(
    victims: Victims, fake: ProviderFake
) -> None:
    cases = [begin_and_kill(victims, fake, point) for point, step in STEPS.items() if not step.first]
    steps.wait_for_leases()
    victims.sweep()
    for point in [point for point, step in STEPS.items() if step.first]:
        case = steps.begin(fake, point)
        assert steps.request(victims, case, f"kill@{case.step.first}").killed
        steps.expire_leases()
        assert victims.sweep(fault=f"kill@{point}").killed, point
        cases.append(case)
    steps.expire_leases()
    victims.sweep()
    assert [wrong for case in cases for wrong in case.wrongs()] == []
    assert money.wrongs() == []
    steps.drop_leftovers(victims)
    assert list(store.waiting_results()) == []


def begin_and_kill(victims: Victims, fake: ProviderFake, point: str) -> steps.Case:
    case = steps.begin(fake, point)
    assert steps.request(victims, case, f"kill@{point}").killed, point
    return case
