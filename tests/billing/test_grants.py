"""Promotional credit in lots: spent before it expires, and never expired from under a running request."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from accounts.models import Organization
from billing import grants, ledger, tasks
from billing.models import Grant, Hold, Transfer
from core import ids
from tests import databases
from tests.billing.test_concurrency import COST_NANOS, Crowd, crowd, hold  # noqa: F401 - a fixture
from tests.money import customer

DAY = dt.timedelta(days=1)


def give(organization: Organization, amount_nanos: int, *, days: int | None = None, reason: str = "test") -> None:
    expires_at = None if days is None else timezone.now() + days * DAY
    ledger.grant(organization.pk, amount_nanos=amount_nanos, reason=reason, reference=ids.new(), expires_at=expires_at)


def spend(organization: Organization, amount_nanos: int) -> None:
    ledger.settle(reserve(organization, amount_nanos), cost_nanos=amount_nanos, provider="openai")


def reserve(organization: Organization, amount_nanos: int) -> uuid.UUID:
    hold_id = ids.new()
    assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=amount_nanos).held
    return hold_id


def left(organization: Organization) -> list[tuple[str, int]]:
    return [(lot.reason, lot.remaining_nanos) for lot in grants.lots(organization.pk)]


def days_pass(days: int) -> None:
    for row in Grant.objects.exclude(expires_at=None):
        Grant.objects.filter(pk=row.pk).update(expires_at=(row.expires_at or timezone.now()) - days * DAY)


def expired(organization: Organization) -> list[int]:
    rows = Transfer.objects.filter(kind="grant_expired", debit_account__organization=organization)
    return list(rows.order_by("id").values_list("amount_nanos", flat=True))


def test_it_spends_what_expires_first(organization: Organization) -> None:
    give(organization, 100, reason="for ever")
    give(organization, 100, days=30, reason="late")
    give(organization, 100, days=7, reason="soon")
    spend(organization, 150)
    assert left(organization) == [("late", 50), ("for ever", 100)]


def test_a_later_grant_does_not_pay_for_what_was_spent_before_it(organization: Organization) -> None:
    give(organization, 100, reason="for ever")
    spend(organization, 60)
    give(organization, 100, days=1, reason="soon")
    assert left(organization) == [("soon", 100), ("for ever", 40)]


def test_what_is_left_expires_and_is_booked_to_breakage(organization: Organization) -> None:
    give(organization, 100, days=2)
    give(organization, 10, reason="for ever")
    spend(organization, 30)
    assert ledger.expire(organization.pk) == 0
    days_pass(3)
    assert ledger.expire(organization.pk) == 70
    assert ledger.expire(organization.pk) == 0
    row = Transfer.objects.get(kind="grant_expired")
    assert (row.amount_nanos, row.debit_account.kind, row.credit_account.kind) == (70, "promo", "breakage")
    assert left(organization) == [("for ever", 10)]
    assert ledger.balance(organization.pk).promo_nanos == 10


def test_what_was_spent_is_taken_from_what_expires_first_though_it_came_later(organization: Organization) -> None:
    give(organization, 100, reason="for ever")
    give(organization, 100, days=9, reason="late")
    give(organization, 100, days=1, reason="soon")
    spend(organization, 130)
    days_pass(2)
    assert ledger.expire(organization.pk) == 0
    assert left(organization) == [("late", 70), ("for ever", 100)]
    days_pass(9)
    assert ledger.expire(organization.pk) == 70
    assert left(organization) == [("for ever", 100)]


def test_what_a_running_request_holds_expires_once_it_has_given_it_back(organization: Organization) -> None:
    give(organization, 100, days=2)
    first, second = reserve(organization, 40), reserve(organization, 20)
    days_pass(3)
    assert ledger.expire(organization.pk) == 40
    assert ledger.balance(organization.pk).held_nanos == 60
    ledger.settle(first, cost_nanos=25, provider="openai")
    ledger.void(second)
    assert ledger.balance(organization.pk).available_nanos == 35
    assert grants.expire_due() == 35
    assert expired(organization) == [40, 35]
    assert ledger.balance(organization.pk).promo_nanos == 0


def test_the_task_expires_for_everybody_and_once(organization: Organization, other_organization: Organization) -> None:
    for mine, amount in ((organization, 30), (other_organization, 40)):
        give(mine, amount, days=1)
        give(mine, 5)
    days_pass(2)
    for _ in range(3):
        tasks.expire_credit(0)
    assert (expired(organization), expired(other_organization)) == ([30], [40])


def test_one_that_cannot_be_booked_does_not_keep_the_others(
    organization: Organization, other_organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(organization, 30, days=1)
    give(other_organization, 40, days=1)
    days_pass(2)
    real = ledger.expire

    def expire(organization_id: int) -> int:
        if organization_id == organization.pk:
            raise DatabaseError("out of order")
        return real(organization_id)

    monkeypatch.setattr(ledger, "expire", expire)
    assert grants.expire_due() == 40


def test_a_correction_in_credit_is_a_lot_that_never_expires(organization: Organization) -> None:
    ledger.post(
        "true_up_promo",
        organization_id=organization.pk,
        amount_nanos=7,
        provider="fal",
        reference_type="test",
        reference=ids.new(),
        note="corrected",
    )
    assert [(lot.reason, lot.expires_at) for lot in grants.lots(organization.pk)] == [("corrected", None)]


def test_it_brings_promo_up_to_a_cap_and_never_above(organization: Organization) -> None:
    def fund(cap_nanos: int, reference: uuid.UUID) -> int:
        return ledger.fund(organization.pk, cap_nanos=cap_nanos, reason="daily", reference=reference)

    give(organization, 30)
    reference = ids.new()
    assert fund(100, reference) == 70
    spend(organization, 50)
    assert fund(100, reference) == 0
    reserve(organization, 20)
    assert fund(100, ids.new()) == 50
    assert fund(90, ids.new()) == 0
    assert ledger.balance(organization.pk).promo_nanos == 100


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("UPDATE billing_grant SET amount_nanos = amount_nanos + 1", "differs from"),
        ("UPDATE billing_grant SET expired_nanos = expired_nanos + 1", "differs from its lots"),
        ("UPDATE billing_grant SET spent_nanos = spent_nanos + 40", "than was spent"),
        ("DELETE FROM billing_grant", "differs from"),
    ],
)
def test_the_proof_finds_lots_that_were_tampered_with(organization: Organization, statement: str, name: str) -> None:
    give(organization, 100)
    spend(organization, 30)
    with transaction.atomic():
        connection.cursor().execute(statement)
        assert any(name in line for line in ledger.verify().differences)
        transaction.set_rollback(True)


def test_the_applications_role_changes_no_lot_by_hand(organization: Organization) -> None:
    give(organization, 100, days=1)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE pixelpar")
        for statement in ("UPDATE billing_grant SET expires_at = NULL", "SELECT ledger_lots_take(1, 1, true)"):
            with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
                cursor.execute(statement)
        cursor.execute("SELECT ledger_expire(%s, false)", [organization.pk])
        cursor.execute("RESET ROLE")


def race(crowd: Crowd, *, rounds: int, callers: int) -> None:  # noqa: F811
    """Holds, settlements, expiry and grants of one organization at the same time; each ends with exact sums."""
    for _ in range(rounds):
        organization, _ = customer()
        give(organization, 10 * COST_NANOS + 3, days=1)
        give(organization, 5 * COST_NANOS, days=30)
        days_pass(2)

        def ask(line: psycopg.Connection[Any], organization_id: int = organization.pk) -> str:
            return hold(line, organization_id)

        def expire(line: psycopg.Connection[Any], organization_id: int = organization.pk) -> str:
            found = line.execute("SELECT ledger_expire(%s, false)", [organization_id]).fetchone()
            return f"{found[0] if found else 0}"

        words = crowd.together(ask, ask, expire, callers=callers)
        held = words.count("held")
        gone = sum(int(word) for word in words if word.isdigit())
        assert gone <= 10 * COST_NANOS + 3
        balance = ledger.balance(organization.pk)
        assert (balance.promo_nanos, balance.held_nanos) == (15 * COST_NANOS + 3 - gone, held * COST_NANOS)
        assert balance.available_nanos >= 0
        for number, row in enumerate(Hold.objects.filter(organization=organization, state="held")):
            if number % 2:
                ledger.settle(row.pk, cost_nanos=COST_NANOS // 2, provider="openai")
            else:
                ledger.void(row.pk)
        ledger.expire(organization.pk)
        assert ledger.verify().differences == ()
        assert sum(lot.remaining_nanos for lot in grants.lots(organization.pk)) <= 5 * COST_NANOS


def test_it_expires_exactly_while_requests_are_let_in(crowd: Crowd) -> None:  # noqa: F811
    race(crowd, rounds=3, callers=32)


@pytest.mark.prove
def test_it_expires_exactly_while_requests_are_let_in_at_full_size(crowd: Crowd) -> None:  # noqa: F811
    race(crowd, rounds=20, callers=256)
    print("lots: 20/20 crowds of 256 holds and expiries at once ended exact")


def test_grants_and_expiry_never_wait_for_each_other_in_a_circle(committed: None) -> None:
    organizations = [customer(promo_nanos=100)[0].pk for _ in range(2)]
    failures: list[Exception] = []

    def work(order: int) -> None:
        try:
            with databases.connect(str(connection.settings_dict["NAME"])) as line:
                for number in range(20):
                    organization_id = organizations[(number + order) % 2]
                    until = timezone.now() - DAY if number % 2 else None
                    line.execute(
                        "SELECT ledger_grant_until(%s, 5, %s, 'race', %s)", [organization_id, ids.new(), until]
                    )
                    line.execute("SELECT ledger_expire(%s, false)", [organization_id])
        except psycopg.Error as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_an_operator_grants_credit_that_expires(organization: Organization) -> None:
    output = StringIO()
    arguments = ["grant_credit", organization.slug, "2.50", "--reason", "trial", "--expires-in-days", "14"]
    call_command(*arguments, stdout=output)
    assert "$2.50 granted" in output.getvalue()
    (lot,) = grants.lots(organization.pk)
    assert lot.expires_at is not None
    assert abs(lot.expires_at - timezone.now() - 14 * DAY) < dt.timedelta(minutes=1)


@pytest.mark.parametrize("days", ["0", "-1", "4000"])
def test_an_operator_names_a_sensible_number_of_days(organization: Organization, days: str) -> None:
    with pytest.raises(CommandError, match="takes 1 to 3650 days"):
        call_command("grant_credit", organization.slug, "1", "--reason", "x", "--expires-in-days", days)
    assert not Transfer.objects.exists()


@pytest.mark.parametrize("reason", ["", "  ", "x" * 201, "two\nlines", "\0"])
def test_an_operator_gives_a_reason(organization: Organization, reason: str) -> None:
    with pytest.raises(CommandError, match="--reason takes 1 to 200 characters"):
        call_command("grant_credit", organization.slug, "1", "--reason", reason)
    assert not Transfer.objects.exists()


def test_an_operator_is_not_told_that_another_grant_was_this_one(
    organization: Organization, other_organization: Organization
) -> None:
    output, reference = StringIO(), "0198c0de-0000-7000-8000-000000000001"
    words = ("--reason", "trial", "--reference", reference)
    call_command("grant_credit", organization.slug, "1", *words, stdout=output)
    call_command("grant_credit", organization.slug, "1.00", *words, stdout=output)
    assert "$1.00 had been granted already" in output.getvalue()
    for slug, dollars in ((organization.slug, "2"), (other_organization.slug, "1")):
        with pytest.raises(CommandError, match="stands for another grant; nothing was booked"):
            call_command("grant_credit", slug, dollars, *words)
    assert Transfer.objects.count() == 1
