"""From the size a caller wishes (pixels, a ratio, a tier, "auto") to one that an offer makes, every change told."""

from __future__ import annotations

import math
from dataclasses import dataclass

from core import errors
from imagesapi.parameters import RATIO, SIZE
from imagesapi.values import Adjustment, Capabilities, ImageRequest, Offer

DEFAULT_SIZE = "1024x1024"
DEFAULT_TIER = "1K"
# The edge of a square picture of each tier.
TIER_EDGES_PX = {"1K": 1024, "2K": 2048, "4K": 4096}
# Ratios closer than this are the same shape to the eye: rounding to whole steps of pixels does no harm.
_SAME_SHAPE = 0.03

Changes = list[Adjustment]


@dataclass(frozen=True, slots=True)
class Chosen:
    """The size in pixels, or "auto"; for offers that think in ratios also their words for it."""

    size: str
    aspect_ratio: str | None = None
    resolution: str | None = None


@dataclass(frozen=True, slots=True)
class _Wish:
    """A shape without pixels: a ratio of width to height, a tier, or both."""

    parameter: str  # the one the ratio was asked with
    ratio: float | None
    ratio_word: str | None
    tier: str | None


def choose(request: ImageRequest, offer: Offer, changes: Changes) -> Chosen:
    """The size this offer is asked for. Raises errors.InvalidRequest when it makes nothing like it."""
    given = _given(request, offer, changes)
    if given is not None:
        return given
    wish = _wish(request, changes)
    if wish is not None:
        return _of_shape(wish, offer, changes)
    if request.size is None:
        return _absent(request, offer)
    if request.size == "auto":
        return _automatic(offer, changes)
    return _exact(request.size, offer, changes)


def area(size: str) -> int:
    """The pixels of a "WIDTHxHEIGHT"."""
    width, height = _edges(size)
    return width * height


def _edges(size: str) -> tuple[int, int]:
    width, _, height = size.partition("x")
    return int(width), int(height)


def _shape(size: str) -> float:
    width, height = _edges(size)
    return width / height


def _distance(one: float, other: float) -> float:
    """How different two shapes are, the same for wide and tall."""
    return abs(math.log(one / other))


# What the pictures decide


def _given(request: ImageRequest, offer: Offer, changes: Changes) -> Chosen | None:
    """The size where it follows from the first picture: an upscale, or an offer that keeps what it was given."""
    edits = offer.capabilities.edits
    if request.operation != "edit" or not request.images or edits is None:
        return None
    width, height = request.images[0].pixels
    if request.scale_factor is not None and edits.scale_factors:
        return Chosen(f"{width * request.scale_factor}x{height * request.scale_factor}")
    if not edits.keeps_size:
        return None
    size = f"{width}x{height}"
    if request.size not in (None, "auto", size):
        why = f"{offer.model} at {offer.provider} keeps the size of the picture it is given"
        changes.append(Adjustment("size", request.size, size, why))
    return Chosen(size)


def _absent(request: ImageRequest, offer: Offer) -> Chosen:
    """Said outright rather than left to the provider, so that what is held is what can be made. An edit keeps the shape
    of its first picture."""
    if request.operation == "edit" and request.images:
        width, height = request.images[0].pixels
        return _of_shape(_Wish("size", width / height, None, None), offer, [])
    return _default(offer)


def _default(offer: Offer) -> Chosen:
    takes = offer.capabilities
    if takes.size_style == "ratio":
        return _from_table(takes, DEFAULT_TIER, min(takes.ratio_sizes[DEFAULT_TIER], key=_from_square))
    if takes.size_style == "enum" and DEFAULT_SIZE not in takes.sizes:
        return Chosen(_first_size(takes))
    return Chosen(DEFAULT_SIZE)


def _first_size(takes: Capabilities) -> str:
    return next((size for size in takes.sizes if size != "auto"), DEFAULT_SIZE)


def _from_square(word: str) -> float:
    return _distance(_ratio(word), 1)


def _automatic(offer: Offer, changes: Changes) -> Chosen:
    takes = offer.capabilities
    if "auto" in takes.sizes and takes.reports_usage:
        return Chosen("auto")
    used = _default(offer)
    why = f"{offer.provider} does not say which size it chose, so the price could not be proven"
    changes.append(Adjustment("size", "auto", used.size, why))
    return used


