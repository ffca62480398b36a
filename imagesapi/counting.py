"""How many tokens one call takes: the most there can be before it is made, what is likely, and what was reported."""

from __future__ import annotations

from collections.abc import Mapping

from core import money
from imagesapi import tariff, tokens
from imagesapi.tariff import Lines, Shot
from imagesapi.values import Answer, Fitted, InputImage, Offer, Usage

# Far above any picture or call: a provider's count beyond it is a fault, not evidence.
MAX_TOKENS = 1_000_000_000

Counts = Mapping[str, tuple[int, bool]]  # token meter -> micro-tokens, and whether they are estimated


def given(fitted: Fitted) -> tuple[InputImage, ...]:
    """Everything drawn that goes to the provider. Whether a mask counts as a picture no provider says: holds count
    it."""
    return fitted.images + tuple(image for image in (fitted.mask, fitted.markup) if image is not None)


def check_inputs(offer: Offer, lines: Lines, fitted: Fitted) -> None:
    """Raises Unpriced when nothing says what the given pictures cost at most."""
    if not fitted.images or offer.pricing.get("free"):
        return
    if "image_input_token" in lines:
        priced = tokens.input_tokens_ceiling(offer.pricing, fidelity=fitted.input_fidelity) is not None
    elif "image_output_token" in lines:
        priced = False
    else:
        included = offer.pricing.get("input_images_included", len(fitted.images))
        priced = len(fitted.images) <= included or any(meter in lines for meter in tariff.INPUT_METERS)
    if not priced:
        raise tariff.unpriced_inputs(offer)


def worst_case(offer: Offer, lines: Lines, fitted: Fitted, shots: list[Shot]) -> Counts:
    """The most tokens one call can take. A provider may read prompt and pictures anew for each picture it makes."""
    pictures = given(fitted)
    prompt = (
        tokens.prompt_tokens_ceiling(fitted.prompt)
        + offer.pricing.get("prompt_overhead_tokens", 0)
        + len(pictures) * tokens.INPUT_OVERHEAD_TOKENS
    )
    each = tokens.input_tokens_ceiling(offer.pricing, fidelity=fitted.input_fidelity) or 0
    found = {
        "text_input_token": len(shots) * prompt,
        "text_output_token": len(shots) * offer.pricing.get("text_output_ceiling_tokens", 0),
        "image_input_token": len(shots) * len(pictures) * each,
    }
    if "image_output_token" in lines:
        partials = tokens.partial_tokens(offer.pricing, fitted.partial_images)
        found["image_output_token"] = len(shots) * (_ceiling_tokens(offer, shots[0]) + partials)
    return _estimated(found)


def likely(offer: Offer, lines: Lines, fitted: Fitted, shots: list[Shot], *, lenient: bool = False) -> Counts:
    """The tokens one call should take; `lenient` for pictures already made, which must have some count."""
    found = _likely_inputs(offer, fitted, shots)
    if "image_output_token" in lines:
        partials = tokens.partial_tokens(offer.pricing, fitted.partial_images)
        found["image_output_token"] = sum(_likely_tokens(offer, shot, lenient=lenient) + partials for shot in shots)
    return _estimated(found)


def _likely_inputs(offer: Offer, fitted: Fitted, shots: list[Shot]) -> dict[str, int]:
    times = len(shots) if offer.pricing.get("inputs_per_picture") else 1
    pictures = [
        tokens.input_tokens(offer.pricing, image.pixels, fidelity=fitted.input_fidelity) or 0 for image in fitted.images
    ]
    return {
        "text_input_token": times * tokens.prompt_tokens(fitted.prompt),
        "image_input_token": times * sum(pictures),
    }


def _estimated(numbers: Mapping[str, int]) -> dict[str, tuple[int, bool]]:
    return {meter: (number * money.MICROS_PER_UNIT, True) for meter, number in numbers.items()}


