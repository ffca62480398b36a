"""Breakers: exact thresholds, one truth for all processes, one probe, and a view that costs no round trip."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.utils import timezone

from accounts import keys
from core import errors, sql
from imagesapi import breakers, routing
from imagesapi.models import Attempt, Breaker, Offer
from imagesapi.providers import base
from tests import money
from tests.imagesapi import attempts, plans
from tests.people import IssuedKey


@pytest.fixture(autouse=True)
def _fresh_view() -> Iterator[None]:
    breakers.forget()
    yield
    breakers.forget()


@pytest.fixture
def key(committed: None) -> IssuedKey:
    return money.customer()[1]


@pytest.fixture
def offer(key: IssuedKey) -> Offer:
    found = Offer.objects.order_by("pk").first()
    assert found
    return found


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The statements that the breakers sent."""
    sent: list[str] = []
    real = sql.row

    def row(statement: str, parameters: Any) -> Any:
        sent.append(statement)
        return real(statement, parameters)

    monkeypatch.setattr(breakers.sql, "row", row)
    return sent


def open_breaker(offer: Offer, *, since_s: float = 0) -> None:
    """As if it had opened a while ago; nobody in this process knows."""
    attempts.add(offer, 20)
    breakers.note(offer.pk, ok=False)
    assert Breaker.objects.get(offer=offer).state == "open"
    moved = dt.timedelta(seconds=since_s)
    row = Breaker.objects.get(offer=offer)
    Breaker.objects.filter(pk=row.pk).update(opened_at=row.opened_at - moved, open_until=row.open_until - moved)
    breakers.forget()


def open_later(offer: Offer, *, by_s: float) -> None:
    row = Breaker.objects.get(offer=offer)
    Breaker.objects.filter(pk=row.pk).update(open_until=row.open_until + dt.timedelta(seconds=by_s))


def look(key: IssuedKey) -> Any:
    return keys.authenticate(key.raw)


def usable(key: IssuedKey, *offer_ids: int) -> list[int]:
    """Which of these offers' candidates a request of now is left with."""
    found = plans.plan(*(plans.offer(f"provider{number}", number) for number in offer_ids)).candidates
    return [one.offer.id for one in breakers.usable(found, look(key))]


@pytest.mark.parametrize(
    ("failed", "succeeded", "opens"), [(19, 0, False), (20, 0, True), (10, 10, True), (10, 11, False), (24, 25, False)]
)
def test_it_opens_at_twenty_calls_of_which_half_failed(offer: Offer, failed: int, succeeded: int, opens: bool) -> None:
    attempts.add(offer, failed)
    attempts.add(offer, succeeded, status="succeeded")
    breakers.note(offer.pk, ok=False)
    assert Breaker.objects.filter(offer=offer, state="open").exists() is opens


def test_it_counts_only_what_says_something_about_the_provider(offer: Offer) -> None:
    other = Offer.objects.exclude(pk=offer.pk).first()
    assert other
    long_ago = timezone.now() - dt.timedelta(seconds=31)
    attempts.add(offer, 19)
    attempts.add(offer, 5, status="refused", error_code="moderation_blocked")
    attempts.add(offer, 5, error_code="cancelled")
    attempts.add(offer, 5, own_key=True)
    attempts.add(offer, 5, status="unknown", error_code="")  # our own end, not the provider's
    attempts.add(offer, 5, finished_at=long_ago, sent_at=long_ago)
    attempts.add(other, 5)
    breakers.note(offer.pk, ok=False)
    assert not Breaker.objects.exists()
    attempts.add(offer, 1, status="unknown", error_code="provider_timeout")
    breakers.note(offer.pk, ok=False)
    row = Breaker.objects.get()
    assert (row.offer, row.reason) == (offer, "20 of 20 calls failed within 30 seconds")
    assert row.open_until - row.opened_at == dt.timedelta(seconds=15)


def test_it_tells_other_processes_with_their_next_key(key: IssuedKey, offer: Offer) -> None:
    other = offer.pk + 1
    assert usable(key, offer.pk, other) == [offer.pk, other]
    open_breaker(offer)
    assert usable(key, offer.pk, other) == [other]


def test_it_looks_without_a_round_trip(key: IssuedKey, offer: Offer, trips: list[str]) -> None:
    open_breaker(offer)
    caller = look(key)
    found = plans.plan(plans.offer("a", offer.pk), plans.offer("b", offer.pk + 1)).candidates
    trips.clear()
    kept = breakers.usable(found, caller)
    assert all(breakers.may_call(candidate) for candidate in kept)
    assert not breakers.may_call(found[0])
    breakers.note(offer.pk + 1, ok=True)
    breakers.note(offer.pk, ok=False)  # it rests already
    assert [candidate.offer.id for candidate in kept] == [offer.pk + 1]
    assert trips == []


def test_it_refuses_when_everybody_rests(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=5)
    with pytest.raises(errors.Overloaded) as refusal:
        usable(key, offer.pk)
    assert refusal.value.error_code == "providers_resting"
    assert 9 <= int(refusal.value.headers()["Retry-After"]) <= 10


def test_it_lets_one_probe_through(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=14)
    assert not breakers.claim_probe(offer.pk)
    open_later(offer, by_s=-2)
    with ThreadPoolExecutor(32) as pool:
        claimed = list(pool.map(lambda _: breakers.claim_probe(offer.pk), range(32)))
    assert sum(claimed) == 1
    assert Breaker.objects.get().state == "half_open"
    breakers.forget()
    with pytest.raises(errors.Overloaded):  # a process that comes now knows of the probe from the key
        usable(key, offer.pk)


