"""T-03 and T-07: money for ten admits ten, however many ask at once, and a hold resolves exactly once."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any

import psycopg
import pytest
from django.db import connection

from accounts.models import Organization
from billing import ledger
from billing.models import Account, Hold, Limit, LimitUse
from core import ids, money
from tests import databases
from tests.money import customer, transfers_of, watched

CALLERS = 64
CONNECTIONS = 8
AFFORDABLE = 10
COST_NANOS = 7 * money.NANOS_PER_CENT


class Crowd:
    """Callers that start at the same moment, sharing a few connections of their own beside Django's."""

    def __init__(self, connections: list[psycopg.Connection[Any]]) -> None:
        self.connections = connections

    def hold(self, organization: Organization, *, key_id: int | None = None, callers: int = CALLERS) -> list[str]:
        """The verdicts of as many holds as there are callers."""
        return self.together(lambda line: hold(line, organization.pk, key_id), callers=callers)

    def together(self, *calls: Callable[[psycopg.Connection[Any]], str], callers: int = CALLERS) -> list[str]:
        """What each caller got; they do the calls in turn, the first caller the first one."""
        barrier = threading.Barrier(callers)

        def one(number: int) -> str:
            barrier.wait(20)
            return calls[number % len(calls)](self.connections[number % len(self.connections)])

        with ThreadPoolExecutor(callers) as pool:
            return list(pool.map(one, range(callers)))


def hold(line: psycopg.Connection[Any], organization_id: int, key_id: int | None = None) -> str:
    """Try to take one hold; the verdict."""
    parameters = {
        "id": ids.new(),
        "organization_id": organization_id,
        "key_id": key_id,
        "member_id": None,
        "hold_nanos": COST_NANOS,
        "promo_only": False,
    }
    found = line.execute(f"SELECT verdict FROM {ledger.HOLD}", parameters).fetchone()
    assert found is not None
    return str(found[0])


@pytest.fixture
def crowd(committed: None) -> Iterator[Crowd]:
    with ExitStack() as stack:
        name = str(connection.settings_dict["NAME"])
        yield Crowd([stack.enter_context(databases.connect(name)) for _ in range(CONNECTIONS)])


SPLIT = "promo and wallet, split within a hold"
FUNDED = {
    "wallet": {"wallet_nanos": AFFORDABLE * COST_NANOS + 1},
    "promo": {"promo_nanos": AFFORDABLE * COST_NANOS},
    SPLIT: {
        "promo_nanos": 4 * COST_NANOS + COST_NANOS // 3,
        "wallet_nanos": 6 * COST_NANOS - COST_NANOS // 3,
    },
}


def check_funds(crowd: Crowd, funds: dict[str, int], *, repeats: int, callers: int = CALLERS) -> None:
    """Each time exactly as many are admitted as the money is for, and no sample of the balance is negative."""
    with watched() as lowest:
        for _ in range(repeats):
            organization, _ = customer(**funds)
            verdicts = crowd.hold(organization, callers=callers)
            assert sorted(verdicts) == ["held"] * AFFORDABLE + ["insufficient"] * (callers - AFFORDABLE)
            assert 0 <= ledger.balance(organization.pk).available_nanos < COST_NANOS
    assert min(lowest) == 0
    assert len(lowest) > repeats


def test_it_admits_exactly_what_the_money_allows_twenty_times_of_twenty(crowd: Crowd) -> None:
    check_funds(crowd, FUNDED[SPLIT], repeats=20)


@pytest.mark.parametrize("name", ["wallet", "promo"])
def test_it_admits_exactly_what_one_account_allows(crowd: Crowd, name: str) -> None:
    check_funds(crowd, FUNDED[name], repeats=3)


@pytest.mark.prove
@pytest.mark.parametrize("name", FUNDED)
def test_it_admits_exactly_what_the_money_allows_at_full_size(crowd: Crowd, name: str) -> None:
    check_funds(crowd, FUNDED[name], repeats=20, callers=256)
    print(f"T-03 {name}: 20/20 runs of 256 callers admitted exactly {AFFORDABLE}, available never below 0")


def test_it_refuses_everyone_while_there_is_no_account_row(crowd: Crowd) -> None:
    organization, _ = customer()
    assert crowd.hold(organization) == ["insufficient"] * CALLERS
    assert not Account.objects.filter(organization=organization).exists()


