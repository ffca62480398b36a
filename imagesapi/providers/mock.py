"""The offline provider: free, deterministic pictures, on request slow, failing or refusing; it stands in for others."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pybase64
from PIL import Image

from imagesapi import tokens
from imagesapi.providers import mock_edits, mock_painting
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    Cancelled,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    Setting,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Fitted, Offer, Partial, Picture, Usage

SETTINGS = (Setting(name="MOCK_DELAY_MS", default="0"), Setting(name="MOCK_FAIL"))

MAX_DELAY_MS = 120_000
MAX_EDGE_PX = 4096
MAX_ENLARGED_PIXELS = 64_000_000
_MAX_DIGITS = 9
_LOOK_AROUND_S = 0.25
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
        "input_fidelity": fitted.input_fidelity,
        "scale_factor": fitted.scale_factor,
        "stream": fitted.stream or None,
        "partial_images": fitted.partial_images or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def run(call: Call) -> Answer:
    """Wait and fail as the knobs say, else paint; one that streams shows unfinished pictures meanwhile."""
    delay_s, failure, started = _delay_ms(call) / 1000, _failure(call), time.monotonic()
    effective = _effective(call)
    images: list[Image.Image] = []
    if call.on_partial is not None and call.fitted.partial_images:
        images = _images(call, effective)
        _show(call, images, effective, until=started + delay_s)
    _misbehave(call, until=started + delay_s, failure=failure)
    pictures = [Picture(data=_file(call, image, effective)) for image in images or _images(call, effective)]
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
        "size": _size(call),
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


def _size(call: Call) -> str:
    """The size of the result; of an edit without one, the size of its first picture."""
    fitted = call.fitted
    if fitted.scale_factor is not None:
        width, height = (edge * fitted.scale_factor for edge in fitted.images[0].pixels)
        if width * height > MAX_ENLARGED_PIXELS:
            message = f"The mock enlarges up to {MAX_ENLARGED_PIXELS} pixels, and this makes {width}x{height}."
            raise InvalidInput(message, param="scale_factor")
        return f"{width}x{height}"
    if fitted.size != "auto":
        return fitted.size
    if fitted.images and max(fitted.images[0].pixels) <= MAX_EDGE_PX:
        width, height = fitted.images[0].pixels
        return f"{width}x{height}"
    return DEFAULT_SIZE


def _images(call: Call, effective: Mapping[str, str]) -> list[Image.Image]:
    return [_image(call, effective, variation) for variation in range(call.fitted.n)]


def _image(call: Call, effective: Mapping[str, str], variation: int) -> Image.Image:
    fitted, able, transparent = call.fitted, call.offer.capabilities, effective["background"] == "transparent"
    detail = mock_painting.DETAIL_OF_QUALITY.get(effective.get("quality", DEFAULT_QUALITY), 2)
    seed = f"{call.offer.model}/{fitted.extras.get('seed', '')}"
    if fitted.scale_factor is not None:
        return mock_edits.enlarge(fitted.images[0], by=fitted.scale_factor, transparent=transparent)
    if fitted.operation == "edit":
        return mock_edits.repaint(
            fitted.images,
            fitted.prompt,
            seed=seed,
            variation=variation,
            size=_pixels(effective["size"]),
            detail=detail,
            style=fitted.style,
            fidelity=fitted.input_fidelity,
            mask=fitted.mask,
            mask_is_white=able.edits is not None and able.edits.mask == "white",
            markup=fitted.markup,
            transparent=transparent,
        )
    return mock_painting.paint(
        fitted.prompt,
        seed=seed,
        variation=variation,
        size=_pixels(effective["size"]),
        detail=detail,
        style=fitted.style,
        cut_out=transparent,
    )


def _file(call: Call, image: Image.Image, effective: Mapping[str, str]) -> bytes:
    compression = call.fitted.output_compression
    return mock_painting.encode(image, output_format=effective["output_format"], compression=compression)


def _show(call: Call, images: list[Image.Image], effective: Mapping[str, str], *, until: float) -> None:
    """Unfinished pictures, spread evenly over what is left of the delay."""
    most, begun = call.fitted.partial_images, time.monotonic()
    steps = [(image, index) for image in images for index in range(most)]
    for number, (image, index) in enumerate(steps, start=1):
        _wait(call, until=begun + (until - begun) * number / (len(steps) + 1))
        file = _file(call, mock_edits.unfinished(image, done=(index + 1) / (most + 1)), effective)
        if call.on_partial is not None:
            call.on_partial(Partial(index=index, b64=pybase64.b64encode_as_string(file), effective=effective))


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
    fitted, pricing = call.fitted, call.offer.pricing
    each += tokens.partial_tokens(pricing, fitted.partial_images if call.on_partial is not None else 0)
    read = [tokens.input_tokens(pricing, image.pixels, fidelity=fitted.input_fidelity) for image in fitted.images]
    return Usage(
        text_input_tokens=tokens.prompt_tokens(fitted.prompt),
        image_input_tokens=sum(count or 0 for count in read),
        image_output_tokens=fitted.n * each,
    )


def _misbehave(call: Call, *, until: float, failure: str) -> None:
    """Wait, never past the deadline, and raise the failure that was asked for."""
    if failure == "timeout" or until > call.deadline:
        _wait(call, until=call.deadline)
        raise TimedOut("The mock did not answer in time, as its knobs asked.")
    _wait(call, until=until)
    if failure:
        raise _FAILURES[failure]()


def _wait(call: Call, *, until: float) -> None:
    """Sleep, but not past the deadline nor after the caller has cancelled."""
    until = min(until, call.deadline)
    while (left_s := until - time.monotonic()) > 0:
        if call.cancelled():
            raise Cancelled("The mock stopped, as the caller asked.")
        time.sleep(min(left_s, _LOOK_AROUND_S))


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
