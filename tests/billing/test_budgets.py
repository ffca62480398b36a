"""T-03 with budgets: of organization, member and key, by day, month and in all; set by who may, held by every hold."""

from __future__ import annotations

import datetime as dt
from functools import partial
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import organizations, scopes, users
from accounts.models import Organization, Role, User
from billing import budgets, ledger, limits
from billing.budgets import Budget
from billing.models import Limit, LimitUse
from core import errors, ids, money
from tests.billing.test_concurrency import COST_NANOS, Crowd, crowd  # noqa: F401 - a fixture
from tests.envelope import assert_refused
from tests.imagesapi.conftest import Caller, caller, credit  # noqa: F401 - fixtures
from tests.money import customer, fund
from tests.people import IssuedKey, issue, sign_in

CENT = money.NANOS_PER_CENT


def hold(organization: Organization, amount_nanos: int, **more: Any) -> ledger.Verdict:
    return ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=amount_nanos, **more)


def spend(organization: Organization, amount_nanos: int, **more: Any) -> None:
    hold_id = ids.new()
    assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=amount_nanos, **more).held
    ledger.settle(hold_id, cost_nanos=amount_nanos, provider="openai")


def test_a_members_budget_holds_for_what_they_do_and_for_nobody_else(
    organization: Organization, alice: User, bob: User
) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    budgets.set_for_member(organization, bob.email, {"spend_month_usd": "0.10"})
    spend(organization, 6 * CENT, member_id=bob.pk)
    refused = hold(organization, 5 * CENT, member_id=bob.pk)
    assert (refused.verdict, refused.limit_scope, refused.available_nanos) == ("limit", "member", 4 * CENT)
    error = ledger.refuse(refused, needed_nanos=5 * CENT)
    assert (error.status, error.error_code) == (402, "billing_hard_limit_reached")
    assert "The month budget of this member is $0.10" in error.message
    assert hold(organization, 4 * CENT, member_id=bob.pk).held
    assert hold(organization, 50 * CENT, member_id=alice.pk).held
    assert hold(organization, 1 * CENT).held


def test_budgets_of_three_kinds_hold_together_in_a_crowd(crowd: Crowd) -> None:  # noqa: F811
    """Two members with a key each: by organization 10, by member 7, by key 6; the wallet is full."""
    for _ in range(4):
        organization, first = customer(wallet_nanos=1_000 * COST_NANOS)
        other = users.create_verified(f"other-{organization.slug}@example.com")
        organizations.add_member(organization, user=other, role=Role.DEVELOPER)
        second = issue(organization, created_by=other)
        afford = {name: f"{money.decimal(count * COST_NANOS + 1)}" for name, count in (("o", 10), ("m", 7), ("k", 6))}
        budgets.set_for_organization(organization, {"spend_total_usd": afford["o"]})
        owner = first.row.created_by
        assert owner is not None
        for person in (owner, other):
            budgets.set_for_member(organization, person.email, {"spend_day_usd": afford["m"]})
        budgets.set_for_key(first.row, {"spend_month_usd": afford["k"]})

        def ask(line: psycopg.Connection[Any], key: IssuedKey, organization_id: int) -> str:
            named = {
                "id": ids.new(),
                "organization_id": organization_id,
                "key_id": key.row.pk,
                "member_id": key.row.created_by_id,
                "hold_nanos": COST_NANOS,
                "promo_only": False,
            }
            found = line.execute(f"SELECT verdict FROM {ledger.HOLD}", named).fetchone()
            return str(found[0]) if found else ""

        both = [partial(ask, key=key, organization_id=organization.pk) for key in (first, second)]
        verdicts = crowd.together(*both)
        assert (verdicts.count("held"), verdicts.count("limit")) == (10, 54)
        assert verdicts[0::2].count("held") <= 6
        assert verdicts[1::2].count("held") <= 7
        for use in LimitUse.objects.filter(limit__organization=organization).select_related("limit"):
            assert use.used + use.held <= use.limit.cap


def test_it_tells_what_is_used_held_and_left(organization: Organization, bob: User, api_key: IssuedKey) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    budgets.set_for_organization(organization, {"spend_day_usd": "0.50", "spend_total_usd": "2"})
    budgets.set_for_member(organization, bob.email, {"spend_month_usd": "1"})
    budgets.set_for_key(api_key.row, {"spend_day_usd": "0.20"})
    spend(organization, 11 * CENT, key_id=api_key.row.pk)
    assert hold(organization, 4 * CENT, key_id=api_key.row.pk).held
    found = {
        (it.scope, it.window): (it.used_nanos, it.held_nanos, it.left_nanos) for it in budgets.overview(organization.pk)
    }
    assert found == {
        ("organization", "day"): (11 * CENT, 4 * CENT, 35 * CENT),
        ("organization", "total"): (11 * CENT, 4 * CENT, 185 * CENT),
        ("key", "day"): (11 * CENT, 4 * CENT, 5 * CENT),
        ("member", "month"): (0, 0, 100 * CENT),
    }


