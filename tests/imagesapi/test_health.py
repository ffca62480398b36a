"""Health: what is measured of our own attempts, and that looking it up never waits."""

from __future__ import annotations

import datetime as dt
import threading
import time

import pytest
from django.utils import timezone

from imagesapi import health
from imagesapi.health import Health
from imagesapi.models import Attempt, Offer, OfferHealth
from tests import money
from tests.imagesapi import attempts


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_known", health._Known())


@pytest.fixture
def offer(db: None) -> Offer:
    money.customer()
    found = Offer.objects.order_by("pk").first()
    assert found
    return found


def took(offer: Offer, *seconds: float, status: str = "succeeded", ago_s: float = 60) -> None:
    """Attempts that took this long each."""
    for duration_s in seconds:
        sent_at = timezone.now() - dt.timedelta(seconds=ago_s)
        finished_at = sent_at + dt.timedelta(seconds=duration_s)
        attempts.add(offer, 1, status=status, sent_at=sent_at, finished_at=finished_at)


def test_it_measures_success_and_time(offer: Offer) -> None:
    took(offer, 1, 2, 3, 4, 10)
    took(offer, 30, status="failed")
    assert health.measure() == 1
    assert dict(health.read()) == {offer.pk: Health(calls=6, failures=1, p50_ms=3000, p95_ms=8800)}


def test_it_leaves_out_what_says_nothing(offer: Offer) -> None:
    took(offer, 5)
    took(offer, 5, ago_s=4000)
    attempts.add(offer, 2, status="refused", error_code="moderation_blocked")
    attempts.add(offer, 2, own_key=True)
    attempts.add(offer, 2, status="succeeded", simulated=True)
    attempts.add(offer, 2, status="unknown", error_code="")
    attempts.add(offer, 2, status="sent", finished_at=None)
    health.measure()
    assert health.read()[offer.pk].calls == 1


def test_it_looks_at_so_many_calls_and_no_more(offer: Offer, monkeypatch: pytest.MonkeyPatch) -> None:
    took(offer, *[9.0] * 30, ago_s=600)
    took(offer, *[1.0] * 30)
    monkeypatch.setattr(health, "_MEASURE", health._MEASURE.replace(f"LIMIT {health.CALLS_MAX}", "LIMIT 30"))
    health.measure()
    assert health.read()[offer.pk] == Health(calls=30, failures=0, p50_ms=1000, p95_ms=1000)


def test_it_forgets_offers_that_nobody_calls_any_more(offer: Offer) -> None:
    took(offer, 5)
    health.measure()
    Attempt.objects.all().delete()
    health.measure()
    assert not OfferHealth.objects.exists()


def test_it_does_not_believe_old_measurements(offer: Offer) -> None:
    took(offer, 5)
    health.measure()
    OfferHealth.objects.update(measured_at=timezone.now() - dt.timedelta(minutes=6))
    assert dict(health.read()) == {}


@pytest.mark.parametrize(
    ("calls", "failures", "band"),
    [(0, 0, 0), (9, 9, 0), (10, 0, 0), (100, 5, 0), (100, 6, 1), (100, 20, 1), (100, 21, 2), (100, 51, 3)],
)
def test_it_puts_success_into_bands(calls: int, failures: int, band: int) -> None:
    assert Health(calls=calls, failures=failures).band == band


def test_it_never_waits_and_reads_once_in_thirty_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    release, readers = threading.Event(), []
    fresh = {1: Health(calls=1, failures=0)}

    def read() -> dict[int, Health]:
        readers.append(threading.current_thread())
        release.wait(10)
        return fresh

    monkeypatch.setattr(health, "read", read)
    started_s = time.monotonic()
    assert all(health.current() == {} for _ in range(1_000))
    assert time.monotonic() - started_s < 1
    release.set()
    (reader,) = readers
    assert reader is not threading.current_thread()
    reader.join(10)
    assert health.current() == fresh
    health._known.asked_at_s -= 31
    health.current()
    deadline = time.monotonic() + 5
    while len(readers) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(readers) == 2
    readers[1].join(10)


def test_it_goes_on_with_what_it_knew_when_reading_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {1: Health(calls=1, failures=0)}
    health._known.offers = known
    monkeypatch.setattr(health, "read", lambda: 1 / 0)
    health._refresh()
    assert health.current() == known
