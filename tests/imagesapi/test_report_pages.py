"""Receipts and transactions for people, and the public proof of zero markup."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Organization, User
from billing import ledger
from core import ids
from core.money import NANOS_PER_USD
from imagesapi.bills import provider_days, reconciling
from imagesapi.models import Generation
from tests import money
from tests.imagesapi import month, past
from tests.imagesapi.conftest import Caller
from tests.imagesapi.test_reconcile import COST, NOON, RANGE, call, tell
from tests.people import sign_in


@pytest.fixture
def browser(alice: User, organization: Organization) -> Client:
    return sign_in(alice)


def test_a_receipt_shows_all_that_leads_to_the_charge(caller: Caller, browser: Client) -> None:
    request = caller.ask(model="fal/gpt-image-1").json()["id"]
    page = browser.get(f"/app/requests/{request}/receipt").content.decode()
    for text in ("$0.02", "image · ", "1024x1024", "$0.011", "each request up to the next $0.01", "from $0.011"):
        assert text in page, text
    receipt = caller.client.get(f"/v1/requests/{request}/receipt").json()
    for item in receipt["items"]:
        assert item["source"].replace("&", "&amp;") in page and item["as_of"] in page
    assert "provider request id" in page and receipt["evidence"]["provider_request_id"] in page
    # For people: no machine's timestamp and no Python's word.
    at = dt.datetime.fromisoformat(receipt["priced_at"])
    assert f'<time datetime="{receipt["priced_at"]}">{at.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC</time>' in page
    assert ">True<" not in page and ">False<" not in page
    assert "a red fox" not in page
    listed = browser.get("/app/billing/transactions").content.decode()
    assert f'href="/app/requests/{request}/receipt"' in listed
    assert f'href="/app/requests/{request}/receipt"' in browser.get("/app").content.decode()


def test_a_receipt_says_why_nothing_was_charged(browser: Client, organization: Organization) -> None:
    failed = past.generation(organization, status="upstream_failure", error_code="provider_timeout")
    page = browser.get(f"/app/requests/{failed}/receipt").content.decode()
    assert "Nothing was charged: no provider delivered a picture (provider_timeout)." in page
    waiting = past.generation(organization, status="processing")
    assert "still being worked on" in browser.get(f"/app/requests/{waiting}/receipt").content.decode()
    Generation.objects.all().delete()


def test_anothers_receipt_is_missing(browser: Client, other_organization: Organization) -> None:
    theirs = past.generation(other_organization)
    answers = [browser.get(f"/app/requests/{word}/receipt") for word in (theirs, ids.public("req", ids.new()), "x")]
    assert [answer.status_code for answer in answers] == [404, 404, 404]


def test_transactions_are_said_in_words_with_the_balance(browser: Client, organization: Organization) -> None:
    money.fund(organization, promo_nanos=5_000_000, wallet_nanos=NANOS_PER_USD)
    month.write([call(organization)])
    page = browser.get("/app/billing/transactions").content.decode()
    cells = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "Images paid balance -$0.005 $0.995" in cells
    assert "Images granted credit -$0.005 $0.00" in cells
    assert "Top-up paid balance $1.00 $1.00" in cells
    only = browser.get("/app/billing/transactions?kind=top_up&created_after=&created_before=").content.decode()
    assert "Images</a>" not in only and '<option value="top_up" selected>' in only
    older = browser.get("/app/billing/transactions?limit=2").content.decode()
    address = re.search(r'rel="next" href="([^"]+)"', older)
    assert address and browser.get(address[1].replace("&amp;", "&")).status_code == 200
    assert browser.get("/app/billing/transactions?kind=margin").status_code == 400


def test_an_empty_journal_says_what_will_be_there(browser: Client) -> None:
    assert "Nothing has moved yet" in browser.get("/app/billing/transactions").content.decode()


# --- the proof --------------------------------------------------------------------------------------------------------

PERIOD = "from=2026-09-01&to=2026-09-30"


@pytest.fixture
def proven(organization: Organization) -> Organization:
    """Three calls at openai, of which the bill makes one cheaper and a lost one dearer; one at fal without a bill."""
    money.fund(organization, promo_nanos=COST + COST // 2, wallet_nanos=NANOS_PER_USD)
    lost = call(organization, status="unknown", sent_at=NOON + dt.timedelta(days=1))
    simulated = call(organization, sent_at=NOON + dt.timedelta(days=2))
    fal = call(organization, offer=month.stored("fal/gpt-image-1"))
    month.write([call(organization), call(organization), lost, fal])
    tell(2 * COST - 700, line="1")
    tell(COST + 5, day=NOON.date() + dt.timedelta(days=1), line="2")
    row = past.generation(organization, at=simulated.sent_at, simulated=True, provider="openai", cost_nanos=0)
    row.attempts.create(
        number=1, offer_id=simulated.offer.id, provider="openai", executed_model="x", status="succeeded",
        worst_case_nanos=9, sent_at=simulated.sent_at, finished_at=simulated.sent_at,
    )  # fmt: skip
    reconciling.run(**RANGE)
    provider_days.write("fal", RANGE["first"], RANGE["last"])
    return organization


def test_anybody_sees_that_what_is_charged_is_what_is_paid(proven: Organization, client: Client) -> None:
    document = client.get(f"/zero-markup.json?{PERIOD}").json()
    openai = next(row for row in document["providers"] if row["provider"] == "openai")
    assert openai == {
        "provider": "openai", "calls": 2, "charged": "0.02", "charged_from_promo": "0.01",
        "paid_by_customers": "0.00999965", "carried_by_platform": "0.010000005", "credited_back": "0.0000007",
        "owed_to_provider": "0.029999305", "billed_by_provider": "0.029999305", "difference": "0.00",
        "unknown_attempts": 0,
    }  # fmt: skip
    fal = next(row for row in document["providers"] if row["provider"] == "fal")
    assert (fal["charged"], fal["billed_by_provider"], fal["difference"]) == ("0.01", None, None)
    assert document["unexplained"] == "0.00" and document["last_reconciled_at"]
    assert [(row["day"], row["provider"]) for row in document["days"]] == [
        ("2026-09-04", "openai"), ("2026-09-03", "fal"), ("2026-09-03", "openai"),
    ]  # fmt: skip
    page = client.get(f"/zero-markup?{PERIOD}").content.decode()
    assert "$0.029999305" in page and "not there yet" in page and "Check a receipt yourself" in page
    assert str(proven) not in page and proven.slug not in page


def test_it_is_what_the_ledger_says(proven: Organization, client: Client) -> None:
    document = client.get(f"/zero-markup.json?{PERIOD}").json()
    for row in document["providers"]:
        assert row["owed_to_provider"] == f"{month.owed(row['provider']) / 1e9:.9f}".rstrip("0")


def test_it_never_reads_the_journal(proven: Organization, client: Client) -> None:
    with CaptureQueriesContext(connection) as queries:
        client.get(f"/zero-markup?{PERIOD}")
    assert queries and not any(
        "billing_" in query["sql"] or "attempt" in query["sql"].split("FROM")[-1] for query in queries
    )


def test_it_is_there_before_anything_was_charged(client: Client, db: None) -> None:
    page = client.get("/zero-markup").content.decode()
    assert "Nothing was charged in these days." in page and "Not yet compared" in page


@pytest.mark.parametrize("asked", ["from=2026-01-01&to=2026-09-01", "from=2026-09-02&to=2026-09-01", "to=x", "a=b"])
def test_it_refuses_other_days(client: Client, db: None, asked: str) -> None:
    assert client.get(f"/zero-markup?{asked}").status_code == 400
    answer = client.get(f"/zero-markup.json?{asked}")
    assert answer.status_code == 400 and answer.json()["error"]["message"]


def test_recent_days_are_added_up_by_themselves(organization: Organization, client: Client) -> None:
    money.fund(organization, promo_nanos=NANOS_PER_USD)
    now = dt.datetime.now(dt.UTC)
    month.write([call(organization, sent_at=now)])
    provider_days.write_recent(now.date())
    total: dict[str, Any] = client.get("/zero-markup.json").json()["total"]
    assert (total["calls"], total["charged"], total["paid_by_customers"]) == (1, "0.01", "0.00")
    assert ledger.balance(organization.pk).promo_nanos == NANOS_PER_USD - COST
