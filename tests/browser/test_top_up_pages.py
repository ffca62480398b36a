"""A person tops up in a real browser: our page, the pretended Stripe's checkout, back, and the balance is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from accounts.models import Organization
from billing.stripe_models import StripeCustomer, TopUp
from tests.browsers import Browser
from tests.fakes._stripe_delivery import Knobs
from tests.fakes.stripe import KEY, WEBHOOK_SECRET, StripeFake
from tests.money import customer
from tests.people import sign_in
from tests.servers import LiveServer, environment, free_port
from tests.stripes import USD, payer, wallet

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture
def shop(committed: None, tmp_path: Path) -> Iterator[tuple[LiveServer, StripeFake]]:
    """A real server beside the fake, which tells it of each event three times and out of order."""
    port = free_port()
    with StripeFake() as fake:
        fake.deliver_to(
            f"http://127.0.0.1:{port}/billing/stripe/webhook", knobs=Knobs(copies=3, shuffle=True, delay_s=0.2)
        )
        variables = environment(
            None,
            port=port,
            folder=tmp_path,
            STRIPE_SECRET_KEY=KEY,
            STRIPE_WEBHOOK_SECRET=WEBHOOK_SECRET,
            STRIPE_BASE_URL=fake.url,
        )
        with LiveServer(variables).start() as server:
            yield server, fake


def _signed_in(browser: Browser, server: LiveServer, organization: Organization) -> None:
    session = sign_in(payer(organization)).cookies[settings.SESSION_COOKIE_NAME].value
    browser.cookie(settings.SESSION_COOKIE_NAME, session, url=server.url)


def _photograph(browser: Browser, name: str) -> None:
    folder = os.environ.get("PICTURES_DIR")
    if folder:
        browser.picture(Path(folder) / f"{name}.png")


def test_a_person_turns_back_then_pays_and_sees_the_balance(
    shop: tuple[LiveServer, StripeFake], browser: Browser
) -> None:
    server, _ = shop
    organization, _ = customer()
    _signed_in(browser, server, organization)
    browser.open(f"{server.url}/app/billing")
    browser.wait_for_text("No top-ups yet")
    _photograph(browser, "empty")

    browser.click("button[name=amount][value='$25.00']")
    browser.wait_for_text("Pay 25.00 USD")
    browser.click("a")
    browser.wait_for_text("Nothing was paid")
    assert wallet(organization) == 0

    browser.open(f"{server.url}/app/billing")
    browser.fill("#id_amount", "12.50")
    browser.click("#id_save_card")
    browser.click("form[action$='top-up'] button")
    browser.wait_for_text("Pay 12.50 USD")
    browser.fill("#number", "4000000000000002")
    browser.click("#pay")
    browser.wait_for_text("Your card was declined")
    browser.fill("#number", "4000002500003155")
    browser.click("#pay")
    browser.wait_for_text("Do you confirm this payment?")
    browser.click("#confirm")
    browser.wait_for_text("$12.50 is credited")  # the page looks again by itself
    assert browser.address.startswith(f"{server.url}/app/billing/top-ups/top_")
    browser.open(f"{server.url}/app/billing")
    browser.wait_for_text("ending in 3155")
    assert "$12.50" in browser.text
    _photograph(browser, "paid")
    assert wallet(organization) == 12 * USD + USD // 2
    assert TopUp.objects.get(state="paid").declines <= 1
    assert StripeCustomer.objects.get().card_last_four == "3155"
