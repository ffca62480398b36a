"""Top-ups by Checkout: what is credited, when, and what never is."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts.models import Organization
from billing import ledger
from billing.models import Transfer
from billing.stripe_models import StripeCustomer, TopUpState
from tests.people import sign_in
from tests.stripes import USD, Account, payer, post_event, wallet


def test_a_paid_checkout_is_credited_once(account: Account, organization: Organization) -> None:
    top_up = account.top_up(organization, dollars=25, save_card=True)
    assert (top_up.state, wallet(organization)) == (TopUpState.OPEN, 0)
    account.pay(top_up)
    account.tell()
    top_up.refresh_from_db()
    assert (top_up.state, wallet(organization)) == (TopUpState.PAID, 25 * USD)
    assert top_up.receipt_url.startswith("http")
    assert top_up.reference is not None
    booked = dict(Transfer.objects.filter(reference_id=top_up.reference).values_list("kind", "amount_nanos"))
    assert booked == {"top_up": 25 * USD, "stripe_fee": 103 * USD // 100}
    card = StripeCustomer.objects.get(organization=organization)
    assert (card.card_brand, card.card_last_four, card.card_ends) == ("visa", "4242", "12/2034")
    account.tell()
    assert wallet(organization) == 25 * USD
    for event in account.events():
        assert post_event(Client(), event).status_code == 200
    assert Transfer.objects.filter(kind="top_up").count() == 1
    assert ledger.verify().differences == ()


def test_pay_page_form_opens_a_checkout(account: Account, organization: Organization) -> None:
    browser = sign_in(payer(organization))
    response = browser.post("/app/billing/top-up", {"amount": "12.50"})
    assert response.status_code == 302
    assert "/c/pay/cs_test_" in response.headers["Location"]
    assert browser.get("/app/billing").status_code == 200


@pytest.mark.parametrize("number", ["4000000000000002", "4000000000009995"])
def test_a_declined_card_leaves_the_checkout_open(account: Account, organization: Organization, number: str) -> None:
    top_up = account.top_up(organization)
    account.pay(top_up, number)
    account.tell()
    top_up.refresh_from_db()
    assert (top_up.state, top_up.declines, wallet(organization)) == (TopUpState.OPEN, 1, 0)
    account.pay(top_up)
    account.tell()
    assert wallet(organization) == 25 * USD


def test_a_payment_made_between_two_answers_is_no_failed_one(
    account: Account, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a declined card the second one succeeds just while we ask: first of the payment, then of its session."""
    top_up = account.top_up(organization)
    account.pay(top_up, "4000000000000002")
    ask = account.api.answer
    paid: list[str] = []

    def answer(method: str, target: str, *rest: Any) -> Any:
        if target.startswith("/v1/checkout/sessions?") and not paid:
            paid.append(account.pay(top_up)["status"])
        return ask(method, target, *rest)

    monkeypatch.setattr(account.api, "answer", answer)
    account.tell(account.events("payment_intent.payment_failed")[0])
    top_up.refresh_from_db()
    assert paid == ["succeeded"]
    assert (top_up.state, wallet(organization)) == (TopUpState.PAID, 25 * USD)
