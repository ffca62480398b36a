"""Requests by the minute and at a time: counted in the hold's own round trip, exactly, and never for a refused one."""

from __future__ import annotations

import datetime as dt
import time
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Organization
from billing import ledger, limits, tasks
from billing.ledger import Verdict
from billing.models import Hold, HoldLimit, Limit, LimitUse
from billing.rate_headers import duration, rate_headers
from core import errors, ids, money
from tests.billing.test_concurrency import COST_NANOS, Crowd, crowd  # noqa: F401 - a fixture
from tests.money import customer, fund
from tests.people import IssuedKey

ALLOWED = 10
CALLERS = 64
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _within_one_minute() -> None:
    """The window is the database's own minute: what is counted here must not run over its end."""
    left_s = 60 - time.time() % 60
    if left_s < 5:
        time.sleep(left_s + 0.05)


def take(organization: Organization, key: IssuedKey, amount_nanos: int = 1) -> tuple[uuid.UUID, Verdict]:
    hold_id = ids.new()
    return hold_id, ledger.hold(hold_id, organization_id=organization.pk, key_id=key.row.pk, amount_nanos=amount_nanos)


def limited(organization: Organization, key: IssuedKey, **wanted: int) -> None:
    fund(organization, wallet_nanos=1000)
    limits.replace(key.row, wanted)


def turn_the_minute() -> None:
    for row in LimitUse.objects.filter(limit__meter="requests").order_by("starts_at"):
        row.starts_at -= MINUTE
        row.save()


def used() -> list[int]:
    return list(LimitUse.objects.filter(limit__meter="requests").order_by("limit_id").values_list("used", flat=True))


def refusal(verdict: Verdict) -> errors.PixelparError:
    assert not verdict.held
    return ledger.refuse(verdict, needed_nanos=1)


def test_exactly_so_many_of_a_crowd_are_let_in_each_minute(crowd: Crowd) -> None:  # noqa: F811
    organization, key = customer(wallet_nanos=1_000 * COST_NANOS)
    limits.replace(key.row, {"requests_per_minute": ALLOWED})
    for minute in range(1, 4):
        verdicts = crowd.hold(organization, key_id=key.row.pk, callers=CALLERS)
        assert sorted(verdicts) == ["held"] * ALLOWED + ["limit"] * (CALLERS - ALLOWED)
        assert Hold.objects.count() == minute * ALLOWED
        turn_the_minute()


def test_the_limits_of_key_and_organization_hold_together(crowd: Crowd) -> None:  # noqa: F811
    organization, key = customer(wallet_nanos=1_000 * COST_NANOS)
    limits.replace_for_organization(organization, {"requests_per_minute": ALLOWED})
    limits.replace(key.row, {"requests_per_minute": 6, "concurrent": 5})
    assert crowd.hold(organization, key_id=key.row.pk, callers=CALLERS).count("held") == 5
    assert crowd.hold(organization, callers=CALLERS).count("held") == ALLOWED - 5
    assert sorted(used()) == [5, ALLOWED]


def test_exactly_so_many_run_at_a_time(crowd: Crowd) -> None:  # noqa: F811
    organization, key = customer(wallet_nanos=1_000 * COST_NANOS)
    limits.replace(key.row, {"concurrent": 3})
    for _ in range(3):
        assert crowd.hold(organization, key_id=key.row.pk, callers=CALLERS).count("held") == 3
        for hold in Hold.objects.filter(state="held"):
            ledger.void(hold.pk)


def test_what_was_counted_is_not_given_back(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, requests_per_minute=2)
    first, _ = take(organization, api_key)
    second, _ = take(organization, api_key)
    ledger.void(first)
    ledger.settle(second, cost_nanos=1, provider="openai")
    assert take(organization, api_key)[1].limit_meter == "requests"
    assert (used(), HoldLimit.objects.count()) == ([2], 0)
    turn_the_minute()
    assert take(organization, api_key)[1].held


@pytest.mark.parametrize("kind", ["rate", "places", "money", "budget", "frozen"])
def test_a_refused_request_counts_nowhere(organization: Organization, api_key: IssuedKey, kind: str) -> None:
    limited(organization, api_key, requests_per_minute=5, concurrent=5, spend_day_usd=500)
    take(organization, api_key)
    before = list(LimitUse.objects.order_by("limit_id").values_list("used", "held"))
    if kind in ("rate", "places"):
        Limit.objects.filter(meter={"rate": "requests", "places": "in_flight"}[kind]).update(cap=1)
    if kind == "frozen":
        organization.accounts.update(frozen=True)
    amount_nanos = {"money": 1001, "budget": 600}.get(kind, 1)
    for _ in range(3):
        assert not take(organization, api_key, amount_nanos)[1].held
    assert list(LimitUse.objects.order_by("limit_id").values_list("used", "held")) == before
    assert Hold.objects.count() == 1


def test_the_verdict_says_what_is_left_of_the_tightest(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, requests_per_minute=3, concurrent=9)
    limits.replace_for_organization(organization, {"requests_per_minute": 100, "concurrent": 4})
    verdict = take(organization, api_key)[1]
    assert (verdict.requests_limit, verdict.requests_remaining) == (3, 2)
    assert (verdict.in_flight_limit, verdict.in_flight_remaining) == (4, 3)
    with connection.cursor() as cursor:  # the window's clock is that of the transaction
        cursor.execute("SELECT ceil(60 - extract(second FROM now()))")
        assert cursor.fetchone() == (verdict.requests_reset_s,)
    for left in (1, 0):
        assert take(organization, api_key)[1].requests_remaining == left
    refused = take(organization, api_key)[1]
    assert (refused.requests_limit, refused.requests_remaining) == (3, 0)


