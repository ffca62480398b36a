"""M7: visitors without a key spend the platform's credit, each a little, and all together never above the day's cap."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from typing import Any

import pytest
import time_machine
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization
from billing import grants, ledger, playground, tasks
from billing.models import DailyCount, Grant, Hold, Transfer
from billing.playground import Visitor
from core import clients, errors, ids, money
from tests.billing.test_concurrency import Crowd, crowd, hold  # noqa: F401 - a fixture

CENT = money.NANOS_PER_CENT
CAP = 100 * CENT
DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.PLAYGROUND_DAILY_NANOS = CAP
    settings.PLAYGROUND_REQUEST_NANOS = 2 * CENT
    settings.PLAYGROUND_PER_COOKIE = 3
    settings.PLAYGROUND_PER_ADDRESS = 5


def visitor(number: int = 1, cookie: str | None = None) -> Visitor:
    return Visitor(clients.parse(f"198.51.{number // 250}.{number % 250 + 1}"), cookie)


def ask(who: Visitor, amount_nanos: int = CENT, **asked: Any) -> Any:
    hold_id = ids.new()
    assert playground.hold(hold_id, who, amount_nanos=amount_nanos, asked=asked).held
    return hold_id


def spent() -> int:
    rows = Transfer.objects.filter(kind="charge_promo", debit_account__organization__is_platform=True)
    return sum(rows.values_list("amount_nanos", flat=True))


def available() -> int:
    return ledger.balance(playground.organization().pk).available_nanos


def next_day() -> None:
    """Everything of today becomes yesterday's."""
    Grant.objects.update(expires_at=timezone.now() - dt.timedelta(seconds=1))
    with connection.cursor() as cursor:
        cursor.execute("UPDATE billing_limituse SET starts_at = starts_at - interval '1 day'")
        cursor.execute("UPDATE billing_dailycount SET day = day - 1")


@pytest.mark.django_db
def test_it_belongs_to_nobody_and_exists_once() -> None:
    mine = playground.organization()
    assert playground.organization() == mine
    assert (mine.memberships.count(), mine.api_keys.count()) == (0, 0)
    assert Organization.objects.filter(is_platform=True).count() == 1


@pytest.mark.django_db
def test_a_day_is_funded_once_however_often_it_is_asked_for() -> None:
    assert [playground.fund() for _ in range(3)] == [CAP, 0, 0]
    ledger.settle(ask(visitor()), cost_nanos=CENT, provider="mock")
    tasks.fund_playground(0)
    assert available() == CAP - CENT


@pytest.mark.django_db
def test_yesterdays_rest_expires_and_what_is_still_held_counts() -> None:
    playground.fund()
    ledger.settle(ask(visitor(1)), cost_nanos=CENT, provider="mock")
    running = ask(visitor(2), 2 * CENT)
    next_day()
    with time_machine.travel(timezone.now() + DAY, tick=False):
        playground.fund()
    expired = Transfer.objects.filter(kind="grant_expired").values_list("amount_nanos", flat=True)
    assert list(expired) == [CAP - 3 * CENT]
    assert ledger.balance(playground.organization().pk).promo_nanos == CAP
    ledger.void(running)
    assert available() == CAP
    assert grants.lots(playground.organization().pk)[0].remaining_nanos == 2 * CENT


@pytest.mark.django_db
def test_a_cap_that_is_lowered_or_raised_holds_at_once(settings: Any) -> None:
    playground.fund()
    for number in range(10):
        ledger.settle(ask(visitor(number), 2 * CENT), cost_nanos=2 * CENT, provider="mock")
    settings.PLAYGROUND_DAILY_NANOS = 21 * CENT
    playground.fund()
    ask(visitor(20))
    with pytest.raises(errors.PlaygroundClosed):
        ask(visitor(21))
    settings.PLAYGROUND_DAILY_NANOS = 150 * CENT
    assert playground.fund() == 70 * CENT
    verdicts = [
        ledger.hold(ids.new(), organization_id=playground.organization().pk, amount_nanos=CENT).held for _ in range(140)
    ]
    assert verdicts.count(True) == 150 - 21


@pytest.mark.django_db
def test_without_a_cap_there_is_nothing_to_spend(settings: Any) -> None:
    playground.fund()
    settings.PLAYGROUND_DAILY_NANOS = 0
    assert playground.fund() == 0
    with pytest.raises(errors.PlaygroundClosed) as refused:
        ask(visitor())
    assert (refused.value.status, refused.value.error_code) == (429, "playground_closed")
    assert 1 <= int(refused.value.headers()["Retry-After"]) < 60


@pytest.mark.django_db
def test_a_browser_and_an_address_have_a_few_a_day() -> None:
    playground.fund()
    for _ in range(3):
        ask(visitor(1, "anna"))
    with pytest.raises(errors.TooManyRequests):
        ask(visitor(1, "anna"))
    ask(visitor(1, "berta"))
    with pytest.raises(errors.TooManyRequests, match="in a day without a key"):
        ask(visitor(1, "clara"))
    ask(visitor(2))
    assert Hold.objects.count() == 5
    assert not any("198.51" in name or "anna" in name for name in DailyCount.objects.values_list("name", flat=True))
    next_day()
    playground.fund()
    with time_machine.travel(timezone.now() + DAY, tick=False):
        playground.fund()
    ask(visitor(1, "anna"))


