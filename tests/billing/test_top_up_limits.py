"""M4, M8, T-14, T-21: amounts only within our limits, tries counted, other currencies credited to nobody."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import structlog
from django.test import Client
from pytest_django.fixtures import Settings

from accounts import organizations
from accounts.models import Organization, Role, User
from billing import checks, top_ups
from billing.models import Transfer
from billing.stripe_models import TopUp, TopUpState
from core import errors, ids
from tests.people import sign_in
from tests.stripes import USD, Account, payer, wallet

PAGE = "/app/billing"
PAY = "/app/billing/top-up"


def _pay(browser: Client, amount: object = "25", **more: object) -> Any:
    return browser.post(PAY, {"amount": amount, **more})


# --- M4: amounts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "amount",
    ["0", "4.99", "1000.01", "-25", "25.001", "1e3", "NaN", "inf", "25 EUR", "€25", "2,500", "0x19", "", "  ", "9" * 40]
    + ["25.000000001", "٢٥", "25\x00"],
)
def test_it_refuses_an_amount_and_names_the_limits(account: Account, organization: Organization, amount: str) -> None:
    response = _pay(sign_in(payer(organization)), amount)
    assert response.status_code == 400
    assert "$5.00 to $1000.00" in response.content.decode() or not amount.strip() or len(amount) > 20 or "\0" in amount
    assert not TopUp.objects.exists()
    assert account.api.asked == [] or {path for _, path, _, _ in account.api.asked} == {"/v1/customers"}


@pytest.mark.parametrize(("amount", "cents"), [("5", 500), ("12.5", 1250), ("$1000.00", 100_000), (" 25.00 ", 2500)])
def test_it_takes_dollars_in_whole_cents(account: Account, organization: Organization, amount: str, cents: int) -> None:
    assert _pay(sign_in(payer(organization)), amount).status_code == 302
    (session,) = account.world.all("checkout.session")
    assert (session["amount_subtotal"], session["currency"]) == (cents, "usd")


def test_nothing_else_that_is_posted_counts(account: Account, organization: Organization) -> None:
    """M4: currency, price and credit are ours to say."""
    more = {"currency": "jpy", "price": "1", "unit_amount": "1", "credit": "1000", "organization": "2", "tax": "-5"}
    assert _pay(sign_in(payer(organization)), "25", **more).status_code == 302
    (session,) = account.world.all("checkout.session")
    assert (session["amount_total"], session["currency"]) == (2500, "usd")


def test_limits_follow_the_settings(account: Account, organization: Organization, settings: Settings) -> None:
    settings.TOP_UP_MIN_USD, settings.TOP_UP_MAX_USD = 20, 30
    assert top_ups.offers_nanos() == [25 * USD]
    assert b"$20.00 to $30.00" in _pay(sign_in(payer(organization)), "10").content
    settings.TOP_UP_MIN_USD = 40
    assert {found.id for found in checks.payments_are_safe(None)} == {"pixelpar.E024"}


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("STRIPE_FAKE", True, "pixelpar.E021"),
        ("STRIPE_BASE_URL", "http://stripe.example", "pixelpar.E023"),
        ("TOP_UP_OFFERS_USD", ["10", "many"], "pixelpar.E025"),
    ],
)
def test_production_refuses_dangerous_settings(
    account: Account, settings: Settings, name: str, value: object, code: str
) -> None:
    settings.DEVELOPMENT, settings.STRIPE_BASE_URL = False, "https://api.stripe.com"
    assert checks.payments_are_safe(None) == []
    setattr(settings, name, value)
    assert {found.id for found in checks.payments_are_safe(None)} == {code}


# --- who --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role.values)
def test_owners_admins_and_billing_pay(account: Account, organization: Organization, charlie: User, role: str) -> None:
    organizations.add_member(organization, user=charlie, role=role)
    pays = role in ("owner", "admin", "billing")
    assert _pay(sign_in(charlie)).status_code == (302 if pays else 403)
    text = sign_in(charlie).get(PAGE).content.decode()
    assert ("Pay by card" in text) == pays
    assert "Refund unspent" not in text
    account.paid(organization)
    assert ("Refund unspent" in sign_in(charlie).get(PAGE).content.decode()) == (role in ("owner", "billing"))


def test_two_clicks_are_one_top_up(account: Account, organization: Organization) -> None:
    browser, attempt = sign_in(payer(organization)), str(ids.new())
    places = {_pay(browser, attempt=attempt).headers["Location"] for _ in range(3)}
    assert len(places) == 1
    assert (TopUp.objects.count(), len(account.world.all("checkout.session"))) == (1, 1)
    assert _pay(browser, "30", attempt=attempt).status_code == 302
    assert TopUp.objects.count() == 2
    assert _pay(browser, attempt=str(uuid.uuid4())).status_code == 302


def test_an_attempt_of_others_is_no_way_in(
    account: Account, organization: Organization, other_organization: Organization, charlie: User
) -> None:
    attempt = str(ids.new())
    first = _pay(sign_in(payer(organization)), attempt=attempt).headers["Location"]
    second = _pay(sign_in(charlie), attempt=attempt).headers["Location"]
    assert first != second
    assert TopUp.objects.filter(organization=other_organization).count() == 1


def test_without_a_key_the_operator_grants(db: None, organization: Organization) -> None:
    browser = sign_in(payer(organization))
    text = browser.get(PAGE).content.decode()
    assert "its operator grants balances" in text
    assert "Pay by card" not in text
    for name in ("top-up", "refund", "automatic", "portal", "card/remove"):
        response = browser.post(f"{PAGE}/{name}", {"amount": "25", "key": str(uuid.uuid4())})
        assert response.status_code in (302, 400), name
    assert not TopUp.objects.exists()


def test_a_suspended_organization_pays_nothing_in(account: Account, organization: Organization) -> None:
    organization.suspended_at = organization.created_at
    organization.save()
    assert _pay(sign_in(payer(organization))).headers["Location"] == PAGE
    assert not TopUp.objects.exists()


# --- M8: card testing -------------------------------------------------------------------------------------------------


def test_an_organization_may_try_so_often_a_day(
    account: Account, organization: Organization, settings: Settings
) -> None:
    settings.TOP_UP_TRIES_PER_DAY = 3
    browser = sign_in(payer(organization))
    for _ in range(5):
        _pay(browser)
    assert TopUp.objects.count() == 3
    assert b"3 top-ups were started within a day" in browser.get(PAGE).content
    TopUp.objects.update(created_at="2026-01-01T00:00:00Z")
    _pay(browser)
    assert TopUp.objects.count() == 4


def test_one_address_may_try_so_often_whatever_the_organization(
    account: Account, organization: Organization, other_organization: Organization, settings: Settings
) -> None:
    settings.TOP_UP_TRIES_PER_DAY = 3
    for owner in (organization, organization, other_organization, other_organization, organization):
        _pay(sign_in(payer(owner)))
    assert TopUp.objects.count() == 3
    assert sign_in(payer(other_organization)).post(PAY, {"amount": "25"}, REMOTE_ADDR="192.0.2.7").status_code == 302
    assert TopUp.objects.count() == 4
    assert not TopUp.objects.filter(ip_hash__contains="127").filter(ip_hash="127.0.0.1").exists()


def test_declined_cards_lock_out_and_close_what_is_open(
    account: Account,
    organization: Organization,
    settings: Settings,
    django_capture_on_commit_callbacks: Any,
) -> None:
    settings.TOP_UP_DECLINES_PER_DAY = 3
    first, second = account.top_up(organization), account.top_up(organization)
    with django_capture_on_commit_callbacks(execute=True):
        for _ in range(3):
            account.pay(first, "4000000000000002")
            account.tell()
    with pytest.raises(errors.TooManyRequests, match="3 payments"):
        account.top_up(organization)
    assert {account.session(it)["status"] for it in (first, second)} == {"expired"}
    account.tell()
    assert set(TopUp.objects.values_list("state", flat=True)) == {TopUpState.EXPIRED}


# --- T-14: the page after the checkout --------------------------------------------------------------------------------


def test_the_success_page_grants_nothing(
    account: Account, organization: Organization, other_organization: Organization, charlie: User
) -> None:
    unpaid, other_amount = account.top_up(organization), account.top_up(organization, dollars=5)
    account.pay(other_amount)
    browser = sign_in(payer(organization))
    for top_up in (unpaid, other_amount):
        for query in ("", "?session_id=cs_test_1&amount=1000", "?payment_status=paid&redirect_status=succeeded"):
            response = browser.get(f"/app/billing/top-ups/{top_up.word}{query}")
            assert response.status_code == 200
            assert b"Waiting for Stripe" in response.content
    foreign = sign_in(charlie).get(f"/app/billing/top-ups/{other_amount.word}")
    missing = sign_in(charlie).get(f"/app/billing/top-ups/{ids.public('top', ids.new())}")
    assert (foreign.status_code, foreign.content) == (missing.status_code, missing.content)
    assert foreign.status_code == 404
    assert wallet(organization) == wallet(other_organization) == 0
    account.tell()
    assert b"$5.00 is credited" in browser.get(f"/app/billing/top-ups/{other_amount.word}").content
    assert wallet(organization) == 5 * USD


# --- T-21: currencies -------------------------------------------------------------------------------------------------


def test_another_presentment_currency_credits_the_dollars(account: Account, organization: Organization) -> None:
    top_up = account.top_up(organization)
    shown = {"presentment_amount": 2345, "presentment_currency": "eur"}
    account.session(top_up)["presentment_details"] = shown
    account.pay(top_up)["presentment_details"] = shown
    account.tell()
    assert wallet(organization) == 25 * USD


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "jpy", "amount_subtotal": 2500, "amount_total": 2500},
        {"currency": "bhd", "amount_subtotal": 25_000, "amount_total": 25_000},
        {"currency": "eur"},
        {"currency": None},
        {"amount_subtotal": 2501, "amount_total": 2501},
        {"amount_subtotal": 2499},
        {"amount_total": 9999},
        {"customer": None},
    ],
    ids=str,
)
def test_what_was_not_asked_for_goes_to_suspense(
    account: Account, organization: Organization, change: dict[str, Any]
) -> None:
    top_up = account.top_up(organization)
    session = account.session(top_up)
    session |= change
    intent = account.pay(top_up)
    if "currency" in change:
        intent["currency"] = change["currency"] or "usd"
    if "customer" in change:
        intent["customer"] = None
    with structlog.testing.capture_logs() as logged:
        account.tell()
    assert wallet(organization) == 0
    top_up.refresh_from_db()
    assert (top_up.state, top_up.credited_nanos) == (TopUpState.UNEXPLAINED, 0)
    assert Transfer.objects.filter(kind="suspense").count() == 1
    assert not Transfer.objects.filter(kind="top_up").exists()
    assert [line["log_level"] for line in logged if line["event"] == "a payment cannot be explained"][:1] == ["error"]
    account.world.make_refund({"payment_intent": intent["id"]})
    intent["currency"] = "usd"
    account.tell()
    assert wallet(organization) == 0