def test_it_lets_another_probe_when_the_first_never_ends(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=20)
    assert breakers.claim_probe(offer.pk)
    Breaker.objects.update(probe_until=timezone.now())
    assert breakers.claim_probe(offer.pk)
    assert not breakers.claim_probe(offer.pk)


def test_it_closes_when_the_probe_succeeds(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=20)
    assert usable(key, offer.pk) == [offer.pk]
    assert breakers.claim_probe(offer.pk)
    breakers.note(offer.pk, ok=True)
    assert not Breaker.objects.exists()
    assert usable(key, offer.pk) == [offer.pk]
    assert breakers.claim_probe(offer.pk)  # a process that missed it finds nothing to wait for


def test_it_rests_again_when_the_probe_fails(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=20)
    Attempt.objects.all().delete()
    usable(key, offer.pk)
    assert breakers.claim_probe(offer.pk)
    breakers.note(offer.pk, ok=False)
    row = Breaker.objects.get()
    assert (row.state, row.probe_until, row.reason) == ("open", None, "the probe failed")
    assert dt.timedelta(seconds=14) < row.open_until - timezone.now() <= dt.timedelta(seconds=15)
    with pytest.raises(errors.Overloaded):
        usable(key, offer.pk)


def test_it_stays_open_for_calls_that_were_sent_before(key: IssuedKey, offer: Offer) -> None:
    """Half of those in flight when it opened end well; only the time of a probe closes it."""
    open_breaker(offer)
    breakers.learn(look(key))
    breakers.note(offer.pk, ok=True)
    assert Breaker.objects.get().state == "open"


def test_it_gives_an_unused_probe_back(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=20)
    found = plans.plan(plans.offer("a", offer.pk))
    breakers.usable(found.candidates, look(key))
    assert routing.claim(found) == found
    with pytest.raises(errors.Overloaded):
        routing.claim(found)
    routing.release(found)
    assert routing.claim(found) == found
    routing.note(found.first, base.Cancelled("stopped"))
    assert routing.claim(found) == found


def test_it_leaves_out_what_somebody_else_probes(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer, since_s=20)
    dear = plans.offer("b", offer.pk + 1, dollars="0.02")
    found = plans.plan(plans.offer("a", offer.pk, dollars="0.05"), dear, provider_order=("a",))
    breakers.usable(found.candidates, look(key))
    assert found.hold_nanos == 50_000_000
    assert breakers.claim_probe(offer.pk)
    left = routing.claim(found)
    assert (plans.order(left), left.hold_nanos) == (["b"], 20_000_000)


@pytest.mark.parametrize(
    ("error", "closes"),
    [
        (None, True),
        (base.Blocked("no"), True),
        (base.InvalidInput("no"), True),
        (base.Unavailable("no"), False),
        (base.TimedOut("no"), False),
        (base.BadAnswer("no"), False),
        (base.RateLimited("no"), False),
        (base.OperatorTrouble("no"), False),
        (base.ModelGone("no"), False),
    ],
)
def test_it_takes_any_answer_of_the_probe_for_life(
    key: IssuedKey, offer: Offer, error: base.ProviderError | None, closes: bool
) -> None:
    open_breaker(offer, since_s=20)
    found = plans.plan(plans.offer("a", offer.pk))
    breakers.usable(found.candidates, look(key))
    assert routing.may_try(found.first)
    routing.note(found.first, error)
    assert Breaker.objects.exists() is not closes


def test_it_never_stops_an_organizations_own_key(key: IssuedKey, offer: Offer, trips: list[str]) -> None:
    open_breaker(offer)
    own, caller = plans.own_plan(plans.offer("a", offer.pk), fallback=False), look(key)
    trips.clear()
    assert breakers.usable(own.candidates, caller) == own.candidates
    assert routing.claim(own) == own
    routing.note(own.first, base.OperatorTrouble("their quota"))
    assert trips == []


def test_it_believes_no_older_news(key: IssuedKey, offer: Offer) -> None:
    """A caller may have been read seconds ago; what this process saw itself since then counts more."""
    before = look(key)
    attempts.add(offer, 20)
    breakers.note(offer.pk, ok=False)
    found = plans.plan(plans.offer("a", offer.pk)).candidates
    with pytest.raises(errors.Overloaded):
        breakers.usable(found, before)


def test_it_hears_of_the_end_with_the_next_keys(key: IssuedKey, offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was read while nobody rested may have been read before the breaker opened, by ten seconds at most."""
    open_breaker(offer, since_s=-15)
    breakers.learn(look(key))
    Breaker.objects.all().delete()
    nobody = look(key)
    assert nobody.facts["breakers"] is None
    found = plans.plan(plans.offer("a", offer.pk)).candidates
    with pytest.raises(errors.Overloaded):
        breakers.usable(found, nobody)
    now_ms = breakers._now_ms()
    monkeypatch.setattr(breakers, "_now_ms", lambda: now_ms + 12_500)
    assert breakers.usable(found, nobody) == found


def test_it_tells_prices_while_everybody_rests(key: IssuedKey, offer: Offer) -> None:
    open_breaker(offer)
    shown = plans.snapshot([plans.offer("a", offer.pk)])
    now = timezone.now()
    caller = look(key)
    assert routing.plan_for(caller, plans.request(dry_run=True), shown, at=now).hold_nanos == 10_000_000
    with pytest.raises(errors.Overloaded):
        routing.plan_for(caller, plans.request(), shown, at=now)
