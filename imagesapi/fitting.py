"""Fit a request to one offer: only values it takes, every change told, or a refusal that says what is allowed."""

from __future__ import annotations

from typing import Any

from core import errors
from imagesapi import sizes
from imagesapi.values import Adjustment, EditCapabilities, Fitted, ImageRequest, Offer

# OpenAI's older words for the same thing.
_QUALITY_WORDS = {"standard": "medium", "hd": "high"}
# What we can make of a picture ourselves.
CONVERTIBLE = ("png", "jpeg", "webp", "avif", "gif")
_TRANSPARENT_FORMATS = ("png", "webp", "avif", "gif")

Changes = list[Adjustment]


def fit(request: ImageRequest, offer: Offer) -> Fitted:
    """The request as this offer can do it. Raises errors.InvalidRequest when it cannot."""
    takes = offer.capabilities
    changes: Changes = []
    _check_operation(request, offer)
    _check_prompt(request, offer)
    size = sizes.choose(request, offer, changes)
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
    stream, partial_images = _stream(request, offer, changes, converts=convert_to is not None)
    return Fitted(
        prompt=request.prompt,
        n=request.n,
        size=size.size,
        aspect_ratio=size.aspect_ratio,
        resolution=size.resolution,
        quality=quality,
        background=background,
        output_format=output_format,
        output_compression=compression if takes.compression and convert_to is None else None,
        moderation=request.moderation if takes.moderation else None,
        style=request.style if request.style in takes.styles else None,
        user=request.safety_identifier or request.user,
        extras=_extras(request, offer, changes),
        convert_to=convert_to,
        operation=request.operation,
        images=request.images,
        mask=request.mask,
        markup=request.markup,
        input_fidelity=_fidelity(request, offer, changes),
        scale_factor=request.scale_factor,
        stream=stream,
        partial_images=partial_images,
        adjustments=tuple(changes),
    )


def _extras(request: ImageRequest, offer: Offer, changes: Changes) -> dict[str, Any]:
    takes = offer.capabilities
    extras = {name: value for name, value in request.extras.items() if name in takes.extras}
    for name in request.extras:
        if name not in extras:
            why = f"{offer.model} at {offer.provider} has no such parameter"
            changes.append(Adjustment(name, _shorten(request.extras[name]), None, why))
    return extras


def _shorten(value: Any) -> Any:
    text = str(value)
    return value if len(text) <= 100 else f"{text[:100]}…"


def _check_operation(request: ImageRequest, offer: Offer) -> None:
    """Whether the offer does such things at all, with as many pictures of such kinds."""
    where = f"{offer.model} at {offer.provider}"
    if request.operation == "generation":
        if not offer.capabilities.generates:
            raise errors.InvalidRequest(
                f"{where} changes pictures and makes none from a prompt alone: POST to images/edits.", param="model"
            )
        return
    edits = offer.capabilities.edits
    if edits is None:
        raise errors.InvalidRequest(
            f"{where} makes pictures and cannot change any. Models that can say so in their capabilities.",
            param="model",
            code="unsupported_operation",
        )
    if len(request.images) > edits.max_images:
        raise errors.InvalidRequest(
            f"{where} takes {edits.max_images} image{'s' if edits.max_images > 1 else ''}, and {len(request.images)} "
            "were sent.",
            param="image",
        )
    for name, possible in (("mask", bool(edits.mask)), ("markup", edits.markup)):
        if getattr(request, name) is not None and not possible:
            raise errors.InvalidRequest(f"{where} takes no {name}.", param=name, code="unsupported_value")
    _check_scale(request, edits, where)


def _check_scale(request: ImageRequest, edits: EditCapabilities, where: str) -> None:
    if request.scale_factor is None:
        if edits.scale_factors:
            factors = ", ".join(map(str, edits.scale_factors))
            raise errors.MissingParameter(f"{where} enlarges: send 'scale_factor' {factors}.", param="scale_factor")
    elif not edits.scale_factors:
        raise errors.InvalidRequest(f"{where} does not enlarge pictures.", param="scale_factor")
    elif request.scale_factor not in edits.scale_factors:
        factors = ", ".join(map(str, edits.scale_factors))
        raise errors.InvalidRequest(
            f"{where} enlarges by {factors}, and {request.scale_factor} was sent.", param="scale_factor"
        )


def _check_prompt(request: ImageRequest, offer: Offer) -> None:
    most = offer.capabilities.prompt_max_chars
    if len(request.prompt) > most:
        raise errors.InvalidRequest(
            f"'prompt' has {len(request.prompt)} characters; {offer.model} takes {most}.",
            param="prompt",
            code="string_above_max_length",
        )


def _fidelity(request: ImageRequest, offer: Offer, changes: Changes) -> str | None:
    asked, edits = request.input_fidelity, offer.capabilities.edits
    if asked is None or edits is None:
        return None
    if asked in edits.input_fidelities:
        return asked
    changes.append(Adjustment("input_fidelity", asked, None, f"{offer.model} at {offer.provider} has no such choice"))
    return None


def _quality(request: ImageRequest, offer: Offer, changes: Changes) -> str | None:
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


def _formats(request: ImageRequest, offer: Offer, changes: Changes) -> tuple[str, str | None]:
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
        if output_format not in _TRANSPARENT_FORMATS:
            raise errors.InvalidRequest(
                "A transparent background needs 'output_format' png or webp, or avif or gif.", param="background"
            )
    # Without a choice at the provider, pictures are opaque anyway.
    return asked if asked in offer.capabilities.backgrounds else None


def _stream(request: ImageRequest, offer: Offer, changes: Changes, *, converts: bool) -> tuple[bool, int]:
    """Whether the provider itself streams, and how many unfinished pictures it sends of each."""
    takes = offer.capabilities
    native = request.stream and takes.streaming and not converts
    possible = min(request.partial_images, takes.partial_images_max) if native else 0
    if possible < request.partial_images:
        why = f"{offer.model} at {offer.provider} shows at most {possible} unfinished pictures"
        changes.append(Adjustment("partial_images", request.partial_images, possible, why))
    return native, possible