@pytest.mark.parametrize(
    ("window", "starts_at", "resets_at"),
    [
        ("day", "2026-12-31", "2027-01-01"),
        ("month", "2026-12-01", "2027-01-01"),
        ("month", "2028-02-01", "2028-03-01"),
        ("total", "1970-01-01", None),
    ],
)
def test_it_knows_when_the_next_window_begins(window: str, starts_at: str, resets_at: str | None) -> None:
    start = dt.datetime.fromisoformat(starts_at).replace(tzinfo=dt.UTC)
    found = Budget("key", 1, window, 5, 0, 0, start).resets_at
    assert (found.date().isoformat() if found else None) == resets_at


def test_a_new_window_begins_at_nothing(organization: Organization) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    budgets.set_for_organization(organization, {"spend_day_usd": "0.10"})
    spend(organization, 10 * CENT)
    assert not hold(organization, 1).held
    for row in LimitUse.objects.all():
        row.starts_at -= dt.timedelta(days=1)
        row.save()
    assert budgets.overview(organization.pk)[0].used_nanos == 0
    assert hold(organization, 10 * CENT).held


def test_it_replaces_budgets_whole_and_leaves_rates_alone(organization: Organization, api_key: IssuedKey) -> None:
    limits.replace(api_key.row, {"requests_per_minute": 7, "concurrent": 3})
    limits.replace_for_organization(organization, {"concurrent": 9})
    budgets.set_for_key(api_key.row, {"spend_day_usd": "1", "spend_total_usd": "5"})
    budgets.set_for_key(api_key.row, {"spend_day_usd": "2", "spend_month_usd": None})
    budgets.set_for_organization(organization, {"spend_day_usd": "3"})
    budgets.set_for_organization(organization, {})
    assert limits.of([api_key.row.pk])[api_key.row.pk] == {
        "requests_per_minute": 7,
        "concurrent": 3,
        "spend_day_usd": "2.00",
        "spend_month_usd": None,
        "spend_total_usd": None,
    }
    active = Limit.objects.filter(organization=organization, scope="organization", active=True)
    assert list(active.values_list("meter", "cap")) == [("in_flight", 9)]


def test_limits_that_stay_as_they_are_cost_one_look(api_key: IssuedKey, django_assert_num_queries: Any) -> None:
    wanted = {"requests_per_minute": 5, "spend_day_usd": 3 * money.NANOS_PER_USD}
    with django_assert_num_queries(3):  # beginning and ending a transaction within this test's
        limits.replace(api_key.row, {})
    limits.replace(api_key.row, wanted)
    rows = list(Limit.objects.values())
    with django_assert_num_queries(3):
        limits.replace(api_key.row, wanted)
    assert list(Limit.objects.values()) == rows
    with django_assert_num_queries(5):  # what was told of the old one is forgotten
        limits.replace(api_key.row, wanted | {"requests_per_minute": 6})


@pytest.mark.parametrize("email", ["charlie@example.net", "nobody@example.com", "", "a\0b@example.com"])
def test_somebody_else_is_no_member(organization: Organization, charlie: User, email: str) -> None:
    with pytest.raises(errors.NotFound):
        budgets.set_for_member(organization, email, {"spend_day_usd": "1"})


def test_a_former_members_budget_can_still_be_lifted(organization: Organization, bob: User) -> None:
    budgets.set_for_member(organization, bob.email, {"spend_day_usd": "1"})
    organization.memberships.filter(user=bob).delete()
    budgets.set_for_member(organization, bob.email, {})
    assert budgets.overview(organization.pk) == []


# --- for programs -----------------------------------------------------------------------------------------------------


@pytest.fixture
def manager(organization: Organization, alice: User) -> IssuedKey:
    return issue(organization, created_by=alice, scopes=scopes.ALL)


def ask(key: IssuedKey, method: str, path: str, body: Any = None, **more: Any) -> Any:
    if body is not None:
        more = {"data": body, "content_type": "application/json", **more}
    return getattr(Client(), method)(path, headers=key.headers, **more)


