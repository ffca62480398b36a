"""T-15: refunds and disputes larger than what is left; never more taken back than was paid, and debts to the cent."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import structlog

from accounts.models import Organization
from billing import closing, ledger, refunds
from billing.models import Transfer
from billing.stripe_facts import Unclear
from billing.stripe_models import Dispute, Refund, RefundState, TopUp
from core import errors, ids
from tests.people import sign_in
from tests.stripes import USD, Account, payer, wallet


def _intent(account: Account, top_up: TopUp) -> dict[str, Any]:
    return account.world.things[top_up.payment_intent]


def _spend(organization: Organization, dollars: int) -> None:
    hold_id = ids.new()
    assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=dollars * USD).held
    ledger.settle(hold_id, cost_nanos=dollars * USD, provider="openai")


def _verdict(organization: Organization, dollars: int = 1) -> str:
    return ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=dollars * USD).verdict


def _refund_at_stripe(account: Account, top_up: TopUp, dollars: int) -> dict[str, Any]:
    return account.world.make_refund({"payment_intent": top_up.payment_intent, "amount": str(dollars * 100)})


def test_spent_then_refunded_disputed_and_won(account: Account, organization: Organization) -> None:
    """The whole row: the balance is negative exactly by the debt, and comes back exactly."""
    top_up = account.paid(organization, dollars=25)
    running = ids.new()
    assert ledger.hold(running, organization_id=organization.pk, amount_nanos=5 * USD).held
    _spend(organization, 15)
    _refund_at_stripe(account, top_up, 10)  # 5 free, 5 held
    account.tell()
    assert wallet(organization) == 0
    assert _verdict(organization) == "frozen"
    dispute = account.world.open_dispute(_intent(account, top_up))
    account.tell()
    assert wallet(organization) == -15 * USD
    top_up.refresh_from_db()
    assert top_up.clawed_nanos == top_up.credited_nanos == 25 * USD
    ledger.settle(running, cost_nanos=4 * USD, provider="openai")  # what runs settles
    assert wallet(organization) == -19 * USD
    account.world.close_dispute(dispute, won=True)
    account.tell()
    assert wallet(organization) == -4 * USD
    assert _verdict(organization) == "frozen"
    account.paid(organization, dollars=6)
    assert (wallet(organization), _verdict(organization)) == (2 * USD, "held")


def test_a_lost_dispute_changes_nothing_more(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization)
    _spend(organization, 20)
    dispute = account.world.open_dispute(_intent(account, top_up))
    account.tell()
    assert wallet(organization) == -20 * USD
    account.world.close_dispute(dispute, won=False)
    account.tell()
    assert wallet(organization) == -20 * USD
    assert Dispute.objects.get().status == "lost"


def test_an_inquiry_moves_no_money(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization, number="4000000000001976")
    account.world.close_dispute(account.world.all("dispute")[0], won=False)
    account.tell()
    assert (wallet(organization), _verdict(organization)) == (25 * USD, "held")
    assert Dispute.objects.get().bookings == 0
    assert top_up.clawed_nanos == 0


@pytest.mark.parametrize("parts", [(5, 5), (10, 15), (1, 2, 3)], ids=str)
def test_partial_refunds_are_booked_each_once(
    account: Account, organization: Organization, parts: tuple[int, ...]
) -> None:
    """`charge.refunded` tells the sum; what is booked is each refund object."""
    top_up = account.paid(organization)
    for dollars in parts:
        _refund_at_stripe(account, top_up, dollars)
        account.tell()
    assert wallet(organization) == (25 - sum(parts)) * USD
    assert Transfer.objects.filter(kind="refund_outside").count() == len(parts)


def test_a_refund_that_fails_comes_back_and_a_dispute_then_takes_all(
    account: Account, organization: Organization
) -> None:
    """A dispute of 25 after a refund of 10 took 15; when the refund fails, the other 10 are the dispute's."""
    top_up = account.paid(organization)
    refund = _refund_at_stripe(account, top_up, 10)
    dispute = account.world.open_dispute(_intent(account, top_up), amount=2500)
    account.tell()
    assert wallet(organization) == 0
    account.world.fail_refund(refund)
    account.tell()
    assert wallet(organization) == 0
    account.world.close_dispute(dispute, won=True)
    account.tell()
    assert wallet(organization) == 25 * USD
    top_up.refresh_from_db()
    assert top_up.clawed_nanos == 0
    assert _suspense() == 0


