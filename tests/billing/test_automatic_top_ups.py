"""T-22: automatic top-up: one charge however many holds cross the threshold at once, and its limits."""

from __future__ import annotations

import datetime as dt
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import time_machine
from django.core import mail
from django.db import connection, connections
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import automatic, ledger
from billing.stripe_models import AutomaticTopUp, StripeCustomer, TopUp, TopUpState
from core import errors, ids
from tests.money import customer
from tests.people import sign_in
from tests.stripes import USD, Account, payer, wallet

DECLINES_LATER, ASKS_ALWAYS = "4000000000000341", "4000002760003184"


def _set_up(
    account: Account,
    organization: Organization,
    *,
    number: str = "4242424242424242",
    threshold: int = 10,
    target: int = 50,
    ceiling: int = 200,
) -> AutomaticTopUp:
    account.customer_with_card(organization, number)
    automatic.save(
        organization,
        enabled=True,
        threshold_nanos=threshold * USD,
        target_nanos=target * USD,
        monthly_ceiling_nanos=ceiling * USD,
    )
    return AutomaticTopUp.objects.get()


def _later(minutes: int = 11) -> time_machine.travel:
    return time_machine.travel(timezone.now() + dt.timedelta(minutes=minutes), tick=True)


def test_it_closes_the_whole_gap_in_one_charge(account: Account, organization: Organization) -> None:
    _set_up(account, organization)
    ledger.grant(organization.pk, amount_nanos=3 * USD, reason="test", reference=ids.new())
    assert automatic.sweep() == 1
    assert ledger.balance(organization.pk).available_nanos == 50 * USD
    assert wallet(organization) == 47 * USD
    account.tell()
    assert wallet(organization) == 47 * USD
    assert automatic.sweep() == 0
    assert len(account.world.all("payment_intent")) == 1


def test_it_leaves_a_balance_above_the_threshold_alone(account: Account, organization: Organization) -> None:
    _set_up(account, organization)
    ledger.grant(organization.pk, amount_nanos=10 * USD, reason="test", reference=ids.new())
    assert automatic.sweep() == 0
    assert automatic.consider(organization.pk) is None


def test_64_holds_that_cross_it_together_make_one_payment(committed: None, account: Account) -> None:
    organization, _ = customer(promo_nanos=70 * USD)
    _set_up(account, organization)
    together = threading.Barrier(64)

    def spend(_: int) -> None:
        try:
            hold_id = ids.new()
            assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=USD).held
            together.wait(30)
            automatic.consider(organization.pk)
            automatic.sweep()
            ledger.settle(hold_id, cost_nanos=USD, provider="openai")
        finally:
            connections.close_all()

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(spend, range(64)))
    assert len(account.world.all("payment_intent")) == 1
    assert TopUp.objects.get().state == TopUpState.PAID
    connection.close()


def test_it_tries_once_in_its_pause(account: Account, organization: Organization) -> None:
    _set_up(account, organization, number=DECLINES_LATER)
    for _ in range(5):
        automatic.sweep()
    assert len(account.world.all("payment_intent")) == 1
    with _later():
        automatic.sweep()
        automatic.sweep()
    assert len(account.world.all("payment_intent")) == 2


def test_three_failures_switch_it_off_and_say_so(
    account: Account,
    organization: Organization,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    _set_up(account, organization, number=DECLINES_LATER)
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(5):
            with _later(11 * number):
                automatic.sweep()
                account.tell()
    row = AutomaticTopUp.objects.get()
    assert (row.enabled, row.failures) == (False, 3)
    assert "generic_decline" in row.off_reason
    assert len(account.world.all("payment_intent")) == 3
    assert [message.subject for message in mail.outbox][-1] == "Automatic top-up is switched off"
    assert mail.outbox[0].to == ["alice@example.com"]
    assert wallet(organization) == 0
    page = sign_in(payer(organization)).get("/app/billing").content.decode()
    assert "It was switched off." in page


def test_a_success_forgets_failures(account: Account, organization: Organization) -> None:
    _set_up(account, organization, number=DECLINES_LATER)
    automatic.sweep()
    assert AutomaticTopUp.objects.get().failures == 1
    account.customer_with_card(organization)
    with _later():
        automatic.sweep()
    assert AutomaticTopUp.objects.get().failures == 0
    assert wallet(organization) == 50 * USD


def test_it_keeps_to_the_monthly_ceiling(account: Account, organization: Organization) -> None:
    """Fifty dollars at a time, 120 a month: fifty, fifty, twenty, nothing; and again next month."""
    _set_up(account, organization, ceiling=120)
    with time_machine.travel(dt.datetime(2027, 3, 5, 12, tzinfo=dt.UTC), tick=True) as clock:
        TopUp.objects.all()
        for hour in range(5):
            clock.move_to(dt.datetime(2027, 3, 5, 12 + hour, tzinfo=dt.UTC))
            automatic.consider(organization.pk)
            TopUp.objects.filter(created_at__lt=clock_start()).update(created_at=timezone.now())
            _spend_all(organization)
        assert sorted(TopUp.objects.values_list("amount_nanos", flat=True)) == [20 * USD, 50 * USD, 50 * USD]
        clock.move_to(dt.datetime(2027, 4, 1, 0, 1, tzinfo=dt.UTC))
        automatic.consider(organization.pk)
    assert TopUp.objects.count() == 4


def clock_start() -> dt.datetime:
    """Rows get the database's time, which no test moves."""
    return dt.datetime(2027, 3, 1, tzinfo=dt.UTC)


def _spend_all(organization: Organization) -> None:
    left_nanos = ledger.balance(organization.pk).available_nanos
    if left_nanos:
        hold_id = ids.new()
        assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=left_nanos).held
        ledger.settle(hold_id, cost_nanos=left_nanos, provider="openai")


