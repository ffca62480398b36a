"""GET /v1/transactions: the organization's own side of the journal, newest first, every movement once."""

from __future__ import annotations

import datetime as dt
import random
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization
from billing import history, ledger
from billing.models import Account, Transfer
from core import ids
from core.money import nanos
from tests import databases, money
from tests.envelope import assert_refused
from tests.people import IssuedKey


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def charge(organization: Organization, *, cost_nanos: int, **more: Any) -> str:
    """A request that cost this much; its public id."""
    hold_id = ids.new()
    assert ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=cost_nanos + 5).held
    ledger.settle(hold_id, cost_nanos=cost_nanos, provider="openai", **more)
    return ids.public("req", hold_id)


def walk(client: Client, address: str | None, *, link: str = "next_page_url") -> list[list[dict[str, Any]]]:
    pages = []
    while address is not None:
        answer = client.get(address)
        assert answer.status_code == 200, answer.content
        pages.append(answer.json()["data"])
        address = answer.json()[link]
    return pages


def test_it_shows_what_came_in_and_what_went_out(
    client: Client, organization: Organization, other_organization: Organization
) -> None:
    ledger.grant(organization.pk, amount_nanos=1_000_000_000, reason="welcome", reference=ids.new())
    money.fund(organization, wallet_nanos=5_000_000_000)
    money.fund(other_organization, promo_nanos=7, wallet_nanos=7)
    charge(other_organization, cost_nanos=9)
    request = charge(organization, cost_nanos=1_500_000_001)
    document = client.get("/v1/transactions").json()
    rows = document["data"]
    assert document["object"] == "list" and document["next_page_url"] is document["previous_page_url"] is None
    assert sorted((row["kind"], row["account"], row["amount"], row["request_id"], row["note"]) for row in rows) == [
        ("charge", "promo", "-1.00", request, None),
        ("charge", "wallet", "-0.500000001", request, None),
        ("grant", "promo", "1.00", None, "welcome"),
        ("top_up", "wallet", "5.00", None, None),
    ]
    assert {row["kind"] for row in rows[:2]} == {"charge"}
    assert all(row["object"] == "transaction" and row["currency"] == "usd" for row in rows)
    assert len({row["id"] for row in rows}) == 4


def test_its_amounts_add_up_to_the_balance(client: Client, organization: Organization) -> None:
    """Page by page, there and back, each movement once."""
    dice = random.Random(11)
    money.fund(organization, promo_nanos=10**9, wallet_nanos=10**10)
    for _ in range(30):
        charge(organization, cost_nanos=dice.randrange(1, 10**8))
        if dice.random() < 0.3:
            ledger.grant(organization.pk, amount_nanos=dice.randrange(1, 10**9), reason="more", reference=ids.new())
    forth = walk(client, "/v1/transactions?limit=7")
    rows = [row for page in forth for row in page]
    assert all(len(page) == 7 for page in forth[:-1])
    assert len({row["id"] for row in rows}) == len(rows) > 30
    total = dict.fromkeys(("wallet", "promo"), 0)
    for row in rows:
        total[row["account"]] += nanos(row["amount"])
    found = ledger.balance(organization.pk)
    assert total == {"wallet": found.wallet_nanos, "promo": found.promo_nanos}
    assert [row["created_at"] for row in rows] == sorted((row["created_at"] for row in rows), reverse=True)
    last = client.get(f"/v1/transactions?limit=7&starting_after={forth[-2][-1]['id']}").json()
    back = walk(client, last["previous_page_url"], link="previous_page_url")
    assert [row["id"] for page in back[::-1] for row in page] == [row["id"] for row in rows[: -len(forth[-1])]]


def test_it_is_empty_before_the_first_credit(client: Client) -> None:
    assert client.get("/v1/transactions").json()["data"] == []