# Exact pixels


def _exact(asked: str, offer: Offer, changes: Changes) -> Chosen:
    takes = offer.capabilities
    if takes.size_style == "ratio":
        return _nearest_in_table(asked, offer, changes)
    if takes.size_style == "enum":
        if asked not in takes.sizes:
            allowed = ", ".join(takes.sizes)
            raise errors.InvalidRequest(f"{offer.model} makes {allowed}, and size {asked} was sent.", param="size")
        return Chosen(asked)
    _check_pixels(asked, offer)
    return Chosen(asked)


def _check_pixels(asked: str, offer: Offer) -> None:
    rules = offer.capabilities.size_rules
    if not _fits(*_edges(asked), offer):
        raise errors.InvalidRequest(
            f"{offer.model} takes any WIDTHxHEIGHT with both sides a multiple of {rules.get('step_px', 1)}, at most "
            f"{rules.get('max_edge_px', 16_384)} pixels a side, a ratio of at most {rules.get('max_ratio', 100)}:1 and "
            f"{rules.get('min_pixels', 1)} to {rules.get('max_pixels', 2**31)} pixels in all; {asked} is not one.",
            param="size",
        )


def _fits(width: int, height: int, offer: Offer) -> bool:
    rules = offer.capabilities.size_rules
    step = rules.get("step_px", 1)
    longest, shortest = max(width, height), min(width, height)
    return (
        width % step == 0
        and height % step == 0
        and longest <= rules.get("max_edge_px", 16_384)
        and longest <= rules.get("max_ratio", 100) * shortest
        and rules.get("min_pixels", 1) <= width * height <= rules.get("max_pixels", 2**31)
    )


def _nearest_in_table(asked: str, offer: Offer, changes: Changes) -> Chosen:
    """An offer that thinks in ratios: the very size when it makes it, else the nearest shape in the nearest tier."""
    takes = offer.capabilities
    options = [(tier, word, size) for tier, row in takes.ratio_sizes.items() for word, size in row.items()]
    wanted_px, wanted = area(asked), _shape(asked)
    tier, word, size = min(
        options,
        key=lambda option: (
            option[2] != asked,
            _distance(_shape(option[2]), wanted) > _SAME_SHAPE and _distance(_shape(option[2]), wanted),
            abs(math.log(area(option[2]) / wanted_px)),
        ),
    )
    if size != asked:
        why = f"{offer.model} at {offer.provider} takes a ratio ({word}) and a tier ({tier}), not pixels"
        changes.append(Adjustment("size", asked, size, why))
    return _from_table(takes, tier, word)


def _from_table(takes: Capabilities, tier: str, word: str) -> Chosen:
    return Chosen(takes.ratio_sizes[tier][word], aspect_ratio=word, resolution=tier)


# Ratios and tiers


def _wish(request: ImageRequest, changes: Changes) -> _Wish | None:
    """The shape asked for, if the size is none in pixels. `size` wins, then ratio plus resolution, then each alone."""
    if request.size is not None and not RATIO.fullmatch(request.size):
        for name in ("aspect_ratio", "resolution"):
            asked = getattr(request, name)
            if asked is not None:
                changes.append(Adjustment(name, asked, None, f"'size' was sent too ({request.size}), and it decides"))
        return None
    word, parameter = request.aspect_ratio, "aspect_ratio"
    if request.size is not None:
        if request.aspect_ratio not in (None, request.size):
            why = f"'size' was sent too ({request.size}), and it decides"
            changes.append(Adjustment("aspect_ratio", request.aspect_ratio, None, why))
        word, parameter = request.size, "size"
    if word is None and request.resolution is None:
        return None
    return _Wish(parameter, _ratio(word) if word else None, word, request.resolution)


def _ratio(word: str) -> float:
    width, _, height = word.partition(":")
    return int(width) / int(height)


def _of_shape(wish: _Wish, offer: Offer, changes: Changes) -> Chosen:
    takes = offer.capabilities
    if takes.size_style == "ratio":
        return _shape_in_table(wish, offer, changes)
    if takes.size_style == "enum":
        return _shape_in_list(wish, offer, changes)
    return _shape_in_pixels(wish, offer, changes)