def test_a_bank_that_asks_is_asked_by_mail(
    account: Account,
    organization: Organization,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    _set_up(account, organization, number=ASKS_ALWAYS)
    with django_capture_on_commit_callbacks(execute=True):
        automatic.sweep()
        account.tell()
    top_up = TopUp.objects.get()
    assert (top_up.state, AutomaticTopUp.objects.get().failures) == (TopUpState.ACTION, 0)
    (message,) = mail.outbox
    link = f"/app/billing/top-ups/{top_up.word}/confirm"
    assert link in message.body
    with _later():
        assert automatic.sweep() == 0  # one open try at a time
    browser = sign_in(payer(organization))
    assert b"Go to the bank" in browser.get(link).content
    response = browser.post(link)
    assert "/3ds/pi_" in response.headers["Location"]
    account.world.authenticate(account.world.things[top_up.payment_intent], well=True)
    account.tell()
    assert wallet(organization) == 50 * USD
    assert b"nothing to confirm" in browser.get(link).content
    assert browser.post(link).status_code == 302


def test_what_nobody_confirms_ends_after_a_day(account: Account, organization: Organization) -> None:
    _set_up(account, organization, number=ASKS_ALWAYS)
    automatic.sweep()
    automatic.resume()
    assert TopUp.objects.get().state == TopUpState.ACTION
    with _later(60 * 25):
        automatic.resume()
    assert TopUp.objects.get().state == TopUpState.FAILED
    assert AutomaticTopUp.objects.get().failures == 1


def test_it_charges_no_frozen_or_suspended_organization(account: Account, organization: Organization) -> None:
    _set_up(account, organization)
    ledger.freeze(organization.pk)
    assert automatic.consider(organization.pk) is None
    ledger.freeze(organization.pk, frozen=False)
    Organization.objects.update(suspended_at=timezone.now())
    assert automatic.sweep() == 0


def test_a_removed_card_switches_it_off(account: Account, organization: Organization) -> None:
    _set_up(account, organization)
    assert sign_in(payer(organization)).post("/app/billing/card/remove").status_code == 302
    assert StripeCustomer.objects.get().payment_method == ""
    assert AutomaticTopUp.objects.get().off_reason == "The saved card was removed."
    account.tell()
    assert automatic.sweep() == 0


@pytest.mark.parametrize(
    ("threshold", "target", "ceiling"), [(10, 10, 100), (10, 5, 100), (10, 2000, 5000), (0, 50, 20)], ids=str
)
def test_it_refuses_settings_that_make_no_sense(
    account: Account, organization: Organization, threshold: int, target: int, ceiling: int
) -> None:
    account.customer_with_card(organization)
    asked = {"enabled": "on", "threshold": threshold, "target": target, "ceiling": ceiling}
    response = sign_in(payer(organization)).post("/app/billing/automatic", asked)
    assert response.status_code == 400
    assert not AutomaticTopUp.objects.exists()


def test_it_needs_a_saved_card(account: Account, organization: Organization) -> None:
    with pytest.raises(errors.InvalidRequest, match="no saved card"):
        automatic.save(organization, enabled=True, threshold_nanos=0, target_nanos=USD, monthly_ceiling_nanos=100 * USD)


def test_it_is_off_where_tax_is_added(account: Account, organization: Organization, settings: Settings) -> None:
    settings.STRIPE_TAX = True
    with pytest.raises(errors.InvalidRequest, match="tax"):
        _set_up(account, organization)