def test_it_admits_no_more_when_the_first_credit_arrives_among_the_holds(crowd: Crowd) -> None:
    statement = "SELECT ledger_grant(%s, %s, %s, 'test')"
    for _ in range(4):
        organization, _ = customer()
        arguments = [organization.pk, AFFORDABLE * COST_NANOS, ids.new()]

        def credit(line: psycopg.Connection[Any], arguments: list[Any] = arguments) -> str:
            line.execute(statement, arguments)
            return "credited"

        def ask(line: psycopg.Connection[Any], organization_id: int = organization.pk) -> str:
            return hold(line, organization_id)

        verdicts = crowd.together(*[ask] * 5, credit, *[ask] * (CALLERS - 6))
        admitted = verdicts.count("held")
        assert admitted <= AFFORDABLE
        assert crowd.hold(organization).count("held") == AFFORDABLE - admitted
        assert ledger.balance(organization.pk).available_nanos == 0


def test_budgets_of_key_and_organization_hold_together(crowd: Crowd) -> None:
    """Two keys of one organization at once: each has a budget for 6, the organization for 10, the wallet is full."""
    for _ in range(4):
        organization, key = customer(wallet_nanos=1_000 * COST_NANOS)
        for scope, scope_id, affordable in (("organization", None, 10), ("key", key.row.pk, 6), ("key", -1, 6)):
            Limit.objects.create(
                organization=organization,
                scope=scope,
                scope_id=scope_id,
                meter="spend",
                window="month",
                cap=affordable * COST_NANOS + COST_NANOS // 2,
            )

        both = [partial(hold, organization_id=organization.pk, key_id=key_id) for key_id in (key.row.pk, -1)]
        verdicts = crowd.together(*both)
        assert (verdicts.count("held"), verdicts.count("limit")) == (10, 54)
        by_key = [verdicts[0::2].count("held"), verdicts[1::2].count("held")]
        assert max(by_key) <= 6
        for use in LimitUse.objects.filter(limit__organization=organization).select_related("limit"):
            assert use.used + use.held <= use.limit.cap


def test_the_number_that_run_at_once_is_a_limit_of_its_own(crowd: Crowd) -> None:
    organization, key = customer(wallet_nanos=1_000 * COST_NANOS)
    Limit.objects.create(
        organization=organization, scope="key", scope_id=key.row.pk, meter="in_flight", window="total", cap=AFFORDABLE
    )
    for _ in range(2):
        assert crowd.hold(organization, key_id=key.row.pk).count("held") == AFFORDABLE
        for hold in Hold.objects.filter(organization=organization, state="held"):
            ledger.void(hold.pk)


# T-07: post/post, post/void, and both against the sweeper


def _attempts(hold_id: uuid.UUID, kind: str) -> Callable[[psycopg.Connection[Any]], str]:
    """Settle or void, as one caller; the word is what became of the try."""
    parameters: dict[str, Any] = {"id": hold_id, "provider": "openai", "absorbed_nanos": 0}
    statement = f"SELECT {ledger.VOID}"
    if kind == "settle":
        statement = f"SELECT * FROM {ledger.SETTLE}"
        parameters |= {"cost_nanos": COST_NANOS - 5, "simulated": False}

    def attempt(line: psycopg.Connection[Any]) -> str:
        try:
            line.execute(statement, parameters)
        except psycopg.DatabaseError as error:
            return "too late" if error.sqlstate == "PX001" else str(error)
        return kind

    return attempt


@pytest.mark.parametrize("kinds", [("settle", "settle"), ("settle", "void"), ("void", "void")], ids="/".join)
def test_a_hold_resolves_once_however_many_try(crowd: Crowd, kinds: tuple[str, str]) -> None:
    organization, _ = customer(promo_nanos=20 * COST_NANOS)
    for _ in range(10):
        hold_id = ids.new()
        assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=COST_NANOS).held
        words = crowd.together(*[_attempts(hold_id, kind) for kind in kinds], callers=32)
        (resolved,) = set(words) - {"too late"}
        assert words.count(resolved) == 1
        assert transfers_of(hold_id) == ({"charge_promo": COST_NANOS - 5} if resolved == "settle" else {})
    assert ledger.balance(organization.pk).held_nanos == 0
