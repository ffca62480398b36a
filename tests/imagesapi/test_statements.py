"""Monthly statements: opening and closing balance with everything between them, closed once and for all."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from billing import ledger
from billing.models import Transfer
from core import ids
from core.money import NANOS_PER_USD, nanos
from imagesapi.models import Generation, LedgerDay, LedgerMark, Statement
from imagesapi.reports import ledger_days, statements
from tests import bodies, databases, money
from tests.envelope import assert_refused
from tests.imagesapi import past
from tests.people import IssuedKey, sign_in

SEPTEMBER = dt.datetime(2026, 9, 10, tzinfo=dt.UTC)
OCTOBER = dt.datetime(2026, 10, 10, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def charge(
    organization: Organization, cost_nanos: int, *, model: str = "gpt-image-1", provider: str = "openai"
) -> None:
    row = past.generation(organization, model=model, provider=provider, cost_nanos=cost_nanos)
    past.image(row)
    row.attempts.create(
        number=1, offer_id=1, provider=provider, executed_model=model, status="succeeded", worst_case_nanos=cost_nanos,
        finished_at=row.finished_at,
    )  # fmt: skip
    assert ledger.hold(row.pk, organization_id=organization.pk, amount_nanos=cost_nanos).held
    ledger.settle(row.pk, cost_nanos=cost_nanos, provider=provider)


def at(moment: dt.datetime, *, since: int = 0) -> int:
    """Let what was booked after this row have been booked then; the last row."""
    with databases.history_may_be_written():
        Transfer.objects.filter(pk__gt=since).update(created_at=moment)
    return Transfer.objects.latest("pk").pk


def post(organization: Organization, kind: str, amount_nanos: int, **more: Any) -> None:
    about: dict[str, Any] = {"organization_id": organization.pk, "amount_nanos": amount_nanos, **more}
    assert ledger.post(kind, reference_type="test", reference=ids.new(), **about)


@pytest.fixture
def history(organization: Organization, other_organization: Organization) -> Organization:
    """Alice's September, October and now; Charlie has money of his own."""
    money.fund(organization, promo_nanos=500, wallet_nanos=10_000)
    charge(organization, 300)
    charge(organization, 400)
    charge(organization, 50, model="flux.1-schnell", provider="fal")
    last = at(SEPTEMBER)
    money.fund(other_organization, promo_nanos=77_000)
    post(organization, "refund", 1_000)
    post(organization, "true_up", 3, provider="openai")
    last = at(OCTOBER, since=last)
    charge(organization, 200, model="flux.1-schnell", provider="fal")
    at(LATER - dt.timedelta(hours=1), since=last)
    return organization


def brief(document: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (row["kind"], row["model"], row["provider"], row["count"], nanos(row["amount"])) for row in document["lines"]
    ]


def test_it_says_what_a_month_came_to(client: Client, history: Organization) -> None:
    ledger_days.roll_up(LATER)
    document = client.get("/v1/statement?month=2026-09").json()
    assert (document["closed"], document["opening"], document["closing"]) == (True, "0.00", "0.00000975")
    assert brief(document) == [
        ("top_up", None, None, 1, 10_000),
        ("grant", None, None, 1, 500),
        ("charge", "flux.1-schnell", "fal", 1, -50),
        ("charge", "gpt-image-1", "openai", 3, -700),  # one of the two took from promo and wallet
    ]
    october = client.get("/v1/statement?month=2026-10").json()
    assert (october["opening"], october["closing"]) == ("0.00000975", "0.000008753")
    assert (october["refunds"], october["credited_back"], october["charges"]) == ("-0.000001", "0.000000003", "0.00")


def test_every_month_begins_where_the_last_one_ended(client: Client, history: Organization) -> None:
    ledger_days.roll_up(LATER)
    months = client.get("/v1/statements").json()["data"]
    assert [month["month"] for month in months][-2:] == ["2026-10", "2026-09"]
    for newer, older in itertools.pairwise(months):
        assert newer["opening"] == older["closing"]
    found = ledger.balance(history.pk)
    assert nanos(months[0]["closing"]) == found.wallet_nanos + found.promo_nanos
    sections = ("top_ups", "grants", "charges", "credited_back", "refunds", "other")
    for month in months:
        assert nanos(month["opening"]) + sum(nanos(month[name]) for name in sections) == nanos(month["closing"])


def test_it_is_the_same_before_and_after_it_is_added_up(client: Client, history: Organization) -> None:
    """What is not added up yet is read from the journal: nobody waits for a rollup."""
    asked = ("/v1/statements", *(f"/v1/statement?month=2026-{month}" for month in ("08", "09", "10", "11")))
    before = [client.get(address).json() for address in asked]
    ledger_days.roll_up(LATER)
    after = [client.get(address).json() for address in asked]
    for one, other in zip(before[1:], after[1:], strict=True):
        assert {**one, "closed": None} == {**other, "closed": None}
    assert [month["closed"] for month in before[0]["data"]] == [False] * 3
    assert [month["closed"] for month in after[0]["data"]] == [False, True, True]


