"""Asking Replicate's fake for predictions, through the adapter: with success, with trouble, and how one ended."""

from __future__ import annotations

from typing import Any

import pytest

from imagesapi.providers import replicate
from imagesapi.providers.base import ProviderError
from imagesapi.values import Answer, Offer
from tests.fakes import misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import REPLICATE_TOKEN, ProviderFake
from tests.imagesapi import adapters

SCHNELL = "black-forest-labs/flux-schnell"
KONTEXT = "black-forest-labs/flux-kontext-pro"
PAINTER = "someone/painter"
ABLE: dict[str, Any] = {
    "max_n": 4,
    "sizes": (),
    "size_style": "ratio",
    "ratio_sizes": {"1K": {"1:1": "1024x1024", "16:9": "1344x768"}},
    "qualities": (),
    "backgrounds": (),
    "output_formats": ("png", "jpeg", "webp"),
    "compression": True,
    "extras": ("seed", "go_fast"),
}
ONE: dict[str, Any] = {"max_n": 1}
PIXELS: dict[str, Any] = {"max_n": 1, "size_style": "pixels", "ratio_sizes": {}}


def offer(fake: ProviderFake, wire_id: str = SCHNELL, settings: dict[str, str] | None = None, **able: Any) -> Offer:
    return adapters.offer("replicate", wire_id, adapters.settings_of(fake, **(settings or {})), **{**ABLE, **able})


def asked_for(**asked: Any) -> dict[str, Any]:
    return {"quality": None, "aspect_ratio": "1:1", "resolution": "1K", **asked}


def run(fake: ProviderFake, wire_id: str = SCHNELL, able: dict[str, Any] | None = None, **asked: Any) -> Answer:
    return replicate.run(adapters.call(replicate, offer(fake, wire_id, **(able or {})), **asked_for(**asked)))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    assert REPLICATE_TOKEN not in repr((caught.value.message, caught.value.details))
    return caught.value


def routes(fake: ProviderFake) -> list[str]:
    return [seen.route for seen in fake.requests]


def ended(status: str, **fields: Any) -> Behaviour:
    """A prediction in this state, with fields changed."""
    return misbehaviour.altered(lambda body: body.update(status=status, **fields))
