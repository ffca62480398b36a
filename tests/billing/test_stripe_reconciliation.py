"""T-13: every event is lost, and the books are right after one run all the same, with an alert."""

from __future__ import annotations

from typing import Any

import pytest
import structlog
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import ledger, stripe_gateway, stripe_inbox, stripe_reconciliation
from billing.stripe_models import TopUp, TopUpState
from tests.stripes import USD, Account, wallet


def _run() -> stripe_reconciliation.Report:
    return stripe_reconciliation.reconcile(grace_s=0)


def test_it_books_what_lost_events_left_out(account: Account, organization: Organization) -> None:
    first, second = (account.top_up(organization, dollars=dollars) for dollars in (25, 40))
    account.pay(first)
    intent = account.pay(second)
    account.world.make_refund({"payment_intent": intent["id"], "amount": "1000"})
    account.world.open_dispute(account.world.things[account.session(first)["payment_intent"]])
    with structlog.testing.capture_logs() as logged:
        report = _run()
    assert wallet(organization) == 30 * USD
    assert {line.split()[0] for line in report.found} >= {"payment"}
    (alert,) = [line for line in logged if line["event"].startswith("events of Stripe's were lost")]
    assert alert["log_level"] == "error"
    assert _run().found == ()
    assert wallet(organization) == 30 * USD


def test_it_finds_later_movements_of_payments_it_knows(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization)
    intent = account.world.things[top_up.payment_intent]
    refund = account.world.make_refund({"payment_intent": intent["id"], "amount": "500"})
    assert _run().found == (f"refund {refund['id']}",)
    account.world.fail_refund(refund)
    assert _run().found == (f"refund {refund['id']}",)
    assert wallet(organization) == 25 * USD
    dispute = account.world.open_dispute(intent)
    assert _run().found == (f"dispute {dispute['id']}",)
    account.world.close_dispute(dispute, won=True)
    assert _run().found == (f"dispute {dispute['id']}",)
    assert wallet(organization) == 25 * USD


def test_it_heeds_a_fraud_warning_that_was_lost(account: Account, organization: Organization) -> None:
    top_up = account.paid(organization, number="4242424242424242")
    account.world.warn(account.world.things[top_up.payment_intent])
    assert len(_run().found) == 1
    assert ledger.is_frozen(organization.pk)


def test_it_leaves_to_events_what_just_happened(account: Account, organization: Organization) -> None:
    account.pay(account.top_up(organization))
    assert stripe_reconciliation.reconcile(grace_s=600).found == ()
    assert wallet(organization) == 0


def test_it_ends_checkouts_that_are_over(account: Account, organization: Organization) -> None:
    top_up = account.top_up(organization)
    account.world.expire_session(account.session(top_up))
    TopUp.objects.update(created_at="2026-01-01T00:00:00Z")
    _run()
    assert TopUp.objects.get().state == TopUpState.EXPIRED


def test_it_finds_a_checkout_whose_answer_was_lost(account: Account, organization: Organization) -> None:
    top_up = account.top_up(organization)
    session = account.session(top_up)
    TopUp.objects.update(checkout_session="", state=TopUpState.CREATED)
    _run()
    top_up.refresh_from_db()
    assert (top_up.checkout_session, top_up.state) == (session["id"], TopUpState.OPEN)


@pytest.mark.parametrize(
    ("count", "listed_max"), [(25, 10), pytest.param(105, stripe_gateway._LISTED_MAX, marks=pytest.mark.prove)]
)
def test_it_pages_through_long_lists(
    account: Account,
    organization: Organization,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    *,
    count: int,
    listed_max: int,
) -> None:
    settings.TOP_UP_TRIES_PER_DAY = 1000
    monkeypatch.setattr(stripe_gateway, "_LISTED_MAX", listed_max)
    for _ in range(count):
        account.pay(account.top_up(organization, dollars=5))
    assert len(_run().found) == count
    assert wallet(organization) == count * 5 * USD


def test_its_command_says_what_was_missing(
    account: Account, organization: Organization, capsys: pytest.CaptureFixture[str]
) -> None:
    account.pay(account.top_up(organization))
    with pytest.raises(SystemExit) as ended:
        call_command("stripe_reconcile")
    assert ended.value.code == 1
    assert "was missing, is booked now: payment pi_" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        call_command("stripe_reconcile")
    assert ended.value.code == 0


def test_an_event_can_be_acted_on_anew(account: Account, organization: Organization, monkeypatch: Any) -> None:
    account.pay(account.top_up(organization))
    account.tell()
    event = account.events("payment_intent.succeeded")[0]
    assert stripe_inbox.replay(event["id"])
    call_command("stripe_reconcile", "--replay", event["id"])
    assert wallet(organization) == 25 * USD
    with pytest.raises(CommandError):
        call_command("stripe_reconcile", "--replay", "evt_unknown")


def test_its_command_needs_a_key(db: None) -> None:
    with pytest.raises(CommandError, match="not configured"):
        call_command("stripe_reconcile")


@pytest.mark.parametrize("hours", ["0", "-5", "99999999999"])
def test_its_command_looks_back_for_a_sensible_time(account: Account, hours: str) -> None:
    with pytest.raises(CommandError, match="--hours takes 1 to"):
        call_command("stripe_reconcile", "--hours", hours)
