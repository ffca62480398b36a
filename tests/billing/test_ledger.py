"""The ledger's verbs: what a hold reserves, what settling charges, and what the journal never lets happen."""

from __future__ import annotations

import uuid

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import Organization
from billing import ledger
from billing.models import Account, Hold, Limit, Transfer
from core import ids, money
from tests.money import fund

DOLLAR = money.NANOS_PER_USD


def hold(organization: Organization, amount_nanos: int, **more: object) -> tuple[uuid.UUID, ledger.Verdict]:
    hold_id = ids.new()
    return hold_id, ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=amount_nanos, **more)  # type: ignore[arg-type]


def test_it_refuses_an_organization_without_any_account(organization: Organization) -> None:
    _, verdict = hold(organization, 1)
    assert verdict.verdict == "insufficient"
    assert not Hold.objects.exists()


def test_it_takes_promo_first_then_wallet(organization: Organization) -> None:
    fund(organization, promo_nanos=DOLLAR, wallet_nanos=DOLLAR)
    _, verdict = hold(organization, DOLLAR + 5)
    assert (verdict.verdict, verdict.promo_nanos, verdict.wallet_nanos) == ("held", DOLLAR, 5)
    balance = ledger.balance(organization.pk)
    assert (balance.available_nanos, balance.held_nanos) == (DOLLAR - 5, DOLLAR + 5)


def test_it_never_takes_a_part_of_what_was_asked(organization: Organization) -> None:
    fund(organization, promo_nanos=DOLLAR, wallet_nanos=DOLLAR)
    _, verdict = hold(organization, 2 * DOLLAR + 1)
    assert verdict.verdict == "insufficient"
    assert verdict.available_nanos == 2 * DOLLAR
    assert ledger.balance(organization.pk).held_nanos == 0


def test_a_simulated_request_spends_promo_only(organization: Organization) -> None:
    fund(organization, promo_nanos=10, wallet_nanos=DOLLAR)
    assert hold(organization, 11, promo_only=True)[1].verdict == "insufficient"
    hold_id, verdict = hold(organization, 10, promo_only=True)
    assert verdict.held
    ledger.settle(hold_id, cost_nanos=7, provider="openai", simulated=True)
    assert Transfer.objects.get(kind="charge_promo").credit_account.kind == "simulated"
    assert ledger.balance(organization.pk).promo_nanos == 3


def test_settling_charges_the_cost_and_frees_the_rest(organization: Organization) -> None:
    fund(organization, promo_nanos=100, wallet_nanos=100)
    hold_id, _ = hold(organization, 150)
    assert ledger.settle(hold_id, cost_nanos=120, provider="fal") == (120, 0)
    balance = ledger.balance(organization.pk)
    assert (balance.promo_nanos, balance.wallet_nanos, balance.held_nanos) == (0, 80, 0)
    booked = {row.kind: row.amount_nanos for row in Transfer.objects.exclude(kind__in=["grant", "top_up"])}
    assert booked == {"charge_promo": 100, "charge": 20}
    payees = set(Transfer.objects.filter(kind__startswith="charge").values_list("credit_account__provider", flat=True))
    assert payees == {"fal"}


def test_the_customer_never_pays_more_than_the_hold(organization: Organization) -> None:
    fund(organization, promo_nanos=100)
    hold_id, _ = hold(organization, 60)
    assert ledger.settle(hold_id, cost_nanos=75, provider="openai") == (60, 15)
    absorbed = Transfer.objects.get(kind="absorbed")
    assert (absorbed.amount_nanos, absorbed.debit_account.kind) == (15, "absorbed")
    assert absorbed.credit_account.kind == "provider_payable"


def test_voiding_gives_everything_back(organization: Organization) -> None:
    fund(organization, promo_nanos=30, wallet_nanos=30)
    hold_id, _ = hold(organization, 50)
    ledger.void(hold_id)
    balance = ledger.balance(organization.pk)
    assert (balance.available_nanos, balance.held_nanos) == (60, 0)
    assert not Transfer.objects.filter(kind__startswith="charge").exists()


@pytest.mark.parametrize("first", ["settle", "void"])
@pytest.mark.parametrize("second", ["settle", "void"])
def test_a_hold_resolves_exactly_once(organization: Organization, first: str, second: str) -> None:
    fund(organization, promo_nanos=100)
    hold_id, _ = hold(organization, 50)
    verbs = {
        "settle": lambda: ledger.settle(hold_id, cost_nanos=50, provider="openai"),
        "void": lambda: ledger.void(hold_id),
    }
    verbs[first]()
    with pytest.raises(DatabaseError, match="is not open"), transaction.atomic():
        verbs[second]()