@pytest.mark.django_db
def test_neighbours_in_one_ipv6_network_are_one_visitor() -> None:
    playground.fund()
    for number in range(5):
        ask(Visitor(clients.parse(f"2001:db8::{number + 1}")))
    with pytest.raises(errors.TooManyRequests):
        ask(Visitor(clients.parse("2001:db8::ffff")))
    ask(Visitor(clients.parse("2001:db8:0:1::1")))


@pytest.mark.django_db
def test_a_visitor_buys_nothing_expensive() -> None:
    playground.fund()
    with pytest.raises(errors.InvalidRequest, match=r"up to \$0\.02, and this one could cost \$0\.03"):
        ask(visitor(), 3 * CENT)
    assert not DailyCount.objects.exists()


@pytest.mark.django_db
def test_other_rooms_say_what_visitors_may_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "_checks", [])

    def small_only(asked: Mapping[str, Any]) -> None:
        if asked.get("size") != "512x512":
            raise errors.InvalidRequest("Without a key pictures are 512x512.", param="size")

    for _ in range(2):
        playground.register_check(small_only)
    assert playground._checks == [small_only]
    playground.fund()
    ask(visitor(), size="512x512")
    with pytest.raises(errors.InvalidRequest, match="pictures are 512x512"):
        ask(visitor(), size="4096x4096")
    assert Hold.objects.count() == 1


def last_cent(crowd: Crowd, *, callers: int, repeats: int) -> None:  # noqa: F811
    """Everybody asks for the last cent of the day at the same moment: one gets it."""
    for repeat in range(repeats):
        playground.fund()
        mine = playground.organization().pk
        ledger.settle(_held(mine, CAP - CENT), cost_nanos=CAP - CENT, provider="mock")
        barrier = threading.Barrier(callers)

        def one(number: int, mine: int = mine, barrier: threading.Barrier = barrier) -> str:
            barrier.wait(60)
            line = crowd.connections[number % len(crowd.connections)]
            parameters = {
                "id": ids.new(),
                "organization_id": mine,
                "key_id": None,
                "member_id": None,
                "hold_nanos": CENT,
                "promo_only": False,
            }
            found = line.execute(f"SELECT verdict FROM {ledger.HOLD}", parameters).fetchone()
            return str(found[0]) if found else ""

        with ThreadPoolExecutor(callers) as pool:
            verdicts = list(pool.map(one, range(callers)))
        assert verdicts.count("held") == 1, f"run {repeat}"
        (last,) = Hold.objects.filter(state="held")
        ledger.settle(last.pk, cost_nanos=CENT, provider="mock")
        assert (spent(), available()) == (CAP, 0)
        # However much credit there is, the day's cap is a budget of its own.
        ledger.grant(mine, amount_nanos=CAP, reason="too much", reference=ids.new())
        assert not ledger.hold(ids.new(), organization_id=mine, amount_nanos=1).held
        _start_over()


def _held(organization_id: int, amount_nanos: int) -> Any:
    hold_id = ids.new()
    assert ledger.hold(hold_id, organization_id=organization_id, amount_nanos=amount_nanos).held
    return hold_id


def _start_over() -> None:
    """The next run has a platform of its own."""
    Organization.objects.filter(is_platform=True).update(is_platform=False)


def test_a_crowd_at_the_last_cent_never_spends_above_the_cap(crowd: Crowd) -> None:  # noqa: F811
    last_cent(crowd, callers=64, repeats=2)


@pytest.mark.prove
def test_a_crowd_at_the_last_cent_never_spends_above_the_cap_at_full_size(crowd: Crowd) -> None:  # noqa: F811
    last_cent(crowd, callers=256, repeats=20)
    print("M7: 20/20 crowds of 256 at the last cent spent exactly the cap")


def test_visitors_at_the_same_moment_are_let_in_by_the_verb_and_the_rest_hears_429(committed: None) -> None:
    playground.fund()
    ledger.settle(_held(playground.organization().pk, CAP - 2 * CENT), cost_nanos=CAP - 2 * CENT, provider="mock")
    barrier = threading.Barrier(16)

    def one(number: int) -> int:
        try:
            barrier.wait(20)
            ask(visitor(number))
        except errors.TooManyRequests as refused:
            return refused.status
        finally:
            connection.close()
        return 200

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one, range(16)))
    assert sorted(answers) == [200] * 2 + [429] * 14


@pytest.mark.django_db
def test_an_operator_funds_it_by_hand() -> None:
    output = StringIO()
    call_command("playground_fund", stdout=output)
    assert output.getvalue() == "$1.00 granted; $1.00 available, $1.00 a day\n"


@pytest.mark.django_db
def test_a_platform_is_made_once_by_several_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = organizations.platform()
    real = Organization.objects.filter

    class Late:
        """Looks before the other one has committed."""

        def __init__(self) -> None:
            self.looked = False

        def __call__(self, **named: Any) -> Any:
            if not self.looked and named == {"is_platform": True}:
                self.looked = True
                return real(pk=-1)
            return real(**named)

    monkeypatch.setattr(Organization.objects, "filter", Late())
    assert organizations.platform() == mine
