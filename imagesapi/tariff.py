"""Which of an offer's dated price lines holds: at a moment, for an operation, for one picture."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core import errors
from imagesapi.values import Fitted, Offer, PriceLine

AUTO = "auto"
PICTURE_METERS = ("image", "megapixel", "image_output_token")
INPUT_METERS = ("input_image", "input_megapixel")

Lines = Mapping[str, list[PriceLine]]


@dataclass(frozen=True, slots=True)
class Shot:
    """One picture as far as its price goes."""

    quality: str | None
    size: str
    pixels: tuple[int, int] | None
    operation: str = "generation"
    resolution: str = "1K"
    estimated: bool = False


def foreseen_shot(fitted: Fitted, quality: str | None, size: str) -> Shot:
    """A picture before it is made."""
    width, _, height = size.partition("x")
    pixels = (int(width), int(height)) if height else None
    return Shot(quality, size, pixels, operation=fitted.operation, resolution=fitted.resolution or "1K")


def current(offer: Offer, at: dt.datetime, basis: str, *, operation: str) -> Iterable[PriceLine]:
    """Of each price the version valid at `at`, as far as it is for this operation."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], PriceLine] = {}
    for line in offer.prices:
        if line.basis != basis or line.valid_from > at or line.conditions.get("operation", operation) != operation:
            continue
        key = (line.meter, frozenset(line.conditions.items()))
        if key not in found or found[key].valid_from < line.valid_from:
            found[key] = line
    return found.values()


def lines(offer: Offer, at: dt.datetime, *, operation: str) -> Lines:
    """The billed prices by meter. Raises Unpriced when none of them is for a picture."""
    found: dict[str, list[PriceLine]] = {}
    for line in current(offer, at, "billed", operation=operation):
        found.setdefault(line.meter, []).append(line)
    if not any(meter in found for meter in PICTURE_METERS):
        raise errors.Unpriced(f"{offer.provider} has no price for {offer.model}, so it is refused.", param="model")
    return found


def line_for(priced: list[PriceLine], shot: Shot, *, nearest: bool = False) -> PriceLine | None:
    """The price with the most conditions that all hold; with `nearest` a size that is not listed takes that of the
    nearest pixel count."""
    matching = [line for line in priced if _holds(line, shot)]
    exact = [line for line in matching if line.conditions.get("size", shot.size) == shot.size]
    if exact:
        return max(exact, key=lambda line: len(line.conditions))
    if not nearest or not matching or shot.size == AUTO:
        return None
    wanted = area(shot.size)
    return min(
        matching,
        key=lambda line: (
            abs(area(line.conditions["size"]) - wanted),
            -len(line.conditions),
            -line.unit_price_picos,
        ),
    )


def _holds(line: PriceLine, shot: Shot) -> bool:
    said = line.conditions
    return (
        said.get("operation", shot.operation) == shot.operation
        and said.get("resolution", shot.resolution) == shot.resolution
        and said.get("quality", shot.quality) == shot.quality
    )


def area(size: str) -> int:
    width, _, height = size.partition("x")
    return int(width) * int(height)


def unpriced(offer: Offer, shot: Shot) -> errors.Unpriced:
    return errors.Unpriced(
        f"{offer.provider} has no price for {offer.model} at quality {shot.quality or AUTO} and size {shot.size}, "
        "so it is refused.",
        param="size",
    )


def unpriced_inputs(offer: Offer) -> errors.Unpriced:
    return errors.Unpriced(
        f"{offer.provider} states no price for the pictures given to {offer.model} here, so it is refused.",
        param="image",
    )
