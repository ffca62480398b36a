"""GET /v1/transactions: the organization's own side of the journal, newest first, every movement once."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from accounts.models import Organization
from billing import history, ledger
from billing.models import Account, Transfer
from core import ids
from core import money as units
from tests import money
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
        total[row["account"]] += units.nanos(row["amount"])
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
        ("kind=charge", "unknown_parameter", "kind"),
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
INSERT INTO billing_transfer (debit_account_id, credit_account_id, amount_nanos, kind, reference_type, reference_id)
SELECT %(debit)s, %(credit)s, 1, 'top_up', 'top_up', gen_random_uuid() FROM generate_series(1, %(count)s)
"""


def test_it_looks_at_no_more_than_a_page(
    client: Client, organization: Organization, other_organization: Organization
) -> None:
    """However long the journal is: each side of each account is walked by its index as far as the page goes, also where
    there is nothing to be found."""
    money.fund(organization, wallet_nanos=5)
    Account.objects.create(kind="wallet", organization=other_organization)
    wallet = Account.objects.get(organization=organization, kind="wallet")
    clearing = Account.objects.get(kind="stripe_clearing")
    count = 20_000
    with connection.cursor() as cursor:
        cursor.execute(_MANY, {"debit": clearing.pk, "credit": wallet.pk, "count": count})
        Account.objects.filter(pk=wallet.pk).update(posted_nanos=5 + count)
        cursor.execute("ANALYZE billing_transfer")
        for statement, place in ((history._OLDER, 2**63 - 1), (history._NEWER, 0)):
            for owner in (organization, other_organization):
                named = {"organization_id": owner.pk, "place": place, "rows": 21}
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", named)
                scans = list(_scans(cursor.fetchone()[0][0]["Plan"]))
                indexes = {scan.get("Index Name") for scan in scans}
                assert indexes == {"transfer_by_debit", "transfer_by_credit"}, scans
                assert not any(scan.get("Rows Removed by Filter") for scan in scans), scans
                assert sum(scan["Actual Rows"] * scan["Actual Loops"] for scan in scans) <= 4 * 21
    assert len(client.get("/v1/transactions?limit=100").json()["data"]) == 100
    assert Transfer.objects.count() == count + 1


def _scans(plan: dict[str, Any]) -> Any:
    if plan.get("Relation Name") == "billing_transfer":
        yield plan
    for part in plan.get("Plans", ()):
        yield from _scans(part)