def reported(
    offer: Offer, lines: Lines, fitted: Fitted, shots: list[Shot], usage: Usage | None, *, made: int
) -> Counts:
    """Token counts of what was made: as reported, else estimated; output counts only for delivered pictures."""
    if usage is None:
        return likely(offer, lines, fitted, shots, lenient=True)
    one = money.MICROS_PER_UNIT
    if usage.image_output_tokens > 0:
        pictures = (usage.image_output_tokens * one * len(shots) // made, False)
    elif "image_output_token" in lines:
        pictures = likely(offer, lines, fitted, shots, lenient=True)["image_output_token"]
    else:
        pictures = (0, False)
    return {
        "text_input_token": (usage.text_input_tokens * one, False),
        "image_input_token": (usage.image_input_tokens * one, False),
        "image_output_token": pictures,
        "text_output_token": (usage.text_output_tokens * one * len(shots) // made, False),
    }


def plausible(usage: Usage | None) -> Usage | None:
    """The usage, unless a count in it cannot be one."""
    if usage is None:
        return None
    counts = (usage.text_input_tokens, usage.image_input_tokens, usage.image_output_tokens, usage.text_output_tokens)
    return usage if all(0 <= count <= MAX_TOKENS for count in counts) else None


def calls(answer: Answer) -> list[tuple[int, int]]:
    """Of each call that succeeded: the pictures it delivered, and how many its own counts are for. Empty when the
    answer does not tell."""
    told = answer.evidence.get("calls")
    if not isinstance(told, list):
        return []
    found = []
    for entry in told:
        pictures = entry.get("pictures") if isinstance(entry, Mapping) else None
        if not isinstance(pictures, int):
            return []
        received = entry.get("pictures_received", 0)
        found.append((pictures, max(pictures, received if isinstance(received, int) else 0)))
    return found


def slices(answer: Answer, *, delivered: int, max_n: int) -> list[tuple[int, int]]:
    """The delivered pictures by the call that made them: prompts and roundings count once a call."""
    told = calls(answer)
    if sum(pictures for pictures, _ in told) < delivered:
        return chunks(delivered, max_n)
    found, start = [], 0
    for pictures, _ in told:
        end = min(start + pictures, delivered)
        if end > start:
            found.append((start, end))
        start = end
    return found


def chunks(n: int, max_n: int) -> list[tuple[int, int]]:
    """The slices of `n` pictures that one call each can make."""
    return [(start, min(start + max_n, n)) for start in range(0, n, max_n)]


def made(fitted: Fitted, answer: Answer, *, delivered: int) -> int:
    """The pictures that the provider's own counts are for, blocked and unusable ones among them."""
    received = answer.evidence.get("pictures_received")
    told = received if isinstance(received, int) else sum(counted for _, counted in calls(answer))
    return max(len(answer.pictures), delivered, min(told, fitted.n))


def _ceiling_tokens(offer: Offer, shot: Shot) -> int:
    """The most output tokens one picture takes: its table or formula where that is firm, else the stated ceiling."""
    known = None
    if shot.size != tariff.AUTO:
        known = tokens.output_tokens(offer.pricing, quality=shot.quality or "", size=shot.size)
    if known is not None and not offer.pricing.get("output_tokens_estimated"):
        return known
    stated = offer.pricing.get("ceiling_tokens")
    if isinstance(stated, Mapping):
        stated = stated.get(shot.quality)
    if stated is None:
        raise tariff.unpriced(offer, shot)
    return max(int(stated), known or 0)


def _likely_tokens(offer: Offer, shot: Shot, *, lenient: bool) -> int:
    quality = shot.quality or ""
    known = tokens.output_tokens(offer.pricing, quality=quality, size=shot.size)
    if known is None and lenient:
        listed = offer.pricing.get("output_tokens", {}).get(quality, {})
        if listed:
            known = listed[min(listed, key=lambda size: abs(tariff.area(size) - tariff.area(shot.size)))]
    return int(known) if known is not None else _ceiling_tokens(offer, shot)