def test_each_movement_is_added_up_once(history: Organization) -> None:
    for _ in range(3):
        ledger_days.roll_up(LATER)
    assert sum(LedgerDay.objects.values_list("count", flat=True)) == Transfer.objects.count()
    assert Statement.objects.count() == 3  # Alice's two months, and Charlie's October
    money.fund(history, wallet_nanos=5)
    ledger_days.roll_up(LATER)  # too fresh: it may still have neighbours that are not committed
    assert sum(LedgerDay.objects.values_list("count", flat=True)) == Transfer.objects.count() - 1


def test_a_closed_month_never_changes(client: Client, history: Organization) -> None:
    """A movement that turns up late counts for the month that is open then, and nothing is lost."""
    ledger_days.roll_up(LATER)
    before = client.get("/v1/statement?month=2026-09").json()
    last = Transfer.objects.latest("pk").pk
    post(history, "true_up", 40, provider="openai")
    at(SEPTEMBER, since=last)
    for _ in range(2):
        assert client.get("/v1/statement?month=2026-09").json() == before
        november = client.get("/v1/statement?month=2026-11").json()
        assert ("true_up", None, "openai", 1, 40) in brief(november)
        ledger_days.roll_up(LATER)
    for statement in (
        "UPDATE imagesapi_statement SET opening_nanos = 1, closing_nanos = closing_nanos + 1",
        "DELETE FROM imagesapi_statement",
    ):
        with pytest.raises(DatabaseError, match="what is booked stays booked"), transaction.atomic():
            connection.cursor().execute(statement)


def test_a_month_that_does_not_add_up_is_not_shown(client: Client, history: Organization) -> None:
    ledger_days.roll_up(LATER)
    LedgerDay.objects.filter(day__gte=dt.date(2026, 11, 1)).update(amount_nanos=-199)
    assert_refused(client.get("/v1/statement"), 500, "internal_error")
    with pytest.raises(ArithmeticError, match="2026-09"):
        statements.Month(dt.date(2026, 9, 1), 5, 6, [], closed=True)
    with pytest.raises(DatabaseError, match="statement_adds_up"), transaction.atomic():
        Statement.objects.create(
            organization=history, month=dt.date(2026, 1, 1), opening_nanos=1, change_nanos=1, closing_nanos=3, lines=[]
        )


def test_a_quiet_month_stands_where_the_one_before_ended(client: Client, history: Organization) -> None:
    ledger_days.roll_up(LATER)
    LedgerMark.objects.update(next_month=dt.date(2026, 11, 1))
    august = client.get("/v1/statement?month=2026-08").json()
    assert (august["opening"], august["closing"], august["lines"], august["closed"]) == ("0.00", "0.00", [], True)


@pytest.mark.parametrize("month", ["2026-13", "2026", "2999-01", "0001-01", "2026-1", "", "２０２６-10"])
def test_it_refuses_what_is_no_month(client: Client, month: str) -> None:
    assert_refused(client.get("/v1/statement", {"month": month}), 400, "invalid_value", param="month")


def test_its_pages_show_it_to_people(alice: User, history: Organization) -> None:
    ledger_days.roll_up(LATER)
    browser = sign_in(alice)
    listed = browser.get("/app/billing/statements").content.decode()
    assert 'href="/app/billing/statement?month=2026-09"' in listed and "still open" in listed
    page = browser.get("/app/billing/statement?month=2026-09").content.decode()
    assert "Opening balance" in page and "$0.00000975" in page and "flux.1-schnell" in page
    assert browser.get("/app/billing/statement?month=x").status_code == 400
    table = bodies.read(browser.get("/app/billing/exports/statement.csv?month=2026-09")).decode()
    rows = table.splitlines()
    assert rows[1] == "2026-09,Opening balance,,,,0.00,USD" and rows[-1] == "2026-09,Closing balance,,,,0.00000975,USD"
    assert "2026-09,Images,openai,gpt-image-1,3,-0.0000007,USD" in rows


def test_what_it_reads_does_not_grow_with_the_history(client: Client, history: Organization) -> None:
    """The journal behind the mark is never looked at again."""
    ledger_days.roll_up(LATER)
    with CaptureQueriesContext(connection) as queries:
        statements.get(history.pk, None)
    opened = next(query["sql"] for query in queries if "WITH mark" in query["sql"])
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {opened}")
        plan = cursor.fetchone()[0][0]["Plan"]
    touched = sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in _scans(plan, "billing_transfer"))
    assert touched == 0
    assert Transfer.objects.count() > 8


def _scans(plan: dict[str, Any], table: str) -> Any:
    if plan.get("Relation Name") == table:
        yield plan
    for part in plan.get("Plans", ()):
        yield from _scans(part, table)


def test_simulated_requests_are_told_apart(client: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=NANOS_PER_USD)
    row = past.generation(organization, simulated=True, cost_nanos=7)
    past.image(row)
    assert ledger.hold(row.pk, organization_id=organization.pk, amount_nanos=7, promo_only=True).held
    ledger.settle(row.pk, cost_nanos=7, provider="openai", simulated=True)
    assert brief(client.get("/v1/statement").json())[1] == ("charge", "mock-image", "simulated", 1, -7)
    assert Generation.objects.count() == 1
