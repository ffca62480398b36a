"""M1, M2, M3: what the webhook takes, and what it answers to everything else: 400 or 503, never 500, never credit."""

from __future__ import annotations

import copy
import time
from typing import Any

import orjson
import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import checks, stripe_gateway, stripe_inbox, stripe_signature
from billing.models import Transfer
from billing.stripe_facts import BadSignature
from billing.stripe_models import StripeEvent, TopUp, TopUpState
from core import ids
from tests.fakes import _stripe_objects as objects
from tests.fakes._stripe_delivery import sign
from tests.stripes import USD, WEBHOOK, WEBHOOK_SECRET, Account, post_event, wallet

EVENT = objects.event("payment_intent.succeeded", {"id": "pi_none", "object": "payment_intent"})


def _signed(body: bytes, **more: Any) -> tuple[bytes, str]:
    return body, sign(body, WEBHOOK_SECRET, **more)


def _changed(**fields: Any) -> tuple[bytes, str]:
    return _signed(orjson.dumps({**EVENT, **fields}))


def _cases() -> dict[str, tuple[bytes, str | None]]:
    """M2: by name, a body and its signature header."""
    body = orjson.dumps(EVENT)
    now_s = int(time.time())
    right = sign(body, WEBHOOK_SECRET)
    digest = right.partition("v1=")[2]
    return {
        "no signature": (body, None),
        "an empty signature": (body, ""),
        "another secret": (body, sign(body, "whsec_another_0123456789abcdefgh")),
        "another body": (body + b" ", right),
        "an old time": _signed(body, at_s=now_s - 301 - 5),
        "a future time": _signed(body, at_s=now_s + 301 + 5),
        "a far future": _signed(body, at_s=now_s + 10**9),
        "a negative time": (body, f"t=-1,v1={digest}"),
        "no time": (body, f"v1={digest}"),
        "no number as time": (body, f"t=soon,v1={digest}"),
        "a huge time": (body, f"t={'9' * 400},v1={digest}"),
        "two times": (body, f"t={now_s},t={now_s + 1},v1={digest}"),
        "only the test scheme": (body, right.replace("v1=", "v0=")),
        "a signature that is not ASCII": (body, f"t={now_s},v1=\u00e9\u00e9"),
        "ten thousand signatures": (body, f"t={now_s}" + ",v1=00" * 10_000 + f",v1={digest}"),
        "a header above 4 KiB": (body, right + ",v1=" + "0" * 4096),
        "no equals signs": (body, "t,v1"),
        "a body that is a list": _signed(b"[]"),
        "a body that is null": _signed(b"null"),
        "an empty body": _signed(b""),
        "a broken body": _signed(b'{"id": '),
        "a body that is not UTF-8": _signed(b'{"id": "\xff\xfe"}'),
        "an event without an object": _changed(data={}),
        "an event with a NUL in its id": _changed(id="evt_\x00"),
        "an event of the other mode": _changed(livemode=True),
    }


CASES = tuple(_cases())


def test_there_are_25_cases() -> None:
    assert len(CASES) == 25


@pytest.mark.parametrize("name", CASES)
def test_it_answers_400_to_what_stripe_did_not_sign(account: Account, db: None, name: str) -> None:
    body, header = _cases()[name]
    headers = {} if header is None else {"Stripe-Signature": header}
    reply = Client(raise_request_exception=False).post(WEBHOOK, body, content_type="application/json", headers=headers)
    assert reply.status_code == 400, reply.content
    assert WEBHOOK_SECRET.encode() not in reply.content
    assert not StripeEvent.objects.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"id": 7},
        {"id": "evt_" + "x" * 300},
        {"type": None},
        {"type": "Ungültig"},
        {"created": "now"},
        {"created": 1 << 60},
        {"livemode": "no"},
        {"object": "v2.core.event"},
        {"data": []},
        {"data": {"object": "pi_1"}},
        {"data": {"object": {"id": "pi_1", "payment_intent": [1]}}},
    ],
    ids=str,
)
def test_it_answers_400_to_what_is_no_event(account: Account, db: None, change: dict[str, Any]) -> None:
    body, header = _changed(**change)
    assert post_event(Client(raise_request_exception=False), body, header=header).status_code == 400


def test_it_takes_two_signatures_while_the_secret_changes(account: Account, db: None) -> None:
    body = orjson.dumps({**EVENT, "type": "customer.created"})
    other = sign(body, "whsec_another_0123456789abcdefgh").partition(",")[2]
    assert post_event(Client(), body, header=f"{sign(body, WEBHOOK_SECRET)},{other}").status_code == 200


@pytest.mark.parametrize("secret", ["", "   ", "whsec_short", "\n"])
def test_it_answers_503_without_a_secret(account: Account, db: None, settings: Settings, secret: str) -> None:
    """M1: a blank secret once verified everything."""
    settings.STRIPE_WEBHOOK_SECRET = secret
    assert post_event(Client(), EVENT, secret=secret).status_code == 503
    assert not StripeEvent.objects.exists()
    assert {found.id for found in checks.payments_are_safe(None)} == {"pixelpar.E020"}