def _suspense() -> int:
    """What the suspense account holds, over all."""
    found = 0
    for kind, amount_nanos in Transfer.objects.values_list("kind", "amount_nanos"):
        found += {"suspense": amount_nanos, "suspense_returned": -amount_nanos}.get(kind, 0)
    return found


def test_tax_goes_back_with_what_it_was_paid_on(account: Account, organization: Organization, settings: Any) -> None:
    settings.STRIPE_TAX = True
    top_up = account.paid(organization, dollars=10)
    assert (wallet(organization), top_up.tax_nanos) == (10 * USD, 19 * USD // 10)
    _refund_at_stripe(account, top_up, 4)
    account.tell()
    account.world.make_refund({"payment_intent": top_up.payment_intent, "amount": "790"})
    account.tell()
    top_up.refresh_from_db()
    assert (top_up.left_nanos, top_up.clawed_tax_nanos, wallet(organization)) == (0, top_up.tax_nanos, 0)
    tax = Transfer.objects.filter(kind__in=["top_up_tax", "refund_tax"]).values_list("kind", "amount_nanos")
    assert sum(amount if kind == "top_up_tax" else -amount for kind, amount in tax) == 0


def test_a_fraud_warning_freezes_holds_once(account: Account, organization: Organization) -> None:
    with structlog.testing.capture_logs() as logged:
        account.paid(organization, number="4000000000005423")
    assert (wallet(organization), _verdict(organization)) == (25 * USD, "frozen")
    assert "a payment is under suspicion of fraud" in [line["event"] for line in logged]
    ledger.freeze(organization.pk, frozen=False)
    account.tell()
    assert _verdict(organization) == "held"


# --- refunds that a customer asks for ---------------------------------------------------------------------------------


def _ask(organization: Organization, dollars: int, *, key: uuid.UUID | None = None) -> list[Refund]:
    return refunds.ask(organization, user=payer(organization), amount_nanos=dollars * USD, key=key or uuid.uuid4())


def test_unspent_credit_goes_back_to_the_newest_payments(account: Account, organization: Organization) -> None:
    first, second = account.paid(organization, dollars=20), account.paid(organization, dollars=10)
    _spend(organization, 5)
    assert refunds.unspent(organization).amount_nanos == 25 * USD
    rows = _ask(organization, 25)
    assert [(row.top_up_id, row.amount_nanos) for row in rows] == [(second.pk, 10 * USD), (first.pk, 15 * USD)]
    assert wallet(organization) == 0
    account.tell()
    assert set(Refund.objects.values_list("state", flat=True)) == {RefundState.SUCCEEDED}
    assert wallet(organization) == 0
    assert Transfer.objects.filter(kind="refund").count() == 2


@pytest.mark.parametrize("dollars", [0, -1, 26, 1000])
def test_it_refunds_no_more_than_is_unspent(account: Account, organization: Organization, dollars: int) -> None:
    account.paid(organization, dollars=25)
    ledger.grant(organization.pk, amount_nanos=50 * USD, reason="test", reference=ids.new())
    with pytest.raises(errors.InvalidRequest, match=r"at most \$25\.00"):
        _ask(organization, dollars)
    assert wallet(organization) == 25 * USD


def test_it_refunds_nothing_that_is_held(account: Account, organization: Organization) -> None:
    account.paid(organization, dollars=25)
    assert ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=20 * USD).held
    with pytest.raises(errors.InvalidRequest, match=r"at most \$5\.00"):
        _ask(organization, 6)


