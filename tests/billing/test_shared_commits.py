"""Holds and settlements that share commits: two processes never wait for each other in a circle, and the sums hold."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django.db import connection
from psycopg_pool import ConnectionPool

from accounts.models import Organization
from billing import ledger
from billing.models import Hold, Limit, LimitUse
from core import ids, libpq, money, sql
from tests.money import customer

COST_NANOS = money.NANOS_PER_CENT
CALLERS = 10
ROUNDS = 20
KEYS = (101, 102, 103)
MEMBERS = (201, 202)


class Trips:
    """How many statements went in each trip of several, and how many trips failed: of several, and of one."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.failed = 0

    def run_together(self, raw: Any, several: Sequence[libpq.Bound]) -> list[libpq.Row | None] | None:
        rows = run_together(raw, several)
        self.sizes.append(len(several) - 1)
        self.failed += rows is None
        return rows

    def run_once(self, raw: Any, bound: libpq.Bound) -> libpq.Row | None:
        try:
            return run_once(raw, bound)
        except BaseException:
            self.failed += 1
            raise


run_together, run_once = libpq.run_together, libpq._run_once


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    found = Trips()
    monkeypatch.setattr(libpq, "run_together", found.run_together)
    monkeypatch.setattr(libpq, "_run_once", found.run_once)
    return found


@pytest.fixture
def two_processes(committed: None) -> Iterator[list[sql._Ways]]:
    """What two web processes have, each with connections of its own."""
    parameters = {**connection.get_connection_params(), "autocommit": True}
    with ExitStack() as stack:
        pools = [ConnectionPool(kwargs=parameters, min_size=1, max_size=4, open=False, timeout=20) for _ in range(2)]
        yield [sql._Ways(stack.enter_context(pool)) for pool in pools]


def _limit(organization: Organization, scope: str, scope_id: int | None, meter: str) -> None:
    window = {"spend": "month", "requests": "minute", "in_flight": "total"}[meter]
    Limit.objects.create(
        organization=organization, scope=scope, scope_id=scope_id, meter=meter, window=window, cap=10**12
    )


def _spend(ways: sql._Ways, organization: Organization, chance: random.Random) -> None:
    """One request: a hold of something, or of nothing as with a provider key of one's own, and what comes of it."""
    nanos = chance.choice((0, COST_NANOS, COST_NANOS, COST_NANOS))
    locks = ledger.locks(organization.pk, hold_nanos=nanos)
    hold_id = ids.new()

    def ask(statement: str, **parameters: Any) -> libpq.Row | None:
        return ways.row(libpq.bind(statement, {"id": hold_id, "provider": "openai", **parameters}), locks)

    held = ask(
        f"SELECT verdict FROM {ledger.HOLD}",
        organization_id=organization.pk,
        key_id=chance.choice(KEYS),
        member_id=chance.choice(MEMBERS),
        hold_nanos=nanos,
        promo_only=False,
    )
    assert held == ("held",)
    if chance.random() < 0.2:
        ask(f"SELECT {ledger.VOID}", absorbed_nanos=0)
    else:
        cost_nanos = nanos * 9 // 10
        settled = ask(f"SELECT * FROM {ledger.SETTLE}", cost_nanos=cost_nanos, simulated=False, absorbed_nanos=0)
        assert settled == (cost_nanos, 0)


def test_of_two_processes_none_waits_in_a_circle(two_processes: list[sql._Ways], trips: Trips) -> None:
    """Promo runs out on the way, so some take it, some both and some the wallet; limits come in any order of ids."""
    organizations = [customer(promo_nanos=60 * COST_NANOS, wallet_nanos=900 * COST_NANOS)[0] for _ in range(3)]
    for organization in organizations:
        scopes = [("key", number) for number in KEYS] + [("member", number) for number in MEMBERS]
        random.Random(organization.pk).shuffle(scopes)
        for scope, scope_id in scopes:
            for meter in ("spend", "in_flight", "requests"):
                _limit(organization, scope, scope_id, meter)
    start = threading.Barrier(2 * CALLERS)

    def call(number: int) -> None:
        chance = random.Random(number)
        start.wait(20)
        for _ in range(ROUNDS):
            _spend(two_processes[number % 2], chance.choice(organizations), chance)

    with ThreadPoolExecutor(2 * CALLERS) as callers:
        list(callers.map(call, range(2 * CALLERS)))

    assert trips.failed == 0
    assert max(trips.sizes) > 3
    assert Hold.objects.exclude(state="held").count() == Hold.objects.count() == 2 * CALLERS * ROUNDS
    assert not LimitUse.objects.exclude(held=0).exists()
    assert ledger.verify().differences == ()