def test_it_answers_503_without_a_key(db: None, settings: Settings) -> None:
    settings.STRIPE_WEBHOOK_SECRET = WEBHOOK_SECRET
    assert post_event(Client(), EVENT).status_code == 503


def test_it_takes_nothing_but_posts(account: Account, db: None) -> None:
    for method in ("get", "put", "patch", "delete"):
        assert getattr(Client(), method)(WEBHOOK).status_code == 405


def test_it_refuses_test_events_with_a_live_key(account: Account, db: None, settings: Settings) -> None:
    settings.STRIPE_SECRET_KEY = "sk_live_0123456789"
    assert post_event(Client(), EVENT).status_code == 400
    assert stripe_gateway.livemode()


def test_an_event_sent_again_does_nothing_more(account: Account, organization: Organization) -> None:
    """M3: unique by its own id; and another event about the same object is as harmless."""
    account.pay(account.top_up(organization))
    event = account.events("payment_intent.succeeded")[0]
    again = {**copy.deepcopy(event), "id": "evt_of_another_id"}
    for it in (event, event, again, event):
        assert post_event(Client(), it).status_code == 200
    assert StripeEvent.objects.count() == 2
    assert (Transfer.objects.filter(kind="top_up").count(), wallet(organization)) == (1, 25 * USD)


@pytest.mark.parametrize("word", ["", "not-a-uuid", "0190e1f2-0000-7000-8000-000000000000"])
def test_a_payment_of_an_unknown_top_up_credits_nobody(account: Account, organization: Organization, word: str) -> None:
    """M1: with no top-up of ours in it, it is another business of the same account; with one that is lost, suspense."""
    intent = account.pay(account.top_up(organization))
    intent["metadata"] = {"top_up": word} if word else {}
    account.tell()
    assert wallet(organization) == 0
    kinds = set(Transfer.objects.values_list("kind", flat=True))
    assert kinds == ({"suspense"} if word.startswith("0190") else set())


def test_a_payment_made_another_way_credits_nobody(account: Account, organization: Organization) -> None:
    """M1: a PaymentIntent that names an open top-up of somebody's, made past its checkout."""
    top_up = account.top_up(organization, dollars=1000)
    customer = account.customer_with_card(organization)
    for cents in (100_000, 100):
        asked = {"amount": cents, "currency": "usd", "customer": customer.stripe_id, "confirm": "true"}
        account.world.make_intent(
            asked | {"payment_method": customer.payment_method, "metadata": {"top_up": str(top_up.pk)}}
        )
    account.tell()
    assert wallet(organization) == 0
    assert TopUp.objects.get().state == TopUpState.UNEXPLAINED
    assert set(Transfer.objects.values_list("kind", flat=True)) == {"suspense", "stripe_fee"}


def test_an_event_that_is_early_waits_in_the_inbox(account: Account, organization: Organization) -> None:
    """Stripe's API may not have the object yet: it is kept, answered with 200, and acted on later."""
    top_up = account.top_up(organization)
    intent = account.pay(top_up)
    hidden = account.world.things.pop(intent["id"])
    for event in account.events():
        assert post_event(Client(), event).status_code == 200
    assert StripeEvent.objects.filter(state="received", tries=1).exists()
    account.world.things[intent["id"]] = hidden
    StripeEvent.objects.update(next_try_at="2020-01-01T00:00:00Z")
    assert stripe_inbox.process_waiting() >= 1
    assert wallet(organization) == 25 * USD


def test_a_session_that_is_not_settled_yet_is_not_suspected(account: Account, organization: Organization) -> None:
    top_up = account.top_up(organization)
    account.pay(top_up)
    session = account.session(top_up)
    session["payment_status"] = "unpaid"
    account.tell(*account.events("payment_intent.succeeded"))
    assert StripeEvent.objects.get().state == "received"
    session["payment_status"] = "paid"
    account.tell()
    assert wallet(organization) == 25 * USD


def test_its_own_check_is_stricter_than_the_packages() -> None:
    """The package takes any future and any number of signatures: ours is what refuses them."""
    body = orjson.dumps(EVENT)
    header = sign(body, WEBHOOK_SECRET, at_s=int(time.time()) + 10**6)
    stripe_gateway.verify_signature(body.decode(), header, secret=WEBHOOK_SECRET, tolerance_s=300)
    with pytest.raises(BadSignature, match="future"):
        stripe_signature.check(body, header, secret=WEBHOOK_SECRET, now_s=int(time.time()))


def test_it_keeps_no_more_of_an_event_than_it_needs(account: Account, organization: Organization) -> None:
    account.pay(account.top_up(organization))
    account.tell()
    stored = StripeEvent.objects.filter(type="charge.succeeded").values().get()
    assert "4242" not in orjson.dumps({name: str(value) for name, value in stored.items()}).decode()
    assert ids.parse("top", organization.top_ups.get().word)
