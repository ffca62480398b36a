"""Alerts of budgets: at 80 and 100 %, by mail and webhook, each once for a window, however many workers look."""

from __future__ import annotations

import datetime as dt
import threading
from typing import Any

import orjson
import pytest
from django.core import mail
from django.db import connection

from accounts import organizations, users
from accounts.models import Organization, Role, User
from billing import budget_alerts, budgets, ledger, tasks
from billing.models import BudgetAlert, Limit, LimitUse
from core import ids
from imagesapi import webhooks
from imagesapi.webhook_models import WebhookDelivery
from tests.billing.test_budgets import CENT, hold, spend
from tests.money import customer, fund
from tests.people import IssuedKey


@pytest.fixture
def spender(organization: Organization) -> Organization:
    """With a budget of a dollar a month."""
    fund(organization, wallet_nanos=1_000 * CENT)
    budgets.set_for_organization(organization, {"spend_month_usd": "1"})
    budgets._refused_at_ns.clear()
    return organization


def told() -> list[int]:
    rows = BudgetAlert.objects.order_by("created_at", "threshold_percent")
    return list(rows.values_list("threshold_percent", flat=True))


def jobs() -> list[str]:
    """The mails that wait for a worker."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT args ->> 'alert_id' FROM procrastinate_jobs WHERE task_name = %s", [budget_alerts.MAIL_TASK]
        )
        return [word for (word,) in cursor.fetchall()]


def next_month() -> None:
    for row in LimitUse.objects.all():
        row.starts_at -= dt.timedelta(days=31)
        row.save()
    for alert in BudgetAlert.objects.all():
        BudgetAlert.objects.filter(pk=alert.pk).update(starts_at=alert.starts_at - dt.timedelta(days=31))
    Limit.objects.update(refused_at=None)


@pytest.mark.parametrize(("spent", "thresholds"), [(79, []), (80, [80]), (99, [80]), (100, [80, 100])])
def test_it_tells_at_eighty_and_at_a_hundred(spender: Organization, spent: int, thresholds: list[int]) -> None:
    spend(spender, spent * CENT)
    tasks.find_budget_alerts(0)
    assert told() == thresholds


def test_what_is_only_held_is_not_spent(spender: Organization) -> None:
    assert hold(spender, 100 * CENT).held
    assert budget_alerts.find() == 0


def test_each_is_told_once_for_a_window(spender: Organization) -> None:
    spend(spender, 85 * CENT)
    assert [budget_alerts.find() for _ in range(3)] == [1, 0, 0]
    spend(spender, 15 * CENT)
    assert [budget_alerts.find() for _ in range(3)] == [1, 0, 0]
    next_month()
    assert budget_alerts.find() == 0
    spend(spender, 100 * CENT)
    assert budget_alerts.find() == 2
    assert len(jobs()) == 4


def test_a_budget_that_refuses_is_at_its_end_whatever_is_left(spender: Organization) -> None:
    spend(spender, 70 * CENT)
    verdict = hold(spender, 31 * CENT)
    for _ in range(2):
        budgets.note_refusal(verdict, organization_id=spender.pk, key_id=None, member_id=None)
    assert budget_alerts.find() == 1
    assert told() == [100]
    assert "$0.70 of it is spent" in budget_alerts._messages(BudgetAlert.objects.get())[0].body


def test_other_refusals_say_nothing_of_a_budget(spender: Organization) -> None:
    for verdict in (
        hold(spender, 10_000 * CENT),
        ledger.Verdict("limit", limit_scope="organization", limit_meter="requests", limit_window="minute", limit_cap=1),
    ):
        budgets.note_refusal(verdict, organization_id=spender.pk, key_id=None, member_id=None)
    assert Limit.objects.get().refused_at is None


def test_a_refusal_is_noted_once_a_minute(spender: Organization, django_assert_num_queries: Any) -> None:
    verdict = hold(spender, 101 * CENT)
    with django_assert_num_queries(1):
        for _ in range(5):
            budgets.note_refusal(verdict, organization_id=spender.pk, key_id=None, member_id=None)


def test_a_budget_of_another_size_is_told_of_anew(spender: Organization) -> None:
    spend(spender, 85 * CENT)
    budget_alerts.find()
    budgets.set_for_organization(spender, {"spend_month_usd": "1"})
    assert budget_alerts.find() == 0
    budgets.set_for_organization(spender, {"spend_month_usd": "2"})
    assert budget_alerts.find() == 0
    spend(spender, 75 * CENT)
    assert budget_alerts.find() == 1


def test_owners_and_billing_members_get_mail_each_by_themselves(
    spender: Organization, alice: User, bob: User, settings: Any
) -> None:
    finance, gone = (users.create_verified(f"{name}@example.com") for name in ("finance", "gone"))
    for person in (finance, gone):
        organizations.add_member(spender, user=person, role=Role.BILLING)
    User.objects.filter(pk=gone.pk).update(is_active=False)
    settings.BASE_URL = "https://images.example"
    spend(spender, 85 * CENT)
    budget_alerts.find()
    (alert_id,) = jobs()
    for _ in range(3):
        tasks.mail_budget_alert(alert_id)
    assert [message.to for message in mail.outbox] == [[alice.email], [finance.email]]
    assert mail.outbox[0].subject == "A budget of Alice & Co is 80 % used"
    assert "The month's budget of the organization Alice & Co is $1.00. $0.85 of it is spent." in mail.outbox[0].body
    assert "https://images.example/app/billing/budgets" in mail.outbox[0].body


def test_the_mail_names_the_key_or_the_member(spender: Organization, bob: User, api_key: IssuedKey) -> None:
    budgets.set_for_member(spender, bob.email, {"spend_total_usd": "0.50"})
    budgets.set_for_key(api_key.row, {"spend_day_usd": "0.50"})
    spend(spender, 50 * CENT, key_id=api_key.row.pk, member_id=bob.pk)
    budget_alerts.find()
    for alert_id in jobs():
        tasks.mail_budget_alert(alert_id)
    bodies = "\n".join(str(message.body) for message in mail.outbox)
    assert f'The day\'s budget of the key "tests" ({api_key.row}) is $0.50' in bodies
    assert "The budget in all of bob@example.com is $0.50" in bodies
    assert "are refused until the budget is raised" in bodies


def test_mail_that_was_not_taken_is_sent_later(spender: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    spend(spender, 85 * CENT)
    budget_alerts.find()
    alert = BudgetAlert.objects.get()

    def down(*_: Any, **__: Any) -> Any:
        raise OSError("no mail server")

    with monkeypatch.context() as patch:
        patch.setattr(budget_alerts, "get_connection", down)
        with pytest.raises(OSError, match="no mail server"):
            tasks.mail_budget_alert(str(alert.pk))
    assert mail.outbox == []
    assert budget_alerts.mail(alert.pk) == 1


def test_webhooks_hear_of_it_once(spender: Organization, api_key: IssuedKey, other_organization: Organization) -> None:
    wanted, _ = webhooks.create(spender.pk, url="https://a.example/x", events=["budget.threshold_reached"])
    webhooks.create(spender.pk, url="https://b.example/x", events=["request.completed"])
    webhooks.create(other_organization.pk, url="https://c.example/x", events=["budget.threshold_reached"])
    budgets.set_for_key(api_key.row, {"spend_day_usd": "0.10"})
    spend(spender, 8 * CENT, key_id=api_key.row.pk)
    for _ in range(2):
        budget_alerts.find()
    delivery = WebhookDelivery.objects.get()
    assert (delivery.endpoint, delivery.generation) == (wanted, None)
    event = orjson.loads(delivery.payload)
    assert (event["type"], event["id"]) == ("budget.threshold_reached", ids.public("evt", BudgetAlert.objects.get().pk))
    assert event["data"]["threshold_percent"] == 80
    assert (event["data"]["key_id"], event["data"]["limit"], event["data"]["used"]) == (
        api_key.row.public_id,
        "0.10",
        "0.08",
    )


def test_what_goes_wrong_with_one_does_not_keep_the_others(
    spender: Organization, other_organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    fund(other_organization, wallet_nanos=1_000 * CENT)
    budgets.set_for_organization(other_organization, {"spend_month_usd": "1"})
    for organization in (spender, other_organization):
        spend(organization, 85 * CENT)
    real = webhooks.of

    def of(organization_id: int) -> Any:
        if organization_id == spender.pk:
            raise RuntimeError("out of order")
        return real(organization_id)

    with monkeypatch.context() as patch:
        patch.setattr(webhooks, "of", of)
        assert budget_alerts.find() == 1
    assert BudgetAlert.objects.get().limit.organization == other_organization
    assert budget_alerts.find() == 1


def test_several_workers_tell_once(committed: None) -> None:
    spenders = [customer(wallet_nanos=200 * CENT)[0] for _ in range(10)]
    for organization in spenders:
        budgets.set_for_organization(organization, {"spend_total_usd": "1"})
        spend(organization, 100 * CENT)
    barrier = threading.Barrier(8)
    counts: list[int] = []

    def work() -> None:
        try:
            barrier.wait(20)
            counts.append(budget_alerts.find())
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(counts), sum(counts)) == (8, 20)
    assert len(jobs()) == len(set(jobs())) == 20

    sent: list[int] = []
    first = BudgetAlert.objects.order_by("pk")[0].pk

    def post() -> None:
        try:
            barrier.wait(20)
            sent.append(budget_alerts.mail(first))
        finally:
            connection.close()

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sent) == [0] * 7 + [1]
