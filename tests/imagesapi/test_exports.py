"""CSV and FOCUS downloads: every row once, few in memory, and nothing in them that a spreadsheet would run (M9)."""

from __future__ import annotations

import csv
import datetime as dt
import io
import tracemalloc
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from billing import ledger
from core import ids, tables
from core.money import NANOS_PER_USD, nanos
from imagesapi.bills import reconciling
from imagesapi.reports import exports, focus
from tests import money
from tests.envelope import assert_refused
from tests.imagesapi import month, past
from tests.imagesapi.test_reconcile import COST, NOON, RANGE, call, tell
from tests.people import IssuedKey, issue, sign_in

FORMULAS = (
    "=cmd|' /C calc'!A0",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "＝1",
    "＋1",
    "－1",
    "＠x",
    " =1",
    "\u3000=1",
)


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def read(response: Any) -> list[dict[str, str]]:
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert "attachment" in response["Content-Disposition"] and "no-store" in response["Cache-Control"]
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", FORMULAS)
def test_text_that_would_be_a_formula_stays_text(text: str) -> None:
    assert tables.safe(text) == f"'{text}"


def test_amounts_stay_numbers_and_honest_text_stays_as_it_is() -> None:
    assert tables.written(tables.Amount(-1_500_000_000)) == "-1.50"
    assert tables.written(-3) == "-3"
    for text in ("a red fox", "1=1", "e-mail", "", "O'Brien", "ünïcode", '"quoted", and so on'):
        assert tables.safe(text) == text
    piece = b"".join(tables.lines(["a"], [[('x",=1\n',)]])).decode()
    assert list(csv.reader(io.StringIO(piece, newline=""))) == [["a"], ['x",=1\n']]
    assert tables.safe("a\0b") == "ab"


def test_no_text_of_the_caller_reaches_a_spreadsheet_as_a_formula(organization: Organization) -> None:
    """M9: the organization's name, a key's name, the caller's `user`, a grant's note."""
    Organization.objects.filter(pk=organization.pk).update(name="=HYPERLINK(1)")
    organization.refresh_from_db()
    key = issue(organization, name="@SUM(A1)")
    ledger.grant(organization.pk, amount_nanos=NANOS_PER_USD, reason="-2+3", reference=ids.new())
    month.write([call(organization, sent_at=dt.datetime.now(dt.UTC))])
    past.generation(organization, key=key.row, user="＝cmd")
    organization.generations.update(api_key=key.row)
    client = Client(headers=key.headers)
    cells = []
    for kind in exports.KINDS:
        for row in read(client.get(f"/v1/exports/{kind}")):
            cells += [(name, value) for name, value in row.items() if value]
    assert ("BillingAccountName", "'=HYPERLINK(1)") in cells
    assert {("key_name", "'@SUM(A1)"), ("SubAccountName", "'@SUM(A1)"), ("user", "'＝cmd"), ("note", "'-2+3")} <= set(
        cells
    )
    for name, value in cells:
        if value.startswith(tables._FORMULA):
            nanos(value)  # only amounts begin with a minus
            assert name in ("amount", "BilledCost", "EffectiveCost", "ContractedCost", "ListCost", "x_PromoCost")
    assert ("amount", "-0.01") in cells


def test_it_exports_the_whole_journal_in_order(client: Client, organization: Organization, monkeypatch: Any) -> None:
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 3)
    money.fund(organization, promo_nanos=2 * COST + 5, wallet_nanos=NANOS_PER_USD)
    month.write([call(organization) for _ in range(8)])
    rows = read(client.get("/v1/exports/transactions"))
    listed = client.get("/v1/transactions?limit=100").json()["data"]
    assert [row["id"] for row in rows] == [row["id"] for row in listed[::-1]] and len(rows) == 11
    assert [(row["amount"], row["balance_after"]) for row in rows] == [
        (row["amount"], row["balance_after"]) for row in listed[::-1]
    ]
    assert rows[0]["description"] in ("Credit granted", "Top-up")


def test_it_exports_requests_of_the_days_that_are_asked(
    client: Client, organization: Organization, other_organization: Organization, monkeypatch: Any
) -> None:
    monkeypatch.setattr(exports, "ROWS_AT_ONCE", 2)
    days = [dt.datetime(2026, 9, day, hour, tzinfo=dt.UTC) for day, hour in ((1, 23), (2, 0), (2, 12), (2, 23), (3, 0))]
    made = [past.generation(organization, at=at) for at in days]
    past.generation(other_organization, at=days[2])
    rows = read(client.get("/v1/exports/requests?from=2026-09-02&to=2026-09-02"))
    assert [row["id"] for row in rows] == [ids.public("req", row.pk) for row in made[1:4]]
    assert rows[0]["created_at"] == "2026-09-02T00:00:00Z" and rows[0]["cost"] == "0.00"