@pytest.mark.parametrize(
    ("asked", "code", "param"),
    [
        ("limit=0", "invalid_value", "limit"),
        ("starting_after=txn_1", "invalid_value", "starting_after"),
        ("starting_after=txn_00000000000000000000000000_charge", "invalid_value", "starting_after"),
        ("starting_after=txn_uuuuuuuuuuuuuuuuuuuuuuuuuu_charge", "invalid_value", "starting_after"),
        ("ending_before=req_00000000000000000000000000", "invalid_value", "ending_before"),
        ("starting_after=a&ending_before=b", "invalid_value", "ending_before"),
        ("kind=charges", "invalid_value", "kind"),
        ("created_after=yesterday", "invalid_value", "created_after"),
        ("sort=amount", "unknown_parameter", "sort"),
    ],
)
def test_it_says_what_it_takes(client: Client, asked: str, code: str, param: str) -> None:
    assert_refused(client.get(f"/v1/transactions?{asked}"), 400, code, param=param)


def test_anothers_id_is_no_place_in_ones_own_list(
    client: Client, other_organization: Organization, other_api_key: IssuedKey
) -> None:
    money.fund(other_organization, promo_nanos=5)
    word = Client(headers=other_api_key.headers).get("/v1/transactions").json()["data"][0]["id"]
    foreign = client.get(f"/v1/transactions?starting_after={word}")
    missing = client.get(f"/v1/transactions?starting_after={ids.public('txn', ids.new())}_grant")
    assert foreign.status_code == missing.status_code == 400
    assert foreign.content == missing.content


_MANY = """
INSERT INTO billing_transfer
    (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id, balance_nanos)
SELECT %(debit)s, %(credit)s, 1, %(kind)s, 'test', gen_random_uuid(), %(first)s + %(sign)s * n
FROM generate_series(1, %(count)s) n
"""
# A page may look at 84: forty times as many tell as surely as hundreds of times.
COUNTS = (3_000, pytest.param(20_000, marks=pytest.mark.prove))


@pytest.fixture(params=COUNTS)
def long_journal(
    request: pytest.FixtureRequest, organization: Organization, other_organization: Organization
) -> list[Organization]:
    """Alice's wallet has thousands of movements in and as many out; Charlie's has none."""
    count: int = request.param
    ledger.grant(organization.pk, amount_nanos=5, reason="first", reference=ids.new())
    money.fund(organization, wallet_nanos=5)
    wallet = Account.objects.get(organization=organization, kind="wallet")
    Account.objects.create(kind="wallet", organization=other_organization)
    clearing = Account.objects.get(kind="stripe_clearing")
    into = {"debit": clearing.pk, "credit": wallet.pk, "first": 5, "sign": 1}
    out_of = {"debit": wallet.pk, "credit": clearing.pk, "first": 5 + count, "sign": -1}
    with connection.cursor() as cursor:
        for kind, movements in (("dispute_won", into), ("dispute", out_of)):
            cursor.execute(_MANY, {"count": count, "kind": kind, **movements})
        cursor.execute("ANALYZE billing_transfer")
    return [organization, other_organization]


@pytest.mark.parametrize("form", ["", "_CHARGES", "_BESIDE"])
def test_it_looks_at_no_more_than_a_page(client: Client, long_journal: list[Organization], form: str) -> None:
    """However long the journal is and however deep the page: each side of each account is walked by its index as far as
    the page goes, also where there is nothing to be found, and the balance stands beside each movement."""
    indexes = {"transfer_by_debit", "transfer_by_credit", "transfer_by_debit_beside_usage"}
    middle = Transfer.objects.order_by("pk").values_list("pk", flat=True)[Transfer.objects.count() // 2]
    with connection.cursor() as cursor:
        for newer, place in ((False, 2**63 - 1), (False, middle), (True, 0), (True, middle)):
            for owner in long_journal:
                statement = getattr(history, f"_{'NEWER' if newer else 'OLDER'}{form}")
                named: dict[str, Any] = {
                    "organization_id": owner.pk,
                    "place": place,
                    "rows": 21,
                    "bound": 2**63 - 1 if newer else 0,
                }
                named |= {"created_after": history._FIRST, "created_before": history._LAST}
                named |= {"kinds": ["grant", "top_up", "dispute_won", "dispute", "charge"]}
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", named)
                scans = list(_scans(cursor.fetchone()[0][0]["Plan"]))
                assert {scan.get("Index Name") for scan in scans} <= indexes, scans
                assert not any(scan.get("Rows Removed by Filter") for scan in scans), scans
                assert sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans) <= 4 * 21
    assert len(client.get("/v1/transactions?limit=100").json()["data"]) == 100