def test_a_caller_without_limits_has_nothing_counted(organization: Organization, api_key: IssuedKey) -> None:
    fund(organization, wallet_nanos=1000)
    limits.replace(api_key.row, {})
    verdict = take(organization, api_key)[1]
    assert verdict.held
    assert (verdict.requests_limit, verdict.in_flight_limit, rate_headers(verdict)) == (None, None, {})
    assert not LimitUse.objects.exists()


def test_a_full_minute_is_a_429_that_says_when_it_ends(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, requests_per_minute=1)
    take(organization, api_key)
    verdict = take(organization, api_key)[1]
    error = refusal(verdict)
    assert (error.status, error.error_code) == (429, "rate_limit_exceeded")
    assert "This key may make 1 requests a minute" in error.message
    headers = error.headers()
    assert headers["Retry-After"] == str(min(verdict.requests_reset_s or 0, 59))
    assert headers["x-ratelimit-limit-requests"] == "1"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert error.envelope()["error"]["limit"] == {"scope": "key", "meter": "requests", "window": "minute", "cap": 1}


def test_full_places_are_a_429_that_says_how_many(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, concurrent=1)
    take(organization, api_key)
    error = refusal(take(organization, api_key)[1])
    assert (error.status, error.error_code) == (429, "rate_limit_exceeded")
    assert "already has 1 requests running" in error.message
    assert 1 <= int(error.headers()["Retry-After"]) < 60
    assert error.headers()["x-ratelimit-remaining-concurrent"] == "0"


@pytest.mark.parametrize(("reset_s", "retry_after"), [(60, "59"), (59, "59"), (1, "1"), (0, "1"), (None, "1")], ids=str)
def test_it_never_says_a_minute_or_more(reset_s: int | None, retry_after: str) -> None:
    verdict = Verdict("limit", limit_scope="key", limit_meter="requests", limit_cap=1, requests_reset_s=reset_s)
    assert refusal(verdict).headers()["Retry-After"] == retry_after


@pytest.mark.parametrize(("seconds", "word"), [(0, "0s"), (1, "1s"), (59, "59s"), (60, "1m0s"), (360, "6m0s")])
def test_it_writes_times_as_openai_does(seconds: int, word: str) -> None:
    assert duration(seconds) == word


def test_it_writes_the_headers_clients_read() -> None:
    verdict = Verdict("held", requests_limit=60, requests_remaining=59, requests_reset_s=12)
    assert rate_headers(verdict) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "12s",
    }


def test_limits_are_replaced_whole_and_what_runs_gives_back(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, concurrent=1, requests_per_minute=5)
    hold_id, _ = take(organization, api_key)
    limits.replace(api_key.row, {"requests_per_minute": 6, "spend_total_usd": 7 * money.NANOS_PER_CENT})
    assert limits.of([api_key.row.pk])[api_key.row.pk] == {
        "requests_per_minute": 6,
        "concurrent": None,
        "spend_day_usd": None,
        "spend_month_usd": None,
        "spend_total_usd": "0.07",
    }
    assert take(organization, api_key)[1].requests_remaining == 4
    ledger.void(hold_id)
    limits.replace(api_key.row, {"concurrent": 1})
    assert take(organization, api_key)[1].held
    assert take(organization, api_key)[1].limit_meter == "in_flight"


def test_limits_of_one_key_are_not_anothers(
    organization: Organization, api_key: IssuedKey, other_api_key: IssuedKey
) -> None:
    limited(organization, api_key, requests_per_minute=1)
    fund(other_api_key.row.organization, wallet_nanos=10)
    take(organization, api_key)
    assert not take(organization, api_key)[1].held
    assert take(other_api_key.row.organization, other_api_key)[1].held
    assert take(other_api_key.row.organization, other_api_key)[1].held


def test_the_night_forgets_old_minutes_and_nothing_else(organization: Organization, api_key: IssuedKey) -> None:
    limited(organization, api_key, requests_per_minute=9, concurrent=9, spend_total_usd=900)
    take(organization, api_key)
    rate = Limit.objects.get(meter="requests")
    for days in (2, 30):
        LimitUse.objects.create(limit=rate, starts_at=timezone.now() - dt.timedelta(days=days), used=3)
    tasks.forget_rates(0)
    rows = LimitUse.objects.values_list("limit__meter", "used", "held")
    assert sorted(rows) == [("in_flight", 0, 1), ("requests", 1, 0), ("spend", 0, 1)]


def test_the_applications_role_counts_by_the_ledgers_functions_alone(
    organization: Organization, api_key: IssuedKey
) -> None:
    limited(organization, api_key, requests_per_minute=9)
    take(organization, api_key)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE pixelpar")
        for statement in ("UPDATE billing_limituse SET used = 0", "DELETE FROM billing_limituse"):
            with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
                cursor.execute(statement)
        cursor.execute("SELECT ledger_forget_rates()")
        limits.replace(api_key.row, {})
        cursor.execute("RESET ROLE")
    assert take(organization, api_key)[1].requests_limit is None


@pytest.mark.parametrize("wrong", [{"meter": "requests", "window": "day"}, {"meter": "spend", "window": "minute"}])
def test_a_limit_counts_what_it_can(organization: Organization, wrong: dict[str, Any]) -> None:
    with pytest.raises(DatabaseError, match="limit_meter_known"), transaction.atomic():
        Limit.objects.create(organization=organization, scope="organization", cap=1, **wrong)
