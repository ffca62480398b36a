"""Hand-made offers and calls for the tests of provider adapters."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from PIL import Image

from imagesapi.providers.base import Call, ProviderError, TimedOut
from imagesapi.values import Capabilities, Connection, Fitted, InputImage, Offer, Partial
from tests.fakes import misbehaviour
from tests.fakes.providers import GEMINI_KEY, REPLICATE_TOKEN, ProviderFake

OLD_SIZES = ("auto", "1024x1024", "1536x1024", "1024x1536")
# Providers that never come to the end of an answer: nobody knows what they did, or bill.
CUT_SHORT = (
    misbehaviour.hang(),
    misbehaviour.bill_and_hang(),
    misbehaviour.drip_head(),
    misbehaviour.drip_body(),
    misbehaviour.drop(),
    misbehaviour.drop_in_body(reset=True),
    misbehaviour.bill_and_drop(),
)


def assert_left_unknown(fail: Callable[[], ProviderError]) -> None:
    """What fails within 0.4 s because no whole answer came: told soon after, maybe billed, and nobody else is asked."""
    begun_s = time.monotonic()
    error = fail()
    assert isinstance(error, TimedOut)
    assert error.possibly_billed and not error.may_fail_over
    assert time.monotonic() - begun_s < 0.9


def settings_of(fake: ProviderFake, **changed: str) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": fake.openai_key,
        "OPENAI_BASE_URL": fake.openai_url,
        "FAL_KEY": fake.fal_key,
        "FAL_RUN_URL": fake.fal_run_url,
        "FAL_QUEUE_URL": fake.fal_queue_url,
        "FAL_MODE": "run",
        "GEMINI_API_KEY": GEMINI_KEY,
        "GEMINI_BASE_URL": fake.google_url,
        "REPLICATE_API_TOKEN": REPLICATE_TOKEN,
        "REPLICATE_BASE_URL": fake.replicate_url,
        **changed,
    }


def offer(provider: str, wire_id: str, settings: Mapping[str, str], *, edit_wire_id: str = "", **able: Any) -> Offer:
    abilities = {
        "max_n": 10 if provider == "openai" else 4,
        "prompt_max_chars": 32_000,
        "sizes": OLD_SIZES,
        "qualities": ("auto", "low", "medium", "high"),
        "backgrounds": ("auto", "transparent", "opaque"),
        "output_formats": ("png", "jpeg", "webp"),
        **able,
    }
    return Offer(
        id=1,
        model="gpt-image-1",
        provider=provider,
        provider_name=provider,
        adapter=provider,
        wire_id=wire_id,
        edit_wire_id=edit_wire_id,
        capabilities=Capabilities(**abilities),
        prices=(),
        pricing={},
        deprecated_on=None,
        retires_on=None,
        enabled=True,
        weight=1,
        connection=Connection(settings=settings, configured=True, custom_endpoint=True),
    )


def fitted(**changed: Any) -> Fitted:
    values: dict[str, Any] = {
        "prompt": "a fox in the snow",
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
        "background": None,
        "output_format": "png",
    }
    return Fitted(**{**values, **changed})


def picture(
    size: tuple[int, int] = (64, 48), *, kind: str = "png", colour: tuple[int, ...] = (200, 60, 60)
) -> InputImage:
    """An input picture of one colour; four parts of colour make a transparent one."""
    file = io.BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(file, kind.upper())
    data = file.getvalue()
    return InputImage(f"image/{kind}", *size, hashlib.sha256(data).hexdigest(), data=data)


def call(
    adapter: ModuleType,
    to: Offer,
    *,
    within_s: float = 5.0,
    remember: Callable[[dict[str, Any]], None] | None = None,
    body: Mapping[str, Any] | None = None,
    cancelled: Callable[[], bool] | None = None,
    on_partial: Callable[[Partial], None] | None = None,
    **changed: Any,
) -> Call:
    wanted = fitted(**changed)
    return Call(
        offer=to,
        fitted=wanted,
        body=adapter.build(wanted, to) if body is None else body,
        deadline=time.monotonic() + within_s,
        generation_id="gen-1",
        remember=remember or (lambda reference: None),
        cancelled=cancelled or (lambda: False),
        on_partial=on_partial,
    )
