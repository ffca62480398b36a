"""A pretended Stripe account for tests: the fake as a server or without sockets, its events, and customers of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
import stripe
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import Organization, Role, User
from billing import ledger, stripe_gateway, stripe_inbox, stripe_webhook, top_ups
from billing.stripe_models import StripeCustomer, TopUp
from core import money
from tests.fakes._stripe_api import Api, payload
from tests.fakes._stripe_delivery import sign
from tests.fakes._stripe_objects import Object
from tests.fakes._stripe_world import World
from tests.fakes.stripe import KEY, WEBHOOK_SECRET, StripeFake

WEBHOOK = "/billing/stripe/webhook"
USD = money.NANOS_PER_USD
_numbers = itertools.count(1)


class InProcess(stripe.HTTPClient):
    """The package's transport without a socket: straight into the fake's API, still as forms and JSON."""

    name = "in-process"

    def __init__(self, api: Api) -> None:
        super().__init__()
        self.api = api

    def request(self, method: str, url: str, headers: Any, post_data: Any = None, **_: Any) -> Any:
        parts = urlsplit(url)
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        body = post_data.encode() if isinstance(post_data, str) else post_data or b""
        lower = {name.lower(): str(value) for name, value in headers.items()}
        answer = self.api.answer(method.upper(), target, lower, body)
        return payload(answer).decode(), answer.status, {"request-id": "req_fake", **answer.headers}

    def close(self) -> None:
        """Nothing is open."""


class Account:
    """A pretended account with the verbs that tests need."""

    def __init__(self, world: World, api: Api) -> None:
        self.world, self.api = world, api

    def top_up(self, organization: Organization, *, dollars: int = 25, save_card: bool = False) -> TopUp:
        """A top-up whose checkout is open."""
        user = organization.members.filter(memberships__role=Role.OWNER).first()
        assert user is not None
        top_ups.start(organization, user=user, amount_nanos=dollars * USD, save_card=save_card, ip="")
        return organization.top_ups.latest("id")

    def session(self, top_up: TopUp) -> Object:
        return self.world.things[top_up.checkout_session]

    def pay(self, top_up: TopUp, number: str = "4242424242424242") -> Object:
        """Pay at the checkout page; the PaymentIntent."""
        return self.world.pay_session(self.session(top_up), number)

    def events(self, *kinds: str) -> list[Object]:
        return [event for event in self.world.events if not kinds or event["type"] in kinds]

    def tell(self, *events: Object) -> None:
        """Put events into the inbox and act on them, past the wire."""
        for event in events or tuple(self.world.events):
            stripe_inbox.store(stripe_webhook.read(orjson.dumps(event)))
            stripe_inbox.process(event["id"])

    def paid(self, organization: Organization, *, dollars: int = 25, **more: Any) -> TopUp:
        """A top-up that is paid and booked."""
        number = more.pop("number", "4242424242424242")
        found = self.top_up(organization, dollars=dollars, **more)
        before = len(self.world.events)
        self.pay(found, number)
        self.tell(*self.world.events[before:])
        found.refresh_from_db()
        return found

    def forget(self) -> None:
        """Of a long story everything but the customers, so that it stays quick."""
        things = self.world.things
        for word in [word for word, thing in things.items() if thing["object"] != "customer"]:
            del things[word]
        self.world.events.clear()
        self.api.asked.clear()

    def customer_with_card(self, organization: Organization, number: str = "4242424242424242") -> StripeCustomer:
        """An organization whose card is saved, without a top-up behind it."""
        customer_id = top_ups.customer_of(organization)
        method = self.world.add_card(number, owner=customer_id)
        card = {"payment_method": method["id"], "card_brand": "visa", "card_last_four": number[-4:]}
        StripeCustomer.objects.filter(organization=organization).update(**card, card_ends="12/2034")
        return StripeCustomer.objects.get(organization=organization)


def configure(settings: Settings, *, url: str) -> None:
    settings.STRIPE_SECRET_KEY = KEY
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    settings.STRIPE_BASE_URL = url
    settings.STRIPE_FAKE = False


@pytest.fixture
def account(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Account:
    """A pretended account that is asked without sockets."""
    url = f"http://stripe-{next(_numbers)}.test"
    configure(settings, url=url)
    world = World(base=url)
    api = Api(world, key=KEY)
    client = stripe.StripeClient(KEY, base_addresses={"api": url}, http_client=InProcess(api), max_network_retries=0)
    monkeypatch.setattr(stripe_gateway, "_client", lambda *_: client)
    return Account(world, api)


@pytest.fixture
def stripe_fake(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[StripeFake]:
    """The fake as a server on the wire."""
    with StripeFake() as fake:
        configure(settings, url=fake.url)
        settings.STRIPE_TIMEOUT_S = 5
        monkeypatch.setattr(stripe.HTTPClient, "INITIAL_DELAY", 0.01)
        monkeypatch.setattr(stripe.HTTPClient, "MAX_DELAY", 0.02)
        yield fake


def post_event(
    client: Client, event: Object | bytes, *, secret: str = WEBHOOK_SECRET, header: str | None = None
) -> Any:
    """Post an event as Stripe does."""
    body = event if isinstance(event, bytes) else orjson.dumps(event)
    signature = sign(body, secret) if header is None else header
    return client.post(WEBHOOK, body, content_type="application/json", headers={"Stripe-Signature": signature})


def wallet(organization: Organization) -> int:
    return ledger.balance(organization.pk).wallet_nanos


def payer(organization: Organization, role: str = Role.OWNER) -> User:
    found = organization.members.filter(memberships__role=role).first()
    assert found is not None
    return found
