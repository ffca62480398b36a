"""What people read on a telephone: nothing is cut off at the edge of the screen."""

from __future__ import annotations

import uuid

import pytest
from django.conf import settings

from billing import ledger
from tests.browsers import Browser
from tests.money import customer
from tests.people import sign_in
from tests.servers import LiveServer
from tests.stripes import payer

pytestmark = pytest.mark.needs("chromium")

# Cells of the table that reach beyond what is shown of it.
_CUT_OFF = """[...document.querySelectorAll("td")].filter(
    cell => cell.getBoundingClientRect().right > cell.closest(".card").getBoundingClientRect().right
).length"""


def test_a_long_word_cuts_no_amount_off(server: LiveServer, browser: Browser) -> None:
    organization, _ = customer()
    ledger.grant(organization.pk, amount_nanos=1_000_000_000, reason="x" * 200, reference=uuid.uuid4())
    session = sign_in(payer(organization)).cookies[settings.SESSION_COOKIE_NAME].value
    browser.cookie(settings.SESSION_COOKIE_NAME, session, url=server.url)
    browser.resize(390, 900)
    browser.open(f"{server.url}/app/billing/transactions")
    browser.wait_for_text("granted credit")
    assert browser.run("document.querySelectorAll('td').length") >= 5
    assert browser.run(_CUT_OFF) == 0


def test_an_empty_cell_takes_no_room(server: LiveServer, browser: Browser) -> None:
    organization, _ = customer()
    ledger.grant(organization.pk, amount_nanos=1_000_000_000, reason="trial", reference=uuid.uuid4())
    session = sign_in(payer(organization)).cookies[settings.SESSION_COOKIE_NAME].value
    browser.cookie(settings.SESSION_COOKIE_NAME, session, url=server.url)
    browser.resize(390, 900)
    browser.open(f"{server.url}/app/billing/statement")
    browser.wait_for_text("Closing balance")
    assert browser.run("[...document.querySelectorAll('td:empty')].map(cell => cell.getClientRects().length)")
    assert browser.run("[...document.querySelectorAll('td:empty')].every(cell => !cell.getClientRects().length)")