def test_the_same_refund_asked_twice_is_one(account: Account, organization: Organization) -> None:
    account.paid(organization, dollars=25)
    key = uuid.uuid4()
    _ask(organization, 5, key=key)
    with pytest.raises(errors.InvalidRequest, match="already"):
        _ask(organization, 5, key=key)
    assert wallet(organization) == 20 * USD


def test_a_frozen_organization_gets_no_refund(account: Account, organization: Organization) -> None:
    account.paid(organization)
    ledger.freeze(organization.pk)
    with pytest.raises(errors.InvalidRequest, match="frozen"):
        _ask(organization, 5)


def test_what_stripe_refuses_is_the_customers_again(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization)
    account.world.things[_intent(account, top_up)["latest_charge"]]["disputed"] = True
    (row,) = _ask(organization, 5)
    row.refresh_from_db()
    assert (row.state, wallet(organization)) == (RefundState.FAILED, 25 * USD)
    top_up.refresh_from_db()
    assert top_up.clawed_nanos == 0


def test_a_refund_whose_answer_is_lost_is_asked_again_with_its_key(
    account: Account, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    from billing import stripe_gateway

    account.paid(organization)
    real = stripe_gateway.refund

    def lost(**asked: Any) -> str:
        real(**asked)
        raise Unclear("the answer was lost")

    monkeypatch.setattr(stripe_gateway, "refund", lost)
    (row,) = _ask(organization, 5)
    assert (Refund.objects.get().state, wallet(organization)) == (RefundState.ASKED, 20 * USD)
    monkeypatch.setattr(stripe_gateway, "refund", real)
    Refund.objects.update(created_at="2026-01-01T00:00:00Z")
    assert refunds.send_again() == 1
    account.tell()
    assert len(account.world.all("refund")) == 1
    assert (Refund.objects.get(pk=row.pk).state, wallet(organization)) == (RefundState.SUCCEEDED, 20 * USD)


@pytest.mark.parametrize(("role", "status"), [("owner", 302), ("billing", 302), ("admin", 403), ("developer", 403)])
def test_only_owners_and_billing_refund(
    account: Account, organization: Organization, charlie: Any, role: str, status: int
) -> None:
    from accounts import organizations

    account.paid(organization)
    organizations.add_member(organization, user=charlie, role=role)
    asked = {"amount": "5", "key": str(uuid.uuid4())}
    assert sign_in(charlie).post("/app/billing/refund", asked).status_code == status
    assert wallet(organization) == (20 if status == 302 else 25) * USD


def test_a_closed_organization_gets_its_rest_back_on_its_cards(account: Account, organization: Organization) -> None:
    """From the newest payment on, each asked once, and whatever Stripe refuses is owed."""
    older, newer = account.paid(organization, dollars=25), account.paid(organization, dollars=10)
    _spend(organization, 5)
    closing.begin(organization)
    done = closing.finish(organization.pk)
    assert (done.refunded_nanos, done.owed_nanos) == (30 * USD, 0)
    assert dict(Refund.objects.values_list("top_up_id", "amount_nanos")) == {older.pk: 20 * USD, newer.pk: 10 * USD}
    assert sum(thing["amount"] for thing in account.world.all("refund")) == 3_000
    assert wallet(organization) == 0
    assert refunds.of_closed(organization, 30 * USD) == 0
    account.tell()
    assert (wallet(organization), Refund.objects.count()) == (0, 2)


def test_what_stripe_refuses_of_a_closing_is_owed(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization)
    account.world.things[top_up.payment_intent]["status"] = "canceled"
    closing.begin(organization)
    done = closing.finish(organization.pk)
    assert (done.refunded_nanos, done.owed_nanos) == (0, 25 * USD)
    assert wallet(organization) == 25 * USD
