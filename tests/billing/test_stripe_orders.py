"""T-12: a top-up's six events, refund and dispute among them, in any order, each up to three times: one balance."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from django.db import connection, connections
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing import ledger, stripe_gateway, stripe_inbox, stripe_webhook
from billing.models import Transfer
from billing.stripe_models import Dispute, Refund, StripeEvent, TopUp
from tests.fakes._stripe_objects import Object
from tests.money import customer
from tests.stripes import USD, Account, wallet

ORDERS = list(itertools.permutations(range(6)))
KINDS = (
    "payment_intent.succeeded",
    "checkout.session.completed",
    "charge.refunded",
    "charge.dispute.created",
    "charge.dispute.funds_withdrawn",
    "charge.dispute.closed",
)
# 25 dollars paid, 10 of them refunded, then all 25 disputed and lost: 25 go back to the customer's banks in all.
BOOKED = Counter(
    {
        ("top_up", 25 * USD): 1,
        ("stripe_fee", 103 * USD // 100): 1,
        ("refund_outside", 10 * USD): 1,
        ("dispute", 15 * USD): 1,
        ("dispute_fee", 15 * USD): 1,
        ("suspense_returned", 10 * USD): 1,
    }
)


class History:
    """One top-up whose story goes on only as far as the event that is delivered: events are early as well as late."""

    def __init__(self, account: Account, organization: Organization) -> None:
        self.account, self.organization = account, organization
        self.top_up = account.top_up(organization)
        self.first = len(account.world.events)
        self.intent: Object = {}

    def event(self, number: int) -> Object:
        """The event, after letting happen what it tells of and what came before that."""
        with self.account.world.lock:
            steps: Iterator[None] = self._goes_on()
            while (found := self._found(number)) is None:
                next(steps)
        return found

    def _found(self, number: int) -> Object | None:
        if not self.intent:
            return None
        return next((it for it in self._mine() if it["type"] == KINDS[number]), None)

    def _mine(self) -> Iterator[Object]:
        for event in self.account.world.events[self.first :]:
            about = event["data"]["object"]
            if self.intent["id"] in (about["id"], about.get("payment_intent")):
                yield event

    def _goes_on(self) -> Iterator[None]:
        world = self.account.world
        if not self.intent:
            self.intent = self.account.pay(self.top_up)
            yield
        if self._found(2) is None:
            world.make_refund({"payment_intent": self.intent["id"], "amount": "1000"})
            yield
        if self._found(3) is None:
            world.open_dispute(self.intent)
            yield
        dispute = next(it for it in world.all("dispute") if it["payment_intent"] == self.intent["id"])
        world.close_dispute(dispute, won=False)
        yield

    def check(self) -> None:
        assert wallet(self.organization) == 0
        top_up = TopUp.objects.get(pk=self.top_up.pk)
        assert (top_up.credited_nanos, top_up.clawed_nanos) == (25 * USD, 25 * USD)
        assert Refund.objects.get(top_up=top_up).state == "succeeded"
        assert Dispute.objects.get(top_up=top_up).status == "lost"


def _tell(event: Object) -> None:
    stripe_inbox.store(stripe_webhook.read(orjson.dumps(event)))
    assert stripe_inbox.process(event["id"])


def _play(history: History, order: tuple[int, ...], copies: int) -> None:
    for place, number in enumerate(order):
        for _ in range((copies + place * number) % 3 + 1):
            _tell(history.event(number))


@pytest.fixture
def quick(account: Account, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Account:
    """What was fetched is the same until something happens again, and everything that happens leaves an event."""
    settings.TOP_UP_TRIES_PER_DAY = 10_000
    for name in ("payment", "session"):
        fetch = getattr(stripe_gateway, name)
        kept: dict[Any, Any] = {}

        def fetched(word: str, fetch: Any = fetch, kept: dict[Any, Any] = kept) -> Any:
            key = (word, len(account.world.events))
            if key not in kept:
                kept[key] = fetch(word)
            return kept[key]

        monkeypatch.setattr(stripe_gateway, name, fetched)
    return account


def _one_by_one(account: Account, organization: Organization, orders: list[tuple[int, ...]]) -> None:
    for copies, order in enumerate(orders):
        history = History(account, organization)
        _play(history, order, copies)
        history.check()
        account.forget()
    assert not StripeEvent.objects.exclude(state="done").exists()
    assert _booked() == Counter({what: times * len(orders) for what, times in BOOKED.items()})


def test_any_order_gives_the_same_balance(quick: Account, organization: Organization) -> None:
    _one_by_one(quick, organization, ORDERS[::48])


@pytest.mark.prove
def test_every_order_gives_the_same_balance(quick: Account, organization: Organization) -> None:
    """All 720, one after the other."""
    _one_by_one(quick, organization, ORDERS)


def _booked() -> Counter[tuple[str, int]]:
    return Counter(Transfer.objects.values_list("kind", "amount_nanos"))


def _at_once(account: Account, orders: list[tuple[int, ...]]) -> None:
    """Each order with every event delivered by eight at a time."""
    for copies, order in enumerate(orders):
        organization, _ = customer()
        history = History(account, organization)
        events = [history.event(number) for number in order for _ in range((copies + number) % 3 + 1)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(_told, events))
        stripe_inbox.process_waiting()
        history.check()
        assert _booked() == Counter({what: times * (copies + 1) for what, times in BOOKED.items()}), order
    assert ledger.verify().differences == ()


def _told(event: Object) -> None:
    try:
        _tell(event)
    finally:
        connections.close_all()


def test_events_that_come_at_once_give_the_same_balance(committed: None, account: Account) -> None:
    _at_once(account, ORDERS[::120])
    connection.close()


@pytest.mark.prove
def test_every_order_at_once_gives_the_same_balance(committed: None, account: Account) -> None:
    _at_once(account, ORDERS)
    connection.close()
