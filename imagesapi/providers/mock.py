"""The offline provider: free, deterministic pictures, on request slow, failing or refusing; it stands in for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from imagesapi import tokens
from imagesapi.providers import mock_painting
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    Setting,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Fitted, Offer, Picture, Usage

SETTINGS = (Setting(name="MOCK_DELAY_MS", default="0"), Setting(name="MOCK_FAIL"))

MAX_DELAY_MS = 120_000
MAX_EDGE_PX = 4096
_MAX_DIGITS = 9
DEFAULT_SIZE = "1024x1024"
DEFAULT_QUALITY = "medium"
OUTPUT_FORMATS = ("png", "jpeg", "webp")

_FAILURES: Mapping[str, Callable[[], ProviderError]] = {
    "refuse": lambda: Blocked("The mock refused this prompt, as mock_fail asked.", http_status=400),
    "invalid": lambda: InvalidInput("The mock called this request invalid, as mock_fail asked.", http_status=400),
    "account": lambda: OperatorTrouble("The mock has no credit left, as mock_fail asked.", http_status=401),
    "rate_limit": lambda: RateLimited("The mock is busy, as mock_fail asked.", http_status=429, retry_after_s=1),
    "model_gone": lambda: ModelGone("The mock retired this model, as mock_fail asked.", http_status=404),
    "unavailable": lambda: Unavailable("The mock is down, as mock_fail asked.", http_status=503),
    "bad_answer": lambda: BadAnswer("The mock answered garbage, as mock_fail asked.", http_status=200),
}


def build(fitted: Fitted, offer: Offer) -> dict[str, Any]:
    """The fitted parameters by OpenAI's names; extras never replace one of them, and absent ones are left out."""
    body = {
        **fitted.extras,
        "model": offer.wire_id,
        "prompt": fitted.prompt,
        "n": fitted.n,
        "size": fitted.size,
        "quality": fitted.quality,
        "background": fitted.background,
        "output_format": fitted.output_format,
        "output_compression": fitted.output_compression,
        "style": fitted.style,
    }
    return {name: value for name, value in body.items() if value is not None}


def run(call: Call) -> Answer:
    """Wait and fail as the knobs say, else paint."""
    _misbehave(call)
    effective = _effective(call)
    pictures = [Picture(data=_picture(call, effective, variation)) for variation in range(call.fitted.n)]
    return Answer(
        pictures=pictures,
        usage=_usage(call, effective),
        request_id=f"mock-{call.generation_id}",
        evidence={"simulated": call.offer.simulated},
        effective=effective,
    )


def _effective(call: Call) -> dict[str, str]:
    """The values that were used: "auto" and absent ones resolved; quality only where the offer has any."""
    fitted, capabilities = call.fitted, call.offer.capabilities
    effective = {
        "size": DEFAULT_SIZE if fitted.size == "auto" else fitted.size,
        "background": "transparent" if fitted.background == "transparent" else "opaque",
        "output_format": fitted.output_format,
    }
    if fitted.quality or capabilities.qualities:
        auto = fitted.quality in (None, "auto")
        effective["quality"] = DEFAULT_QUALITY if auto else str(fitted.quality)
    if effective["output_format"] not in OUTPUT_FORMATS:
        raise InvalidInput(f"The mock draws {', '.join(OUTPUT_FORMATS)}.", param="output_format")
    if effective["output_format"] == "jpeg" and effective["background"] == "transparent":
        raise InvalidInput("A transparent background needs output_format png or webp.", param="background")
    return effective


def _picture(call: Call, effective: Mapping[str, str], variation: int) -> bytes:
    image = mock_painting.paint(
        call.fitted.prompt,
        seed=f"{call.offer.model}/{call.fitted.extras.get('seed', '')}",
        variation=variation,
        size=_pixels(effective["size"]),
        detail=mock_painting.DETAIL_OF_QUALITY.get(effective.get("quality", DEFAULT_QUALITY), 2),
        style=call.fitted.style,
        cut_out=effective["background"] == "transparent",
    )
    compression = call.fitted.output_compression
    return mock_painting.encode(image, output_format=effective["output_format"], compression=compression)


def _pixels(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    pixels = _whole(width), _whole(height)
    if min(pixels) >= 1 and max(pixels) <= MAX_EDGE_PX:
        return pixels
    raise InvalidInput(f"size must be auto or WIDTHxHEIGHT with edges of 1 to {MAX_EDGE_PX} pixels.", param="size")


def _usage(call: Call, effective: Mapping[str, str]) -> Usage | None:
    """Tokens as the provider that the mock stands in for would count them, where its prices count tokens."""
    quality = effective.get("quality", DEFAULT_QUALITY)
    each = tokens.output_tokens(call.offer.pricing, quality=quality, size=effective["size"])
    if each is None:
        return None
    return Usage(
        text_input_tokens=tokens.prompt_tokens(call.fitted.prompt),
        image_input_tokens=0,
        image_output_tokens=call.fitted.n * each,
    )


def _misbehave(call: Call) -> None:
    """Wait, never past the deadline, and raise the failure that was asked for."""
    delay_s = _delay_ms(call) / 1000
    failure = _failure(call)
    left_s = call.deadline - time.monotonic()
    if failure != "timeout" and delay_s <= left_s:
        time.sleep(delay_s)
        if failure:
            raise _FAILURES[failure]()
        return
    time.sleep(max(0.0, left_s))
    raise TimedOut("The mock did not answer in time, as its knobs asked.")


def _delay_ms(call: Call) -> int:
    found, complain = _knob(call, "mock_delay_ms", default="0")
    delay_ms = _whole(found)
    if not 0 <= delay_ms <= MAX_DELAY_MS:
        raise complain(f"must be a whole number of milliseconds from 0 to {MAX_DELAY_MS}")
    return delay_ms


def _failure(call: Call) -> str:
    found, complain = _knob(call, "mock_fail", default="")
    if found not in ("", "timeout", *_FAILURES):
        raise complain(f"must be one of {', '.join(_FAILURES)}, timeout")
    return found


def _whole(text: str) -> int:
    """A short whole number, or -1 for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS else -1


def _knob(call: Call, name: str, *, default: str) -> tuple[str, Callable[[str], ProviderError]]:
    """A knob's text, the request's before the environment's, and how to complain to whoever set it."""
    if name in call.fitted.extras:
        value = call.fitted.extras[name]
        told = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else repr(value)
        return told, lambda message: InvalidInput(f"{name} {message}.", param=name)
    setting = name.upper()
    value = call.offer.connection.settings.get(setting) or default
    return value, lambda message: OperatorTrouble(f"{setting} {message}.")