def test_a_program_sets_the_budgets_of_a_key(
    organization: Organization, manager: IssuedKey, api_key: IssuedKey, bob: User
) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    budgets.set_for_member(organization, bob.email, {"spend_month_usd": "9"})
    path = f"/v1/budgets/keys/{api_key.row.public_id}"
    answer = ask(manager, "put", path, {"spend_month_usd": "25.50", "spend_day_usd": 2, "spend_total_usd": None})
    assert answer.status_code == 200
    spend(organization, 50 * CENT, key_id=api_key.row.pk)
    (day, month) = ask(manager, "get", path).json()["data"]
    assert day | {"resets_at": 0} == {
        "object": "budget",
        "scope": "key",
        "key_id": api_key.row.public_id,
        "member": None,
        "window": "day",
        "limit": "2.00",
        "used": "0.50",
        "held": "0.00",
        "left": "1.50",
        "currency": "usd",
        "resets_at": 0,
    }
    assert (month["limit"], month["left"]) == ("25.50", "25.00")
    everything = ask(manager, "get", "/v1/budgets").json()
    assert [(it["scope"], it["member"]) for it in everything["data"]] == [
        ("key", None),
        ("key", None),
        ("member", "bob@example.com"),
    ]
    assert ask(manager, "put", path, {}).json() == {"object": "list", "data": []}


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"spend_day": "1"}, "unknown_parameter", "spend_day"),
        ({"requests_per_minute": 5}, "unknown_parameter", "requests_per_minute"),
        ({"spend_day_usd": "-1"}, "invalid_value", "spend_day_usd"),
        ({"spend_day_usd": "0"}, "invalid_value", "spend_day_usd"),
        ({"spend_day_usd": True}, "invalid_type", "spend_day_usd"),
        ({"spend_day_usd": ["1"]}, "invalid_type", "spend_day_usd"),
        ({"spend_day_usd": "1e9"}, "invalid_value", "spend_day_usd"),
        ({"spend_day_usd": "1.0000000001"}, "invalid_value", "spend_day_usd"),
        ([], "invalid_json", None),
    ],
    ids=str,
)
def test_it_refuses_what_is_no_budget(
    manager: IssuedKey, api_key: IssuedKey, body: Any, code: str, param: str | None
) -> None:
    answer = ask(manager, "put", f"/v1/budgets/keys/{api_key.row.public_id}", body)
    assert_refused(answer, 400, code, param=param)
    assert not Limit.objects.exists()


def test_it_refuses_a_query_that_it_would_not_read(manager: IssuedKey, api_key: IssuedKey) -> None:
    """As every list does: who filters by a misspelled name would take the whole for the part."""
    one = f"/v1/budgets/keys/{api_key.row.public_id}"
    for method, path in (("get", "/v1/budgets"), ("get", one), ("put", one)):
        answer = ask(manager, method, f"{path}?window=month", None if method == "get" else {"spend_day_usd": "1"})
        assert_refused(answer, 400, "unknown_parameter", param="window", says="takes none")
    answer = ask(api_key, "get", "/v1/balance?currency=eur")
    assert_refused(answer, 400, "unknown_parameter", param="currency", says="takes none")
    assert not Limit.objects.exists()


def test_it_takes_json_only(manager: IssuedKey, api_key: IssuedKey) -> None:
    path = f"/v1/budgets/keys/{api_key.row.public_id}"
    assert ask(manager, "put", path, "spend_day_usd=1", content_type="text/plain").status_code == 415


def test_a_key_that_manages_keys_has_no_budget(manager: IssuedKey) -> None:
    """It could make itself another one without it."""
    answer = ask(manager, "put", f"/v1/budgets/keys/{manager.row.public_id}", {"spend_day_usd": "1"})
    assert answer.status_code == 400
    assert not Limit.objects.exists()


def test_a_key_without_the_scope_looks_at_none(api_key: IssuedKey) -> None:
    assert ask(api_key, "get", "/v1/budgets").status_code == 403


def test_programs_set_no_budgets_of_people(manager: IssuedKey) -> None:
    for path in ("/v1/budgets", "/v1/budgets/organization", "/v1/budgets/member"):
        assert ask(manager, "put", path, {"spend_day_usd": "1"}).status_code in (404, 405)


def test_a_budget_that_is_spent_is_a_402_that_says_which(
    caller: Caller,  # noqa: F811
    organization: Organization,
) -> None:
    budgets.set_for_member(organization, "alice@example.com", {"spend_month_usd": "0.000001"})
    answer = caller.ask()
    assert answer.status_code == 402
    error = answer.json()["error"]
    assert error["code"] == "billing_hard_limit_reached"
    assert error["limit"] == {"scope": "member", "window": "month", "cap": "0.000001"}
    assert Limit.objects.get().refused_at is not None


