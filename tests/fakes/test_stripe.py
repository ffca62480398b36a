"""The fake Stripe itself: its answers fit the package's own typed classes, and it is as strict as the real one."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import stripe
from pytest_django.fixtures import Settings

from tests.fakes import _stripe_form as form
from tests.fakes._stripe_delivery import Delivery, Knobs, sign
from tests.fakes._stripe_objects import Object
from tests.fakes._stripe_world import World
from tests.fakes.stripe import KEY, WEBHOOK_SECRET, StripeFake
from tests.servers import free_port

CLASSES: dict[str, type[Any]] = {
    "customer": stripe.Customer,
    "checkout.session": stripe.checkout.Session,
    "payment_intent": stripe.PaymentIntent,
    "payment_method": stripe.PaymentMethod,
    "charge": stripe.Charge,
    "refund": stripe.Refund,
    "dispute": stripe.Dispute,
    "balance_transaction": stripe.BalanceTransaction,
    "radar.early_fraud_warning": stripe.radar.EarlyFraudWarning,
    "billing_portal.session": stripe.billing_portal.Session,
    "event": stripe.Event,
}


@pytest.fixture(scope="module")
def fake() -> Iterator[StripeFake]:
    with StripeFake() as running:
        yield running


@pytest.fixture(scope="module")
def client(fake: StripeFake) -> stripe.StripeClient:
    return stripe.StripeClient(KEY, base_addresses={"api": fake.url}, max_network_retries=0)


def _session(client: stripe.StripeClient, **more: Any) -> Any:
    owner = client.v1.customers.create({"metadata": {"organization": "1"}})
    line = {"quantity": 1, "price_data": {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "x"}}}
    asked: Any = {
        "mode": "payment",
        "customer": owner.id,
        "line_items": [line],
        "success_url": "http://127.0.0.1:1/done",
        "cancel_url": "http://127.0.0.1:1/cancel",
        "payment_intent_data": {"setup_future_usage": "off_session", "metadata": {"top_up": "x"}},
    }
    return client.v1.checkout.sessions.create(asked | more)


@pytest.fixture(scope="module")
def world(fake: StripeFake, client: stripe.StripeClient) -> World:
    """One of everything, in as many states as there are."""
    world = fake.world
    for number in ("4242424242424242", "4000000000000002", "4000002500003155", "4000000000000259", "4000000000005423"):
        session = _session(client)
        world.pay_session(world.things[session.id], number)
    first = world.all("payment_intent")[0]
    world.make_refund({"payment_intent": first["id"], "amount": "100"})
    world.close_dispute(world.all("dispute")[0], won=True)
    client.v1.billing_portal.sessions.create({"customer": first["customer"], "return_url": "http://127.0.0.1:1"})
    taxed = _session(client, automatic_tax={"enabled": True})
    world.expire_session(world.things[taxed.id])
    return world


# --- typed ------------------------------------------------------------------------------------------------------------


def _allows(note: Any, value: Any, where: str) -> Iterator[str]:
    """What is wrong with a value of this annotation."""
    origin, arguments = typing.get_origin(note), typing.get_args(note)
    kind = origin if inspect.isclass(origin) else note
    if origin is typing.Union:
        if all(any(_allows(argument, value, where)) for argument in arguments):
            yield f"{where}: {value!r} is not {note}"
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{where}: {value!r} is none of {arguments}"
    elif inspect.isclass(kind):  # what is only a name is an object of another kind, whose turn comes
        yield from _is_a(kind, arguments, value, where)


def _is_a(kind: type[Any], arguments: tuple[Any, ...], value: Any, where: str) -> Iterator[str]:
    wanted = dict if issubclass(kind, stripe.StripeObject) else kind
    if type(value) is not wanted and (wanted, type(value)) != (float, int):
        yield f"{where}: {value!r} is no {wanted.__name__}"
    elif kind is list:
        for item in value:
            yield from _allows(arguments[0], item, where)
    elif wanted is dict:
        yield from _fits(kind, value, where)


def _fits(kind: type[Any], value: Object, where: str) -> Iterator[str]:
    """What is wrong with an object: fields it does not have, values they do not take, fields that are missing."""
    notes: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        notes |= vars(base).get("__annotations__", {})
    known = {name: note for name, note in notes.items() if not name.startswith("_") and "ClassVar" not in str(note)}
    if not known:
        return  # free-form, as metadata is
    for name in value.keys() - known.keys():
        if not name.startswith("_"):
            yield f"{where}: it has no field {name}"
    for name, note in known.items():
        if name in value:
            yield from _allows(_resolved(note, kind), value[name], f"{where}.{name}")
        elif type(None) not in typing.get_args(note) and not str(note).startswith("typing.Optional"):
            yield f"{where}: {name} is missing"


def _resolved(note: Any, kind: type[Any]) -> Any:
    """An annotation that may be written as text, within its class."""
    if isinstance(note, str):
        try:
            return eval(note, {**vars(typing), **vars(inspect.getmodule(kind) or typing), **vars(kind)})
        except NameError:
            return note
    return note


def _served(client: stripe.StripeClient, thing: Object) -> Object:
    """An object as it is answered."""
    return {name: value for name, value in thing.items() if not name.startswith("_")}


@pytest.mark.parametrize("kind", CLASSES)
def test_its_objects_fit_the_packages_classes(client: stripe.StripeClient, world: World, kind: str) -> None:
    found = world.events if kind == "event" else world.all(kind)
    assert found
    wrong = [line for thing in found for line in _fits(CLASSES[kind], _served(client, thing), kind)]
    assert wrong == []


def test_its_check_would_notice(world: World) -> None:
    """Or it would be content with anything."""
    intent = dict(world.all("payment_intent")[0])
    changes: list[Object] = [{"amount": "1"}, {"status": 7}, {"unheard_of": 1}, {"metadata": []}, {"livemode": None}]
    for change in changes:
        assert list(_fits(stripe.PaymentIntent, intent | change, "x")), change
    del intent["amount"]
    assert list(_fits(stripe.PaymentIntent, intent, "x")) == ["x: amount is missing"]


def test_the_package_reads_its_answers(client: stripe.StripeClient, world: World) -> None:
    intent = client.v1.payment_intents.retrieve(
        world.all("payment_intent")[0]["id"], {"expand": ["latest_charge.balance_transaction"]}
    )
    assert isinstance(intent, stripe.PaymentIntent)
    assert isinstance(intent.latest_charge, stripe.Charge)
    assert isinstance(intent.latest_charge.balance_transaction, stripe.BalanceTransaction)
    assert intent.latest_charge.balance_transaction.fee == 103
    listed = client.v1.checkout.sessions.list({"payment_intent": intent.id})
    assert [type(it) for it in listed.data] == [stripe.checkout.Session]
    assert len(list(client.v1.events.list({"limit": 3}).auto_paging_iter())) == len(world.events)


# --- strict -----------------------------------------------------------------------------------------------------------


def test_it_reads_nested_forms() -> None:
    text = "a[0][b]=1&a[1][b]=2&c[d][e]=x&f[]=1&f[]=2&g="
    assert form.decode(text) == {"a": [{"b": "1"}, {"b": "2"}], "c": {"d": {"e": "x"}}, "f": ["1", "2"], "g": ""}


def test_the_same_key_gives_the_same_answer_and_no_other(fake: StripeFake, client: stripe.StripeClient) -> None:
    first, second = (
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "one"}),
        client.v1.customers.create({"name": "A"}, {"idempotency_key": "one"}),
    )
    assert first.id == second.id
    with pytest.raises(stripe.IdempotencyError):
        client.v1.customers.create({"name": "B"}, {"idempotency_key": "one"})
    assert client.v1.customers.create({"name": "B"}, {"idempotency_key": "two"}).id != first.id


def test_a_decline_is_kept_under_its_key(fake: StripeFake, client: stripe.StripeClient) -> None:
    owner = client.v1.customers.create({})
    card = fake.world.add_card("4000000000000002", owner=owner.id)
    asked: Any = {"amount": 500, "currency": "usd", "customer": owner.id, "payment_method": card["id"], "confirm": True}
    ids = set()
    for _ in range(2):
        with pytest.raises(stripe.CardError) as refused:
            client.v1.payment_intents.create(asked, {"idempotency_key": "declined"})
        assert refused.value.error is not None
        ids.add(refused.value.error.payment_intent.id)  # type: ignore[union-attr]
    assert len(ids) == 1


@pytest.mark.parametrize(
    "verb",
    [
        lambda client, world: client.v1.payment_intents.retrieve("pi_none"),
        lambda client, world: client.v1.payment_intents.create({"amount": 1, "currency": "usd"}),
        lambda client, world: client.v1.refunds.create({"payment_intent": "pi_none"}),
        lambda client, world: client.v1.refunds.create(_too_much(world)),
        lambda client, world: client.v1.checkout.sessions.create({"mode": "payment"}),
        lambda client, world: client.raw_request("get", "/v1/nothing"),
    ],
)
def test_it_refuses_what_stripe_refuses(client: stripe.StripeClient, world: World, verb: Any) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        verb(client, world)


def _too_much(world: World) -> Any:
    return {"payment_intent": world.all("payment_intent")[0]["id"], "amount": 10**6}


def test_it_wants_the_key(fake: StripeFake) -> None:
    stranger = stripe.StripeClient("sk_test_other", base_addresses={"api": fake.url})
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.customers.create({})


# --- delivery ---------------------------------------------------------------------------------------------------------


def test_its_signatures_are_the_packages() -> None:
    body = b'{"id": "evt_1"}'
    stripe.WebhookSignature.verify_header(body, sign(body, WEBHOOK_SECRET), WEBHOOK_SECRET, 300)
    ours = stripe.WebhookSignature.generate_signature_header(body.decode(), WEBHOOK_SECRET, 1234)
    assert sign(body, WEBHOOK_SECRET, at_s=1234) == ours


@pytest.mark.parametrize(
    ("knobs", "times"), [(Knobs(), 1), (Knobs(copies=3), 3), (Knobs(drop=True), 0), (Knobs(copies=2, shuffle=True), 2)]
)
def test_it_delivers_as_well_as_it_is_told(knobs: Knobs, times: int) -> None:
    """To a receiver that is itself a fake: its page answers 404 to posts, so taking is counted by trying."""
    tried: list[str] = []
    delivery = Delivery(f"http://127.0.0.1:{free_port()}/", WEBHOOK_SECRET, knobs=knobs)
    delivery.send = lambda event: tried.append(event["id"]) or True  # type: ignore[method-assign, func-returns-value]
    delivery.take({"id": "evt_1"})
    delivery.stop()
    assert tried == ["evt_1"] * times


def test_it_serves_no_production(settings: Settings) -> None:
    from billing import checks

    settings.DEVELOPMENT, settings.STRIPE_FAKE = False, True
    assert "pixelpar.E021" in {found.id for found in checks.payments_are_safe(None)}
