"""T-32: nobody edits history. Not the application's role, not the tables' owner, in no table that is history."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import DatabaseError, connection, transaction

from accounts.models import Organization
from billing.models import Transfer
from core.management.commands.migrate import APPEND_ONLY, JOURNALS
from imagesapi.models import BillAdjustment, BillLine
from tests.imagesapi import month
from tests.imagesapi.test_reconcile import COST, call, run, tell
from tests.money import fund

# Tables whose rows are never changed; holds, balances and limits are, by the ledger's functions alone.
HISTORY = ("billing_transfer", *APPEND_ONLY)
STATEMENTS = ("UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {} CASCADE")

# By the trigger, or before that by what refers to the row.
REFUSED = "what is booked stays booked|protected foreign keys"


@pytest.fixture
def history(organization: Organization) -> None:
    """A row in each table that a bill leads to."""
    fund(organization, promo_nanos=10 * COST)
    month.write([call(organization)])
    tell(COST - 10)
    run()
    assert Transfer.objects.count() == 3 and BillLine.objects.count() == BillAdjustment.objects.count() == 1


@pytest.mark.parametrize("statement", STATEMENTS)
@pytest.mark.parametrize("table", [*JOURNALS, *APPEND_ONLY])
def test_the_applications_role_may_not(db: None, table: str, statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE pixelpar")
        with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
            cursor.execute(statement.format(table))
        cursor.execute("RESET ROLE")


@pytest.mark.parametrize("statement", STATEMENTS[:2])
@pytest.mark.parametrize("table", [table for table in HISTORY if table != "imagesapi_statement"])
def test_the_owner_is_refused_by_a_trigger(history: None, table: str, statement: str) -> None:
    with pytest.raises(DatabaseError, match="what is booked stays booked"), transaction.atomic():
        connection.cursor().execute(statement.format(table))


@pytest.mark.parametrize("table", HISTORY)
def test_the_owner_does_not_truncate_it(db: None, table: str) -> None:
    with pytest.raises(DatabaseError, match="what is booked stays booked"), transaction.atomic():
        connection.cursor().execute(f"TRUNCATE {table} CASCADE")


def test_the_orm_is_refused_too(history: None) -> None:
    """What an administrator's page would do."""
    for model in (Transfer, BillLine, BillAdjustment):
        row = model.objects.first()
        assert row is not None
        for change in (row.save, row.delete, model.objects.all().delete):
            with pytest.raises(DatabaseError, match=REFUSED), transaction.atomic():
                change()


def test_every_table_that_is_named_exists() -> None:
    tables = {model._meta.db_table for model in apps.get_models()}
    assert {*JOURNALS, *APPEND_ONLY} <= tables


def test_the_application_may_write_what_it_must(db: None) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL ROLE pixelpar")
        tell(5)
        cursor.execute("RESET ROLE")
    assert BillLine.objects.count() == 1
