"""What the database itself refuses, whoever writes: accounts outside the chart, balances and holds that cannot be."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from accounts.models import Organization
from billing.models import Account, AccountKind
from core import ids
from tests.money import fund

_OF_NOBODY = "INSERT INTO billing_account (kind, provider) VALUES (%s, %s)"
_HOLD = """
INSERT INTO billing_hold (id, organization_id, promo_nanos, wallet_nanos, state, charged_nanos, resolved_at)
VALUES (%s, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END)
"""


def _refused(statement: str, parameters: list[Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        connection.cursor().execute(statement, parameters)


def test_it_knows_every_kind_of_account(organization: Organization) -> None:
    for kind in AccountKind.values:
        owner = organization if kind in ("wallet", "promo") else None
        provider = "openai" if kind == "provider_payable" else ""
        Account.objects.get_or_create(kind=kind, organization=owner, provider=provider)


@pytest.mark.parametrize(
    ("kind", "provider"),
    [("margin", ""), ("wallet", ""), ("promo", ""), ("provider_payable", ""), ("absorbed", "openai")],
)
def test_it_refuses_an_account_outside_the_chart(db: None, kind: str, provider: str) -> None:
    _refused(_OF_NOBODY, [kind, provider])


@pytest.mark.parametrize("change", ["kind = 'absorbed'", "kind = 'margin'", "organization_id = NULL", "provider = 'x'"])
def test_it_refuses_that_an_account_becomes_another(organization: Organization, change: str) -> None:
    fund(organization, promo_nanos=10)
    _refused(f"UPDATE billing_account SET {change} WHERE kind = 'promo' AND organization_id = %s", [organization.pk])


@pytest.mark.parametrize("change", ["held_nanos = -1", "held_nanos = 11", "posted_nanos = -1"])
def test_it_refuses_a_balance_below_its_floor(organization: Organization, change: str) -> None:
    fund(organization, promo_nanos=10)
    _refused(f"UPDATE billing_account SET {change} WHERE kind = 'promo' AND organization_id = %s", [organization.pk])


@pytest.mark.parametrize("change", ["held_nanos = 1", "posted_nanos = 1"])
def test_it_refuses_a_balance_of_the_system(organization: Organization, change: str) -> None:
    fund(organization, promo_nanos=10)
    _refused(f"UPDATE billing_account SET {change} WHERE kind = %s", ["promo_expense"])


@pytest.mark.parametrize(
    ("promo_nanos", "wallet_nanos", "state", "charged_nanos", "is_resolved"),
    [
        (5, 0, "spent", None, True),
        (-1, 0, "held", None, False),
        (0, -1, "held", None, False),
        (5, 0, "held", None, True),
        (5, 0, "held", 5, False),
        (5, 0, "settled", 5, False),
        (5, 0, "settled", None, True),
        (5, 0, "settled", -1, True),
        (5, 5, "settled", 11, True),
        (5, 0, "voided", None, False),
        (5, 0, "voided", 0, True),
    ],
)
def test_it_refuses_a_hold_that_cannot_be(
    organization: Organization,
    promo_nanos: int,
    wallet_nanos: int,
    state: str,
    charged_nanos: int | None,
    is_resolved: bool,
) -> None:
    _refused(_HOLD, [ids.new(), organization.pk, promo_nanos, wallet_nanos, state, charged_nanos, is_resolved])


@pytest.mark.parametrize(
    ("state", "charged_nanos", "is_resolved"),
    [("held", None, False), ("settled", 10, True), ("settled", 0, True), ("voided", None, True)],
)
def test_it_takes_a_hold_as_it_should_be(
    organization: Organization, state: str, charged_nanos: int | None, is_resolved: bool
) -> None:
    with transaction.atomic():
        connection.cursor().execute(_HOLD, [ids.new(), organization.pk, 5, 5, state, charged_nanos, is_resolved])
        transaction.set_rollback(True)  # no transfer belongs to it, which the ledger would miss
