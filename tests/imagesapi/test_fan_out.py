"""More pictures than an offer makes in one call: several calls, and what came is delivered and charged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from billing import ledger
from billing.models import Hold, Transfer
from imagesapi.models import Attempt, Image
from tests.envelope import error_of
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi.conftest import Caller

BROKEN = misbehaviour.status(500, {"detail": "no"})
ASKED: dict[str, Any] = {"model": "flux.1-schnell", "quality": None, "size": "512x512", "n": 10}


@pytest.fixture(autouse=True)
def _exact(db: None) -> Iterator[None]:
    yield
    assert ledger.verify().differences == ()
    assert not Hold.objects.filter(state="held").exists()


def test_it_makes_as_many_calls_as_it_takes(caller: Caller, providers: ProviderFake) -> None:
    answer = caller.ask(**ASKED)
    assert answer.status_code == 200, answer.content
    assert len(answer.json()["data"]) == 10
    assert sorted(one.json["num_images"] for one in providers.requests) == [2, 4, 4]
    assert [row.position for row in Image.objects.order_by("position")] == list(range(10))
    assert len(Attempt.objects.get().parts or []) == 3
    assert answer.json()["metadata"]["adjustments"] == []


def test_it_delivers_and_charges_what_came(caller: Caller, providers: ProviderFake) -> None:
    whole = caller.ask(**ASKED).json()["metadata"]["cost"]
    providers.script(BROKEN)
    answer = caller.ask(**ASKED)
    assert answer.status_code == 200, answer.content
    delivered = len(answer.json()["data"])
    assert delivered in (6, 8)
    assert answer.json()["metadata"]["cost"] == pytest.approx(whole * delivered / 10)
    (change,) = answer.json()["metadata"]["adjustments"]
    assert (change["parameter"], change["asked"], change["used"]) == ("n", 10, delivered)
    assert "provider_unavailable" in change["why"]
    parts = Attempt.objects.latest("generation_id").parts or []
    assert sorted(part["status"] for part in parts) == ["failed", "succeeded", "succeeded"]


def test_it_fails_over_when_nothing_came(caller: Caller, providers: ProviderFake) -> None:
    providers.behave(BROKEN)
    error = error_of(caller.ask(**ASKED))
    assert error["code"] == "all_providers_failed"
    assert not Transfer.objects.exclude(kind="grant").exists()


def test_a_late_call_makes_the_attempt_unknown(caller: Caller, providers: ProviderFake, settings: Any) -> None:
    settings.PROVIDER_TIMEOUT_S = 1
    providers.script(BROKEN, BROKEN)
    providers.behave(misbehaviour.hang())
    answer = caller.ask(**ASKED)
    assert error_of(answer)["code"] == "provider_timeout"
    assert Attempt.objects.get().status == "unknown"


def test_a_refusal_of_some_calls_is_told(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.blocked())
    answer = caller.ask(**ASKED)
    assert answer.status_code == 200, answer.content
    assert "moderation_blocked" in answer.json()["metadata"]["adjustments"][0]["why"]