def test_it_says_in_focus_what_was_billed_and_what_came_back(client: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=COST + 4_000_000, wallet_nanos=NANOS_PER_USD)
    month.write([call(organization)])
    month.write([call(organization, sent_at=NOON + dt.timedelta(minutes=1))])
    tell(2 * COST - 1_000)
    reconciling.run(provider="openai", **RANGE)
    rows = read(client.get("/v1/exports/focus?from=2026-09-01&to=2026-09-30"))
    assert tuple(rows[0]) == focus.COLUMNS
    costs = [(row["BilledCost"], row["ContractedCost"], row["x_PromoCost"], row["ChargeClass"]) for row in rows]
    assert costs == [("0.00", "0.01", "0.01", ""), ("0.006", "0.01", "0.004", "")]
    assert (
        rows[0]["ChargePeriodStart"] == "2026-09-03T12:00:00Z" and rows[0]["BillingPeriodEnd"] == "2026-10-01T00:00:00Z"
    )
    assert rows[0]["ProviderName"] == rows[0]["InvoiceIssuerName"] == "Pixelpar"
    assert (rows[0]["ChargeCategory"], rows[0]["ServiceCategory"]) == ("Usage", "AI and Machine Learning")
    today = dt.datetime.now(dt.UTC).date()
    back = read(client.get(f"/v1/exports/focus?from={today}&to={today}"))
    assert {row["ChargeClass"] for row in back} == {"Correction"}
    assert sum(nanos(row["ContractedCost"]) for row in back) == -1_000
    assert sum(nanos(row["BilledCost"]) for row in back) == -300  # the paid share of what comes back
    everything = read(client.get(f"/v1/exports/focus?from=2026-09-01&to={today}"))
    paid = ledger.balance(organization.pk)
    spent = COST + 4_000_000 + NANOS_PER_USD - paid.promo_nanos - paid.wallet_nanos
    assert sum(nanos(row["ContractedCost"]) for row in everything) == spent


def test_simulated_requests_are_in_no_finops_report(client: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=NANOS_PER_USD)
    month.write([call(organization)])
    organization.generations.update(simulated=True)
    assert read(client.get("/v1/exports/focus?from=2026-09-01&to=2026-09-30")) == []


@pytest.mark.parametrize("kind", ["transactions", "requests", "focus"])
@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ("from=2026-09-02&to=2026-09-01", "invalid_value", "from"),
        ("from=2025-01-01&to=2026-09-01", "invalid_value", "from"),
        ("from=x", "invalid_value", "from"),
        ("month=2026-09", "unknown_parameter", "month"),
    ],
)
def test_it_says_what_it_takes(client: Client, kind: str, asked: str, code: str, param: str) -> None:
    assert_refused(client.get(f"/v1/exports/{kind}?{asked}"), 400, code, param=param)


@pytest.mark.parametrize("rows", [1_500, pytest.param(5_000, marks=pytest.mark.prove)])
def test_it_keeps_few_rows_in_memory_and_no_connection(client: Client, organization: Organization, rows: int) -> None:
    end = dt.datetime(2026, 9, 30, tzinfo=dt.UTC)
    past.many(organization, count=rows, end=end, step_ms=60_000)
    found = exports.download("requests", organization, _asked(month="09"))
    tracemalloc.start()
    size_bytes = 0
    with CaptureQueriesContext(connection) as queries:
        for piece in found.pieces:
            assert len(piece) < 200_000
            size_bytes += len(piece)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size_bytes > 100 * rows
    assert peak_bytes < 12_000_000
    assert sum('FROM "imagesapi_generation"' in query["sql"] for query in queries) == rows // 500 + 1


def _asked(*, month: str) -> Any:
    from django.http import QueryDict

    return QueryDict(f"from=2026-{month}-01&to=2026-{month}-30")


def test_pages_link_to_the_downloads(alice: User, organization: Organization) -> None:
    money.fund(organization, promo_nanos=5)
    browser = sign_in(alice)
    page = browser.get("/app/billing/transactions").content.decode()
    for kind in ("transactions", "requests", "focus"):
        assert f'href="/app/billing/exports/{kind}.csv"' in page
        assert browser.get(f"/app/billing/exports/{kind}.csv").status_code == 200
        assert browser.get(f"/app/billing/exports/{kind}.csv?from=x").status_code == 400