# --- for people -------------------------------------------------------------------------------------------------------

PAGE = "/app/billing/budgets"


@pytest.mark.parametrize("role", Role.values)
def test_owners_admins_and_billing_set_budgets_and_everybody_looks(organization: Organization, role: str) -> None:
    person = users.create_verified(f"{role}@roles.example")
    organizations.add_member(organization, user=person, role=role)
    browser = sign_in(person)
    may = role in (Role.OWNER, Role.ADMIN, Role.BILLING)
    answer = browser.post(f"{PAGE}/organization", {"spend_month_usd": "25"})
    assert answer.status_code == (302 if may else 403)
    page = browser.get(PAGE).content.decode()
    assert ("$25.00" in page, "Set budgets" in page) == (may, may)


def test_the_page_shows_what_is_used_and_changes_it(
    organization: Organization, alice: User, bob: User, api_key: IssuedKey
) -> None:
    fund(organization, wallet_nanos=100 * CENT)
    browser = sign_in(alice)
    browser.post(f"{PAGE}/member", {"member": bob.email, "spend_day_usd": "0.40", "spend_month_usd": " "})
    browser.post(f"{PAGE}/keys/{api_key.row.public_id}", {"spend_total_usd": "3"})
    spend(organization, 30 * CENT, member_id=bob.pk, key_id=api_key.row.pk)
    page = browser.get(PAGE).content.decode()
    assert "$0.30 of $0.40" in page
    assert 'value="75"' in page
    assert "$0.30 of $3.00" in page
    browser.post(f"{PAGE}/member", {"member": bob.email})
    assert "$0.30 of $0.40" not in browser.get(PAGE).content.decode()


@pytest.mark.parametrize("amount", ["abc", "-1", "0", "1e3", "1" * 40])
def test_the_page_says_what_is_wrong(organization: Organization, alice: User, amount: str) -> None:
    answer = sign_in(alice).post(f"{PAGE}/organization", {"spend_day_usd": amount})
    assert answer.status_code == 400
    assert "must be dollars above 0" in answer.content.decode()
    assert not Limit.objects.exists()


def test_the_page_knows_no_stranger(
    organization: Organization, alice: User, charlie: User, other_api_key: IssuedKey
) -> None:
    browser = sign_in(alice)
    assert browser.post(f"{PAGE}/member", {"member": charlie.email, "spend_day_usd": "1"}).status_code == 404
    assert browser.post(f"{PAGE}/keys/{other_api_key.row.public_id}", {"spend_day_usd": "1"}).status_code == 404
    assert not Limit.objects.exists()


def test_an_operator_sets_budgets(organization: Organization, bob: User, api_key: IssuedKey) -> None:
    output = StringIO()
    call_command("set_budget", organization.slug, "--month", "25", stdout=output)
    call_command("set_budget", organization.slug, "--member", "Bob@example.com", "--day", "1", stdout=output)
    call_command("set_budget", organization.slug, "--key", api_key.row.public_id, "--total", "2", stdout=output)
    assert output.getvalue().splitlines()[-3:] == [
        f"{organization.slug}: $25.00 by month, $0.00 used",
        f"{api_key.row.public_id}: $2.00 by total, $0.00 used",
        "bob@example.com: $1.00 by day, $0.00 used",
    ]
    call_command("set_budget", organization.slug, stdout=output)
    assert output.getvalue().splitlines()[-3:][0] == f"{organization.slug}: $25.00 by month, $0.00 used"
    call_command("set_budget", organization.slug, "--none", stdout=output)
    assert [it.scope for it in budgets.overview(organization.pk)] == ["key", "member"]


@pytest.mark.parametrize(
    "wrong",
    [
        ["nobody"],
        ["{}", "--day", "1", "--member", "x@y.zz"],
        ["{}", "--day", "1", "--member", ""],
        ["{}", "--day", "1", "--key", "k"],
        ["{}", "--none", "--key", ""],
        ["{}", "--day", "1", "--none"],
        ["{}", "--day", "x"],
    ],
)
def test_an_operator_hears_what_is_wrong(organization: Organization, wrong: list[str]) -> None:
    budgets.set_for_organization(organization, {"spend_day_usd": "5"})
    with pytest.raises(CommandError):
        call_command("set_budget", *[word.format(organization.slug) for word in wrong])
    assert [(it.window, it.cap_nanos) for it in budgets.overview(organization.pk)] == [("day", 5_000_000_000)]
