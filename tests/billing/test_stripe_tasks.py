"""The periodic work of payments: what runs by itself, with a pretended account and without one."""

from __future__ import annotations

import pytest
import structlog
from django.core.management import CommandError, call_command
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import automatic, ledger, stripe_gateway, tasks
from billing.stripe_facts import Unclear
from billing.stripe_models import StripeEvent
from core import ids
from tests.stripes import USD, Account, wallet


def test_they_do_nothing_without_a_key(db: None) -> None:
    for task in (tasks.automatic_top_ups, tasks.stripe_events, tasks.stripe_reconcile):
        task(timestamp=0)


def test_they_fill_up_act_and_compare(account: Account, organization: Organization) -> None:
    account.customer_with_card(organization)
    amounts = {"threshold_nanos": 10 * USD, "target_nanos": 50 * USD, "monthly_ceiling_nanos": 100 * USD}
    automatic.save(organization, enabled=True, **amounts)
    tasks.automatic_top_ups(timestamp=0)
    assert wallet(organization) == 50 * USD
    account.pay(account.top_up(organization))
    hidden = account.world.things.copy()
    account.world.things.clear()
    account.tell()
    account.world.things.update(hidden)
    StripeEvent.objects.update(next_try_at="2020-01-01T00:00:00Z")
    tasks.stripe_events(timestamp=0)
    assert wallet(organization) == 75 * USD
    tasks.stripe_reconcile(timestamp=0)


def test_a_silent_stripe_is_a_line_in_the_log(
    account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch, db: None
) -> None:
    def silent(**_: object) -> None:
        raise Unclear("no answer")

    monkeypatch.setattr(stripe_gateway, "lately", silent)
    with structlog.testing.capture_logs() as logged:
        tasks.stripe_reconcile(timestamp=0)
    assert [line["log_level"] for line in logged] == ["warning"]


def test_an_operator_freezes_and_thaws(organization: Organization, capsys: pytest.CaptureFixture[str]) -> None:
    ledger.grant(organization.pk, amount_nanos=USD, reason="test", reference=ids.new())
    call_command("freeze_balance", organization.slug)
    assert ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=1).verdict == "frozen"
    call_command("freeze_balance", organization.slug, "--off")
    assert ledger.hold(ids.new(), organization_id=organization.pk, amount_nanos=1).held
    assert "is frozen" in capsys.readouterr().out
    with pytest.raises(CommandError, match="there is no organization"):
        call_command("freeze_balance", "nobody")
