"""T-23: Stripe does it and the answer is lost, or answers 500, 409, 429, or hangs: one object, one key in every try."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import automatic, payments, refunds, stripe_gateway, stripe_reconciliation, top_ups
from billing.stripe_facts import Refused, Unclear
from billing.stripe_models import AutomaticTopUp, Refund, StripeCustomer, TopUp, TopUpState
from core import errors, ids
from tests.fakes.stripe import StripeFake
from tests.stripes import USD, payer, post_event, wallet

SESSIONS, INTENTS, REFUNDS = "/v1/checkout/sessions", "/v1/payment_intents", "/v1/refunds"
TROUBLE = ("lost", "500", "409", "429", "hang")


def _trouble(fake: StripeFake, what: str, on: str, settings: Settings, *, times: int) -> None:
    settings.STRIPE_TIMEOUT_S = 0.3
    fake.misbehave(what, on=on, times=times, seconds=80)


def _start(organization: Organization, attempt: uuid.UUID | None = None) -> Any:
    user = payer(organization)
    return top_ups.start(
        organization, user=user, amount_nanos=25 * USD, save_card=False, ip="", attempt=attempt or ids.new()
    )


def _one_key(fake: StripeFake, path: str) -> None:
    keys = {key for _, key in fake.posts(path)}
    assert len(keys) == 1
    assert all(keys)


def _tell(fake: StripeFake) -> None:
    for event in fake.world.events:
        assert post_event(Client(), event).status_code == 200


@pytest.mark.parametrize("what", TROUBLE)
def test_a_checkout_is_opened_once(
    stripe_fake: StripeFake, organization: Organization, settings: Settings, what: str
) -> None:
    """Tried again within the call (but for 429); a longer bad spell ends in words, and the next click goes on."""
    top_ups.customer_of(organization)
    attempt = ids.new()
    _trouble(stripe_fake, what, SESSIONS, settings, times=1 if what == "429" else 3)
    with pytest.raises(errors.Overloaded, match="Nothing was paid"):
        _start(organization, attempt)
    assert TopUp.objects.get().state == TopUpState.CREATED
    session = _start(organization, attempt)
    assert [it["id"] for it in stripe_fake.world.all("checkout.session")] == [session.id]
    _one_key(stripe_fake, SESSIONS)
    stripe_fake.world.pay_session(stripe_fake.world.things[session.id], "4242424242424242")
    _tell(stripe_fake)
    assert wallet(organization) == 25 * USD


@pytest.mark.parametrize("what", TROUBLE)
def test_a_customer_is_made_once(
    stripe_fake: StripeFake, organization: Organization, settings: Settings, what: str
) -> None:
    _trouble(stripe_fake, what, "/v1/customers", settings, times=3)
    for _ in range(5):
        try:
            top_ups.customer_of(organization)
        except Unclear:
            continue
        break
    assert len(stripe_fake.world.all("customer")) == 1
    _one_key(stripe_fake, "/v1/customers")


@pytest.mark.parametrize("what", TROUBLE)
def test_a_saved_card_is_charged_once(
    stripe_fake: StripeFake, organization: Organization, settings: Settings, what: str
) -> None:
    _save_card(stripe_fake, organization)
    _trouble(stripe_fake, what, INTENTS, settings, times=1 if what == "429" else 3)
    automatic.sweep()
    assert (TopUp.objects.get().state, wallet(organization)) == (TopUpState.CREATED, 0)
    assert automatic.consider(organization.pk) is None
    TopUp.objects.update(created_at=TopUp.objects.get().created_at - automatic._AGAIN_AFTER * 2)
    automatic.resume()
    assert wallet(organization) == 50 * USD
    assert len(stripe_fake.world.all("payment_intent")) == 1
    _one_key(stripe_fake, INTENTS)
    _tell(stripe_fake)
    assert wallet(organization) == 50 * USD


def _save_card(fake: StripeFake, organization: Organization) -> None:
    customer_id = top_ups.customer_of(organization)
    method = fake.world.add_card("4242424242424242", owner=customer_id)
    StripeCustomer.objects.update(payment_method=method["id"])
    AutomaticTopUp.objects.create(
        organization=organization,
        enabled=True,
        threshold_nanos=10 * USD,
        target_nanos=50 * USD,
        monthly_ceiling_nanos=100 * USD,
    )


def test_reconciliation_finds_a_charge_whose_answers_were_all_lost(
    stripe_fake: StripeFake, organization: Organization, settings: Settings
) -> None:
    _save_card(stripe_fake, organization)
    _trouble(stripe_fake, "lost", INTENTS, settings, times=3)
    automatic.sweep()
    assert wallet(organization) == 0
    assert stripe_reconciliation.reconcile(grace_s=0).found
    assert (wallet(organization), TopUp.objects.get().state) == (50 * USD, TopUpState.PAID)


@pytest.mark.parametrize("what", TROUBLE)
def test_a_refund_is_made_once(
    stripe_fake: StripeFake, organization: Organization, settings: Settings, what: str
) -> None:
    session = _start(organization)
    intent = stripe_fake.world.pay_session(stripe_fake.world.things[session.id], "4242424242424242")
    payments.bring_up_to_date(intent["id"])
    _trouble(stripe_fake, what, REFUNDS, settings, times=1 if what == "429" else 3)
    refunds.ask(organization, user=payer(organization), amount_nanos=5 * USD, key=uuid.uuid4())
    assert (Refund.objects.get().state, wallet(organization)) == ("asked", 20 * USD)
    Refund.objects.update(created_at="2026-01-01T00:00:00Z")
    refunds.send_again()
    _tell(stripe_fake)
    assert [it["amount"] for it in stripe_fake.world.all("refund")] == [500]
    _one_key(stripe_fake, REFUNDS)
    assert (Refund.objects.get().state, wallet(organization)) == ("succeeded", 20 * USD)


def test_it_waits_no_longer_than_it_says(
    stripe_fake: StripeFake, organization: Organization, settings: Settings
) -> None:
    top_ups.customer_of(organization)
    _trouble(stripe_fake, "hang", SESSIONS, settings, times=3)
    started_s = time.monotonic()
    with pytest.raises(errors.Overloaded):
        _start(organization)
    assert time.monotonic() - started_s < 3


def test_a_webhook_is_answered_while_stripe_is_away(
    stripe_fake: StripeFake, organization: Organization, settings: Settings
) -> None:
    session = _start(organization)
    stripe_fake.world.pay_session(stripe_fake.world.things[session.id], "4242424242424242")
    url, settings.STRIPE_BASE_URL = settings.STRIPE_BASE_URL, "http://127.0.0.1:9"
    _tell(stripe_fake)
    assert wallet(organization) == 0
    settings.STRIPE_BASE_URL = url
    _tell(stripe_fake)  # Stripe need not send it again; here it does
    assert wallet(organization) == 25 * USD


def test_a_wrong_key_is_said_and_nothing_is_kept_open(
    stripe_fake: StripeFake, organization: Organization, settings: Settings
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_wrong"
    with pytest.raises(errors.InvalidRequest, match="refused"):
        _start(organization)
    with pytest.raises(Refused, match="does not accept our key"):
        stripe_gateway.session("cs_test_1")