def test_it_finds_the_balance_of_the_deepest_page_without_the_rows_before(
    client: Client, long_journal: list[Organization]
) -> None:
    entry = Transfer.objects.filter(kind="dispute_won").order_by("pk")[3]
    word = f"{ids.public('txn', entry.reference_id)}_dispute_won"
    with CaptureQueriesContext(connection) as queries:
        rows = client.get(f"/v1/transactions?limit=3&starting_after={word}").json()["data"]
    assert [row["balance_after"] for row in rows] == ["0.000000008", "0.000000007", "0.000000006"]
    assert sum("billing_transfer" in query["sql"] for query in queries) == 2  # the place of the cursor, the page


def _scans(plan: dict[str, Any]) -> Any:
    if plan.get("Relation Name") == "billing_transfer":
        yield plan
    for part in plan.get("Plans", ()):
        yield from _scans(part)


def test_each_movement_leads_from_one_balance_to_the_next(client: Client, organization: Organization) -> None:
    """Charges on two accounts, grants, refunds, true-ups, a dispute into debt: every step is exact, at any depth."""
    dice = random.Random(5)
    money.fund(organization, promo_nanos=10**8, wallet_nanos=10**9)
    for _ in range(25):
        charge(organization, cost_nanos=dice.randrange(1, 10**7))
        kind = dice.choice(["top_up", "refund", "true_up", "true_up_promo", "grant"])
        post(organization, kind, dice.randrange(1, 10**6))
    post(organization, "dispute", 2 * 10**9)
    post(organization, "debt_written_off", 10**9)
    rows = [row for page in walk(client, "/v1/transactions?limit=7") for row in page]
    running = dict.fromkeys(("wallet", "promo"), 0)
    for row in rows[::-1]:
        running[row["account"]] += nanos(row["amount"])
        assert nanos(row["balance_after"]) == running[row["account"]], row
    found = ledger.balance(organization.pk)
    assert running == {"wallet": found.wallet_nanos, "promo": found.promo_nanos}


def post(organization: Organization, kind: str, amount_nanos: int) -> None:
    provider = "openai" if kind.startswith("true_up") else ""
    about: dict[str, Any] = {"organization_id": organization.pk, "provider": provider, "amount_nanos": amount_nanos}
    assert ledger.post(kind, reference_type="test", reference=ids.new(), **about)


def test_a_filter_shows_one_kind_in_the_same_order(client: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=100, wallet_nanos=10_000)
    for _ in range(3):
        charge(organization, cost_nanos=60)
        post(organization, "true_up", 5)
        post(organization, "true_up_promo", 6)
    everything = [row for page in walk(client, "/v1/transactions") for row in page]
    for kind in ("charge", "true_up", "top_up", "refund"):
        rows = [row for page in walk(client, f"/v1/transactions?kind={kind}&limit=2") for row in page]
        assert rows == [row for row in everything if row["kind"] == kind]
    assert {row["account"] for row in everything if row["kind"] == "charge"} == {"promo", "wallet"}


def test_a_filter_of_time_cuts_exactly(client: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=1000)
    for _ in range(6):
        charge(organization, cost_nanos=10)
    first = dt.datetime(2026, 3, 31, 23, 59, 57, tzinfo=dt.UTC)
    with databases.history_may_be_written():
        for number, row in enumerate(Transfer.objects.order_by("pk")):
            Transfer.objects.filter(pk=row.pk).update(created_at=first + number * dt.timedelta(seconds=1))
    rows = client.get("/v1/transactions").json()["data"]
    april = client.get("/v1/transactions?created_after=2026-04-01&limit=2").json()
    assert april["data"] == rows[:2]
    assert [row for page in walk(client, april["next_page_url"]) for row in page] == rows[2:4]
    march = client.get("/v1/transactions?created_before=2026-04-01T00:00:00Z").json()["data"]
    assert march == rows[4:]
    both = client.get("/v1/transactions?created_after=2026-03-31T23:59:58Z&created_before=1775001601").json()["data"]
    assert both == rows[3:6]
