"""Fit a request to one offer: only values it takes, every change told, or a refusal that says what is allowed."""

from __future__ import annotations

from typing import Any

from core import errors
from imagesapi.inputs import SIZE
from imagesapi.values import Adjustment, Capabilities, Fitted, ImageRequest, Offer

DEFAULT_SIZE = "1024x1024"
# OpenAI's older words for the same thing.
_QUALITY_WORDS = {"standard": "medium", "hd": "high"}
# What we can make of a picture ourselves.
CONVERTIBLE = ("png", "jpeg", "webp")


def fit(request: ImageRequest, offer: Offer) -> Fitted:
    """The request as this offer can do it. Raises errors.InvalidRequest when it cannot."""
    takes = offer.capabilities
    changes: list[Adjustment] = []
    _check_prompt(request, offer)
    if request.n > takes.max_n:
        raise errors.InvalidRequest(f"{offer.model} at {offer.provider} makes at most {takes.max_n} images a request, "
                                    f"and n is {request.n}.", param="n")  # fmt: skip
    size = _size(request, offer, changes)
    quality = _quality(request, offer, changes)
    output_format, convert_to = _formats(request, offer, changes)
    background = _background(request, offer, output_format=convert_to or output_format)
    compression = request.output_compression
    if compression is not None and not takes.compression:
        convert_to = convert_to or request.output_format
    if request.moderation == "low" and not takes.moderation:
        changes.append(Adjustment("moderation", "low", None, f"{offer.provider} has one level of moderation"))
    if request.style is not None and request.style not in takes.styles:
        changes.append(Adjustment("style", request.style, None, f"{offer.model} has no such style"))
    extras = {name: value for name, value in request.extras.items() if name in takes.extras}
    for name in request.extras:
        if name not in extras:
            why = f"{offer.model} at {offer.provider} has no such parameter"
            changes.append(Adjustment(name, _shorten(request.extras[name]), None, why))
    return Fitted(
        prompt=request.prompt,
        n=request.n,
        size=size,
        quality=quality,
        background=background,
        output_format=output_format,
        output_compression=compression if takes.compression and convert_to is None else None,
        moderation=request.moderation if takes.moderation else None,
        style=request.style if request.style in takes.styles else None,
        user=request.safety_identifier or request.user,
        extras=extras,
        convert_to=convert_to,
        adjustments=tuple(changes),
    )


def _shorten(value: Any) -> Any:
    text = str(value)
    return value if len(text) <= 100 else f"{text[:100]}…"


def _check_prompt(request: ImageRequest, offer: Offer) -> None:
    most = offer.capabilities.prompt_max_chars
    if len(request.prompt) > most:
        raise errors.InvalidRequest(
            f"'prompt' has {len(request.prompt)} characters; {offer.model} takes {most}.",
            param="prompt",
            code="string_above_max_length",
        )


def _size(request: ImageRequest, offer: Offer, changes: list[Adjustment]) -> str:
    takes = offer.capabilities
    asked = request.size
    if asked is None:
        # Said outright rather than left to the provider, so that what is held is what can be made.
        return DEFAULT_SIZE if takes.size_style != "enum" or DEFAULT_SIZE in takes.sizes else _first_size(takes)
    if asked == "auto":
        if "auto" in takes.sizes and takes.reports_usage:
            return asked
        why = f"{offer.provider} does not say which size it chose, so the price could not be proven"
        used = DEFAULT_SIZE if takes.size_style != "enum" or DEFAULT_SIZE in takes.sizes else _first_size(takes)
        changes.append(Adjustment("size", asked, used, why))
        return used
    if takes.size_style == "enum":
        if asked not in takes.sizes:
            allowed = ", ".join(takes.sizes)
            raise errors.InvalidRequest(f"{offer.model} makes {allowed}, and size {asked} was sent.", param="size")
        return asked
    _check_pixels(asked, offer)
    return asked


def _first_size(takes: Capabilities) -> str:
    return next(size for size in takes.sizes if size != "auto")


def _check_pixels(asked: str, offer: Offer) -> None:
    rules = offer.capabilities.size_rules
    match = SIZE.fullmatch(asked)
    if match is None:
        raise errors.InvalidRequest("'size' must be WIDTHxHEIGHT.", param="size")
    width, height = int(match[1]), int(match[2])
    step, most_edge = rules.get("step_px", 1), rules.get("max_edge_px", 16_384)
    ratio, fewest, most = rules.get("max_ratio", 100), rules.get("min_pixels", 1), rules.get("max_pixels", 2**31)
    fits = (
        width % step == 0
        and height % step == 0
        and max(width, height) <= most_edge
        and max(width, height) <= ratio * min(width, height)
        and fewest <= width * height <= most
    )
    if not fits:
        raise errors.InvalidRequest(
            f"{offer.model} takes any WIDTHxHEIGHT with both sides a multiple of {step}, at most {most_edge} pixels a "
            f"side, a ratio of at most {ratio}:1 and {fewest} to {most} pixels in all; {asked} is not one.",
            param="size",
        )


def _quality(request: ImageRequest, offer: Offer, changes: list[Adjustment]) -> str | None:
    takes = offer.capabilities
    asked = request.quality
    if not takes.qualities:
        if asked not in (None, "auto"):
            changes.append(Adjustment("quality", asked, None, f"{offer.model} has one quality"))
        return None
    if asked in (None, "auto"):
        if "auto" in takes.qualities and takes.reports_usage:
            return "auto"
        used = "medium" if "medium" in takes.qualities else takes.qualities[0]
        if takes.reports_usage:
            why = f"{offer.model} at {offer.provider} has no automatic quality"
        else:
            why = f"{offer.provider} does not say which quality it chose, so the price could not be proven"
        changes.append(Adjustment("quality", asked, used, why))
        return used
    if asked in takes.qualities:
        return asked
    word = _QUALITY_WORDS.get(asked or "")
    if word in takes.qualities:
        changes.append(Adjustment("quality", asked, word, f"{offer.model} calls it {word}"))
        return word
    allowed = ", ".join(takes.qualities)
    raise errors.InvalidRequest(f"{offer.model} takes quality {allowed}, and {asked!r} was sent.", param="quality")


def _formats(request: ImageRequest, offer: Offer, changes: list[Adjustment]) -> tuple[str, str | None]:
    """What the provider is asked for, and what we make of it when it cannot make what the caller wants."""
    makes = offer.capabilities.output_formats or ("png",)
    wanted = request.output_format or ("png" if "png" in makes else makes[0])
    if wanted in makes:
        return wanted, None
    source = "png" if "png" in makes else makes[0]
    changes.append(Adjustment("output_format", wanted, wanted, f"{offer.provider} makes {source}; converted here"))
    return source, wanted


def _background(request: ImageRequest, offer: Offer, *, output_format: str) -> str | None:
    asked = request.background
    if asked == "transparent":
        if "transparent" not in offer.capabilities.backgrounds:
            raise errors.InvalidRequest(
                f"{offer.model} at {offer.provider} makes no transparent background.", param="background"
            )
        if output_format not in ("png", "webp"):
            raise errors.InvalidRequest(
                "A transparent background needs 'output_format' png or webp.", param="background"
            )
    # Without a choice at the provider, pictures are opaque anyway.
    return asked if asked in offer.capabilities.backgrounds else None
