"""google and replicate through the whole gateway: fan-out, exact charges, blocks, edits, and failover."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from billing import ledger
from billing.models import Hold, Transfer
from core import money
from imagesapi.models import Attempt
from tests.envelope import error_of
from tests.fakes import _google, _pictures, misbehaviour
from tests.fakes.providers import GEMINI_KEY, REPLICATE_TOKEN, ProviderFake
from tests.imagesapi.conftest import Caller

PRO = {"model": "gemini-3-pro-image", "quality": None, "size": "1024x1024"}
FLUX = {"model": "flux.1-schnell", "quality": None, "size": "1024x1024"}
# Dollars for a million tokens of gemini-3-pro-image: read, written as text, drawn.
READ, WRITTEN, DRAWN = 2, 12, 120


@pytest.fixture(autouse=True)
def _all_providers(providers: ProviderFake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", GEMINI_KEY)
    monkeypatch.setenv("GEMINI_BASE_URL", providers.google_url)
    monkeypatch.setenv("REPLICATE_API_TOKEN", REPLICATE_TOKEN)
    monkeypatch.setenv("REPLICATE_BASE_URL", providers.replicate_url)


@pytest.fixture(autouse=True)
def _exact(db: None) -> Iterator[None]:
    yield
    assert ledger.verify().differences == ()
    assert not Hold.objects.filter(state="held").exists()


def charged_nanos() -> int:
    return sum(row.amount_nanos for row in Transfer.objects.exclude(kind="grant"))


def cost_nanos(*, read: int, written: int, drawn: int) -> Fraction:
    dollars = Fraction(read * READ + written * WRITTEN + drawn * DRAWN, 1_000_000)
    return dollars * money.NANOS_PER_USD


def test_google_makes_one_picture_a_call_and_is_paid_by_token(caller: Caller, providers: ProviderFake) -> None:
    answer = caller.ask(**PRO, n=2)
    assert answer.status_code == 200, answer.content
    assert [seen.route for seen in providers.requests] == ["google", "google"]
    assert len(answer.json()["data"]) == 2
    prompt = len("a red fox") // 4
    assert charged_nanos() == cost_nanos(read=2 * prompt, written=2 * 800, drawn=2 * 1120)


def test_googles_reading_of_a_size_is_told(caller: Caller, providers: ProviderFake) -> None:
    answer = caller.ask(**{**PRO, "size": "1920x1080"})
    assert answer.status_code == 200, answer.content
    shape = providers.requests[0].json["generationConfig"]["imageConfig"]
    assert shape["aspectRatio"] == "16:9"
    assert [change["parameter"] for change in answer.json()["metadata"]["adjustments"]] == ["size"]


def test_googles_block_in_a_success_is_a_refusal_and_costs_nothing(caller: Caller, providers: ProviderFake) -> None:
    providers.script(_google.finished("IMAGE_SAFETY"))
    answer = caller.ask(**PRO)
    assert (answer.status_code, error_of(answer)["code"]) == (400, "moderation_blocked")
    assert charged_nanos() == 0
    assert Attempt.objects.get().status == "refused"


def test_google_edits_and_what_it_read_is_charged(caller: Caller, providers: ProviderFake) -> None:
    fields: dict[str, Any] = {
        "model": PRO["model"],
        "prompt": "make it blue",
        "size": "1024x1024",
        "image": SimpleUploadedFile("fox.png", _pictures.draw(64, 48, "png"), "image/png"),
    }
    answer = caller.client.post("/openai/v1/images/edits", fields)
    assert answer.status_code == 200, answer.content
    parts = providers.requests[0].json["contents"][0]["parts"]
    assert base64.b64decode(parts[1]["inlineData"]["data"]).startswith(b"\x89PNG")
    assert charged_nanos() == cost_nanos(read=len("make it blue") // 4 + 258, written=800, drawn=1120)


def test_one_model_is_served_by_several_providers(caller: Caller, providers: ProviderFake) -> None:
    for provider, route in (("fal", "run"), ("replicate", "predict")):
        answer = caller.ask(**{**FLUX, "model": f"{provider}/flux.1-schnell"})
        assert answer.status_code == 200, answer.content
        assert route in [seen.route for seen in providers.requests]
        assert answer.json()["metadata"]["provider"] == provider


def test_replicate_takes_over_where_fal_fails(caller: Caller, providers: ProviderFake) -> None:
    providers.script(misbehaviour.html(503), on="run")
    answer = caller.ask(**FLUX, provider={"order": ["fal", "replicate"]})
    assert answer.status_code == 200, answer.content
    assert [row.status for row in Attempt.objects.order_by("number")] == ["failed", "succeeded"]
    assert charged_nanos() == money.NANOS_PER_USD * 3 // 1_000


def test_a_prediction_is_remembered_with_its_attempt(caller: Caller, providers: ProviderFake) -> None:
    assert caller.ask(**{**FLUX, "model": "replicate/flux.1-schnell"}).status_code == 200
    job = Attempt.objects.get().job or {}
    assert job["get_url"].startswith(providers.replicate_url)
