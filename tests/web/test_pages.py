"""The landing page, the overview, and the pages for errors."""

from __future__ import annotations

import re
import uuid
from typing import Any

import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone
from structlog.testing import capture_logs

from accounts import organizations
from accounts.models import Organization, User
from billing import ledger
from core import ids
from imagesapi.models import Generation
from tests.people import IssuedKey, sign_in
from ui.templatetags.amounts import dollars


def _generation(organization: Organization, **fields: Any) -> Generation:
    return Generation.objects.create(
        **{
            "organization": organization,
            "endpoint": "images/generations",
            "model": "gpt-image-1",
            "provider": "fal",
            "status": "completed",
            "asked": {},
            "cost_nanos": 10_880_000,
            "finished_at": timezone.now(),
            **fields,
        }
    )


def test_it_says_what_this_is_with_a_command_for_this_server(client: Client, db: None) -> None:
    page = client.get("/").content.decode()
    assert "curl http://127.0.0.1:8000/openai/v1/images/generations" in page
    assert 'href="/accounts/signup/"' in page
    assert 'href="/accounts/login/"' in page
    assert 'href="/docs/api"' in page


def test_it_takes_the_servers_address_from_the_settings(client: Client, db: None, settings: Any) -> None:
    settings.BASE_URL = "https://images.example"
    settings.ALLOWED_HOSTS = ["*"]
    page = client.get("/", headers={"Host": "evil.example"}).content.decode()
    assert "https://images.example/openai/v1" in page
    assert "evil.example" not in page


def test_it_says_so_while_the_database_cannot_serve(alice: User, organization: Organization) -> None:
    def refuse(*_: Any) -> Any:
        raise OperationalError("no space") from psycopg.errors.DiskFull(
            "could not extend file: No space left on device"
        )

    browser = sign_in(alice)
    browser.raise_request_exception = False
    with connection.execute_wrapper(refuse), capture_logs() as lines:
        answer = browser.get("/app")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert b"not available just now" in answer.content
    assert [(line["event"], line["reason"]) for line in lines] == [("the database cannot serve", "no space")]
    assert browser.get("/app").status_code == 200


def test_it_shows_the_balance_and_the_first_steps(alice: User, organization: Organization) -> None:
    ledger.grant(organization.pk, amount_nanos=5_000_000_000, reason="welcome", reference=uuid.uuid4())
    page = sign_in(alice).get("/app").content.decode()
    assert "$5.00" in page
    assert "Create an API key" in page
    assert "No requests yet" in page
    assert 'href="/docs/api"' in page


def test_it_shows_the_last_ten_requests_with_their_cost(
    alice: User, organization: Organization, api_key: IssuedKey
) -> None:
    # Each in a millisecond of its own: those of one millisecond are in no order.
    made = [ids.first_of(moment_ms) for moment_ms in range(1_700_000_000_000, 1_700_000_000_013)]
    for number in range(12):
        _generation(organization, id=made[number], model=f"model-{number}")
    _generation(organization, id=made[12], model="broken", status="upstream_failure", cost_nanos=None)
    page = sign_in(alice).get("/app").content.decode()
    assert page.count("$0.01088") == 9
    assert "broken" in page
    assert "model-11" in page
    assert "model-2<" not in page
    assert "First steps" not in page


def test_it_shows_nothing_of_another_organization(
    charlie: User, organization: Organization, other_organization: Organization
) -> None:
    ledger.grant(organization.pk, amount_nanos=7_770_000_000, reason="welcome", reference=uuid.uuid4())
    _generation(organization, model="secret-model")
    page = sign_in(charlie).get("/app").content.decode()
    assert "secret-model" not in page
    assert "7.77" not in page
    assert "alice" not in page.lower()


def test_it_answers_a_missing_page_in_our_skin(client: Client, db: None) -> None:
    response = client.get("/nothing/here")
    assert response.status_code == 404
    assert b"There is nothing here" in response.content


@pytest.mark.parametrize("path", ["/", "/app", "/app/keys"])
def test_it_needs_no_inline_script_or_style(alice: User, organization: Organization, path: str) -> None:
    response = sign_in(alice).get(path)
    assert response["Cache-Control"] == "no-store, private"
    page = response.content.decode()
    assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|<style|\son\w+=", page)
    assert page.count("<h1") == 1
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page), "everything comes from this server"


def test_it_answers_a_crash_with_a_page_that_needs_nothing(client: Client, alice: User, monkeypatch: Any) -> None:
    def crash(_: int) -> None:
        raise RuntimeError("a secret of the inside")

    organizations.create("Alice", owner=alice)
    monkeypatch.setattr(ledger, "balance", crash)
    client.raise_request_exception = False
    client.force_login(alice)
    response = client.get("/app")
    assert response.status_code == 500
    assert b"Something went wrong" in response.content
    assert b"secret" not in response.content


def test_it_refuses_other_methods(client: Client, db: None) -> None:
    assert client.post("/").status_code == 405


@pytest.mark.parametrize(
    ("amount_nanos", "text"),
    [
        (0, "$0.00"),
        (10_880_000, "$0.01088"),
        (5_000_000_000, "$5.00"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (-1_500_000_000, "-$1.50"),
        (1, "$0.000000001"),
        (None, "–"),
    ],
)
def test_it_writes_exact_dollars(amount_nanos: int | None, text: str) -> None:
    assert dollars(amount_nanos) == text


@pytest.mark.parametrize(
    ("address", "tab"),
    [
        ("/app", "Overview"),
        ("/app/requests/{request}/receipt", "Overview"),
        ("/app/keys", "API keys"),
        ("/app/billing", "Billing"),
        ("/app/billing/transactions", "Billing"),
        ("/app/billing/statements", "Billing"),
        ("/app/billing/statement", "Billing"),
        ("/app/billing/close", "Billing"),
        ("/app/billing/budgets", "Budgets"),
    ],
)
def test_it_marks_the_tab_that_a_page_belongs_to(
    alice: User, organization: Organization, address: str, tab: str
) -> None:
    request = ids.public("req", _generation(organization).pk)
    answer = sign_in(alice).get(address.format(request=request))
    assert answer.status_code == 200
    assert re.findall(r'aria-current="page">([\w ]+)</a>', answer.content.decode()) == [tab]