def _shape_in_table(wish: _Wish, offer: Offer, changes: Changes) -> Chosen:
    takes = offer.capabilities
    tier = wish.tier or DEFAULT_TIER
    if tier not in takes.ratio_sizes:
        used = min(takes.ratio_sizes, key=lambda word: abs(TIER_EDGES_PX.get(word, 1024) - TIER_EDGES_PX[tier]))
        why = f"{offer.model} at {offer.provider} makes {', '.join(takes.ratio_sizes)}"
        changes.append(Adjustment("resolution", tier, used, why))
        tier = used
    row = takes.ratio_sizes[tier]
    wanted = wish.ratio or 1
    exact = wish.ratio_word if wish.ratio_word is not None and wish.ratio_word in row else None
    word = exact or min(row, key=lambda one: _distance(_ratio(one), wanted))
    if wish.ratio_word is not None and _distance(_ratio(word), wanted) > _SAME_SHAPE:
        why = f"{offer.model} at {offer.provider} makes {', '.join(row)}"
        changes.append(Adjustment(wish.parameter, wish.ratio_word, word, why))
    return _from_table(takes, tier, word)


def _shape_in_list(wish: _Wish, offer: Offer, changes: Changes) -> Chosen:
    sizes = [size for size in offer.capabilities.sizes if SIZE.fullmatch(size)]
    if not sizes:
        return Chosen(DEFAULT_SIZE)
    wanted, wanted_px = wish.ratio or 1, TIER_EDGES_PX[wish.tier or DEFAULT_TIER] ** 2
    used = min(sizes, key=lambda size: (_distance(_shape(size), wanted), abs(math.log(area(size) / wanted_px))))
    why = f"{offer.model} makes {', '.join(sizes)}"
    if wish.ratio_word is not None and _distance(_shape(used), wanted) > _SAME_SHAPE:
        changes.append(Adjustment(wish.parameter, wish.ratio_word, used, why))
    _tell_tier(wish, used, why, changes)
    return Chosen(used)


def _shape_in_pixels(wish: _Wish, offer: Offer, changes: Changes) -> Chosen:
    """The picture of that shape whose area is the tier's, in the offer's steps and within its rules."""
    rules = offer.capabilities.size_rules
    ratio, step = wish.ratio or 1, max(rules.get("step_px", 1), 1)
    most = rules.get("max_ratio", 100)
    clamped = min(max(ratio, 1 / most), most)
    wanted_px = TIER_EDGES_PX[wish.tier or DEFAULT_TIER] ** 2
    pixels = max(min(wanted_px, rules.get("max_pixels", 2**31)), rules.get("min_pixels", 1))
    height = math.sqrt(pixels / clamped)
    width, longest = height * clamped, rules.get("max_edge_px", 16_384)
    if max(width, height) > longest:
        width, height = width * longest / max(width, height), height * longest / max(width, height)
    size = _stepped(width, height, step, offer)
    why = f"{offer.model} at {offer.provider} takes no such size; this is the nearest"
    if wish.ratio_word is not None and _distance(_shape(size), ratio) > _SAME_SHAPE:
        changes.append(Adjustment(wish.parameter, wish.ratio_word, size, why))
    _tell_tier(wish, size, why, changes)
    return Chosen(size)


def _stepped(width: float, height: float, step: int, offer: Offer) -> str:
    """The nearest allowed pair of steps: rounded, then up or down where a rule was just missed."""
    base_w, base_h = round(width / step), round(height / step)
    options = [
        (w * step, h * step)
        for w in range(max(base_w - 2, 1), base_w + 3)
        for h in range(max(base_h - 2, 1), base_h + 3)
        if _fits(w * step, h * step, offer)
    ]
    if not options:
        raise errors.InvalidRequest(f"{offer.model} makes no picture of this shape.", param="size")
    best = min(
        options,
        key=lambda pair: (
            round(_distance(pair[0] / pair[1], width / height), 3),
            abs(math.log(pair[0] * pair[1] / (width * height))),
        ),
    )
    return f"{best[0]}x{best[1]}"


def _tell_tier(wish: _Wish, used: str, why: str, changes: Changes) -> None:
    """A tier is a class of areas; what falls out of the class asked for is told."""
    if wish.tier is None:
        return
    asked_px = TIER_EDGES_PX[wish.tier] ** 2
    if not asked_px / 2 <= area(used) <= asked_px * 2:
        changes.append(Adjustment("resolution", wish.tier, used, why))
