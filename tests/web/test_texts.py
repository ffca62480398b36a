"""The texts for language models: everything a program needs to call this server, from the catalogue itself."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from core import money
from imagesapi import catalog, listing


@pytest.fixture(autouse=True)
def _catalogue(db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "_current", None)
    settings.BASE_URL = "https://images.example"


def test_it_names_every_model_and_the_api(client: Client) -> None:
    answer = client.get("/llms.txt")
    text = answer.content.decode()
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert text.startswith("# Pixelpar\n\n> ")
    assert "(https://images.example/openapi.json)" in text
    for model in listing.models(catalog.snapshot()):
        assert f"(https://images.example/models/{model['id']}/llms.txt)" in text


def test_it_tells_one_model_with_its_providers_prices_and_calls(client: Client) -> None:
    text = client.get("/models/gpt-image-1/llms.txt").content.decode()
    assert "curl https://images.example/openai/v1/images/generations" in text
    assert "-F model=gpt-image-1 -F image=@source.png" in text
    for offer in catalog.snapshot().models["gpt-image-1"].offers:
        assert f"`{offer.provider}/gpt-image-1`" in text
        assert f"${money.decimal_picos(offer.prices[0].unit_price_picos)}" in text


def test_it_shows_no_generation_with_a_model_that_only_changes_pictures(client: Client) -> None:
    text = client.get("/models/mock-upscale/llms.txt").content.decode()
    assert "## Edit" in text
    assert "## Generate" not in text


def test_it_says_so_where_there_is_no_model(client: Client) -> None:
    answer = client.get("/models/no-such-model/llms.txt")
    assert (answer.status_code, answer.headers["Cache-Control"]) == (404, "no-store")
    assert b"/llms.txt names them all" in answer.content