def test_a_hold_of_nothing_needs_no_money(organization: Organization) -> None:
    hold_id, verdict = hold(organization, 0)
    assert verdict.held
    assert ledger.settle(hold_id, cost_nanos=0, provider="mock") == (0, 0)
    assert not Transfer.objects.exists()


def test_a_frozen_balance_takes_no_new_hold_and_settles_running_ones(organization: Organization) -> None:
    fund(organization, wallet_nanos=100)
    hold_id, _ = hold(organization, 40)
    Account.objects.filter(organization=organization).update(frozen=True)
    assert hold(organization, 1)[1].verdict == "frozen"
    assert ledger.settle(hold_id, cost_nanos=40, provider="openai") == (40, 0)


def test_a_grant_is_booked_once_for_its_reference(organization: Organization) -> None:
    reference = ids.new()
    assert ledger.grant(organization.pk, amount_nanos=5, reason="hello", reference=reference)
    assert not ledger.grant(organization.pk, amount_nanos=5, reason="hello", reference=reference)
    assert ledger.balance(organization.pk).promo_nanos == 5


@pytest.mark.parametrize("amount_nanos", [0, -1, money.MAX_NANOS])
def test_a_grant_is_a_sensible_positive_amount(organization: Organization, amount_nanos: int) -> None:
    with pytest.raises(ValueError, match="positive amount"):
        ledger.grant(organization.pk, amount_nanos=amount_nanos, reason="x", reference=ids.new())


def test_every_limit_must_fit_or_none_is_taken(organization: Organization) -> None:
    fund(organization, wallet_nanos=1000)
    Limit.objects.create(organization=organization, scope="organization", meter="spend", window="month", cap=500)
    Limit.objects.create(organization=organization, scope="key", scope_id=7, meter="spend", window="day", cap=100)
    Limit.objects.create(organization=organization, scope="key", scope_id=8, meter="spend", window="day", cap=1)
    hold_id, verdict = hold(organization, 60, key_id=7)
    assert verdict.held
    refused = hold(organization, 60, key_id=7)[1]
    limit = (refused.limit_scope, refused.limit_window, refused.limit_cap)
    assert (refused.verdict, limit) == ("limit", ("key", "day", 100))
    assert refused.available_nanos == 40
    ledger.settle(hold_id, cost_nanos=10, provider="openai")
    assert hold(organization, 90, key_id=7)[1].held


def test_running_requests_are_counted_and_given_back(organization: Organization) -> None:
    fund(organization, wallet_nanos=1000)
    Limit.objects.create(organization=organization, scope="organization", meter="in_flight", window="total", cap=2)
    first, _ = hold(organization, 1)
    hold(organization, 1)
    assert hold(organization, 1)[1].limit_meter == "in_flight"
    ledger.void(first)
    assert hold(organization, 1)[1].held


@pytest.mark.parametrize("statement", ["UPDATE billing_transfer SET amount_nanos = 1", "DELETE FROM billing_transfer"])
def test_nobody_edits_the_journal_not_even_its_owner(organization: Organization, statement: str) -> None:
    fund(organization, promo_nanos=5)
    with pytest.raises(DatabaseError, match="what is booked stays booked"), transaction.atomic():
        connection.cursor().execute(statement)


def test_the_journal_is_not_truncated(organization: Organization) -> None:
    with pytest.raises(DatabaseError, match="what is booked stays booked"), transaction.atomic():
        connection.cursor().execute("TRUNCATE billing_transfer CASCADE")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO billing_account (kind, organization_id) VALUES ('breakage', NULL)",
        "UPDATE billing_account SET posted_nanos = 1000000",
        "UPDATE billing_hold SET state = 'voided'",
        "DELETE FROM billing_transfer",
        "TRUNCATE billing_transfer CASCADE",
    ],
)
def test_the_applications_role_writes_no_money_by_hand(organization: Organization, statement: str) -> None:
    fund(organization, promo_nanos=5)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE pixelpar")
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            cursor.execute(statement)
        cursor.execute("RESET ROLE")


def test_verify_finds_a_balance_that_was_tampered_with(organization: Organization) -> None:
    fund(organization, promo_nanos=50)
    Account.objects.filter(organization=organization, kind="promo").update(posted_nanos=51)
    assert "a balance differs from the sum of its transfers" in ledger.verify().differences[0]
    Account.objects.filter(organization=organization, kind="promo").update(posted_nanos=50)


def test_verify_finds_a_hold_that_was_tampered_with(organization: Organization) -> None:
    fund(organization, promo_nanos=50)
    hold(organization, 20)
    Account.objects.filter(organization=organization, kind="promo").update(held_nanos=19)
    assert any("a held amount differs" in line for line in ledger.verify().differences)
    Account.objects.filter(organization=organization, kind="promo").update(held_nanos=20)
