"""Which of an offer's dated price lines holds: at a moment, for an operation, for one picture."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass

from core import errors
from imagesapi.values import Fitted, Offer, PriceLine

AUTO = "auto"
PICTURE_METERS = ("image", "megapixel", "image_output_token")
INPUT_METERS = ("input_image", "input_megapixel")

# Of each kind: what is kept of offers and of their shots, far more than a catalogue has.
_OFFERS_KEPT = 2_000
_SHOTS_KEPT = 1_000
_FOREVER = dt.datetime.max.replace(tzinfo=dt.UTC)


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


class Lines:
    """The billed prices of one offer for one operation, by meter, from one change of a price to the next."""

    __slots__ = ("_by_meter", "_lines", "_prices", "_since", "_until")

    def __init__(self, offer: Offer, at: dt.datetime, *, operation: str) -> None:
        self._prices = offer.prices
        changes = [line.valid_from for line in offer.prices]
        self._since = max((change for change in changes if change <= at), default=at)
        self._until = min((change for change in changes if change > at), default=_FOREVER)
        self._by_meter: dict[str, list[PriceLine]] = {}
        for line in current(offer, at, "billed", operation=operation):
            self._by_meter.setdefault(line.meter, []).append(line)
        self._lines: dict[tuple[str, Shot, bool], PriceLine | None] = {}

    def hold(self, offer: Offer, at: dt.datetime) -> bool:
        """Whether they are this offer's, at this moment."""
        return self._prices is offer.prices and self._since <= at < self._until

    def __contains__(self, meter: str) -> bool:
        return meter in self._by_meter

    def __getitem__(self, meter: str) -> list[PriceLine]:
        return self._by_meter[meter]

    def line_for(self, meter: str, shot: Shot, *, nearest: bool = False) -> PriceLine | None:
        """The price of a picture, or of a token for it, by this meter; None where nothing fits."""
        priced = self._by_meter.get(meter)
        if priced is None:
            return None
        key = (meter, shot, nearest)
        try:
            return self._lines[key]
        except KeyError:
            found = _line_for(priced, shot, nearest=nearest)
        if len(self._lines) >= _SHOTS_KEPT:
            self._lines.clear()
        self._lines[key] = found
        return found


# By the offer's number and the operation. An offer read anew, or given other prices, has another tuple of them.
_kept: dict[tuple[int, str], Lines] = {}


def lines(offer: Offer, at: dt.datetime, *, operation: str) -> Lines:
    """The billed prices by meter. Raises Unpriced when none of them is for a picture."""
    key = (offer.id, operation)
    found = _kept.get(key)
    if found is None or not found.hold(offer, at):
        if len(_kept) >= _OFFERS_KEPT:
            _kept.clear()
        found = _kept[key] = Lines(offer, at, operation=operation)
    if not any(meter in found for meter in PICTURE_METERS):
        raise errors.Unpriced(f"{offer.provider} has no price for {offer.model}, so it is refused.", param="model")
    return found


def _line_for(priced: list[PriceLine], shot: Shot, *, nearest: bool) -> PriceLine | None:
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
