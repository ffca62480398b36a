"""What a request can cost at most, what it should cost, and what it did cost: integers only, rounded once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace

from core import errors, money
from imagesapi import counting, estimates, tariff
from imagesapi.counting import Counts
from imagesapi.estimates import Basis, Estimate, Item
from imagesapi.tariff import AUTO, PICTURE_METERS, Lines, Shot
from imagesapi.values import Answer, Fitted, InputImage, Offer

# Far above any picture or call: a provider's count beyond it is a fault, not evidence.
MAX_UNITS_MICROS = 1_000_000 * money.MICROS_PER_UNIT
MAX_EDGE_PX = 65_536
# A cost that a provider tells is believed up to this many times what was held for its call. Beyond, something is
# wrong with the number (another unit, another currency), and the list price is charged.
BELIEVED_TIMES = 10
DEFAULT_SIZE = "1024x1024"


def worst_case(offer: Offer, fitted: Fitted, at: dt.datetime) -> Estimate:
    """The most this request can cost here, which is what the hold takes. Raises Unpriced where no bound is known."""
    lines = tariff.lines(offer, at, operation=fitted.operation)
    options = [
        _forecast(offer, lines, fitted, tariff.foreseen_shot(fitted, quality, size), at, basis="worst_case")
        for quality in _possible_qualities(offer, fitted)
        for size in _possible_sizes(offer, lines, quality, fitted)
    ]
    return max(options, key=lambda option: option.total_nanos)


def expected(offer: Offer, fitted: Fitted, at: dt.datetime) -> Estimate:
    """What this request should cost here; `auto` counts as the offer's assumed quality and as 1024x1024."""
    quality = _assumed_quality(offer) if fitted.quality in (None, AUTO) else fitted.quality
    size = DEFAULT_SIZE if fitted.size == AUTO else fitted.size
    lines = tariff.lines(offer, at, operation=fitted.operation)
    return _forecast(offer, lines, fitted, tariff.foreseen_shot(fitted, quality, size), at, basis="expected")


def actual(
    offer: Offer, fitted: Fitted, answer: Answer, at: dt.datetime, delivered: Sequence[tuple[int, int]]
) -> Estimate:
    """What the delivered pictures cost, at the prices valid at `at`, when the call was sent.

    `delivered` holds the real width and height of each. The cost that the provider itself tells comes first where the
    offer says so, then its own counts, then its table by the effective values; what it made but nobody received is
    left out, and so is every call that failed.
    """
    if not delivered:
        return estimates.total([], at, basis="actual", step_nanos=0)
    made = counting.made(fitted, answer, delivered=len(delivered))
    listed = _by_list(offer, fitted, answer, at, delivered, made=made)
    picos = _believed(offer, fitted, answer.reported_cost_picos, at)
    if picos is None:
        return listed
    share_micros = money.MICROS_PER_UNIT * len(delivered) // made
    told = estimates.told_item(picos, share_micros, by=offer.provider_name, on=at.date())
    return replace(estimates.total([[told]], at, basis="actual", step_nanos=0), list_price=listed)


def _by_list(
    offer: Offer, fitted: Fitted, answer: Answer, at: dt.datetime, delivered: Sequence[tuple[int, int]], *, made: int
) -> Estimate:
    lines = tariff.lines(offer, at, operation=fitted.operation)
    shots = [_shot(offer, fitted, answer, pixels) for pixels in delivered]
    slices = counting.slices(answer, delivered=len(shots), max_n=offer.capabilities.max_n)
    usage = counting.plausible(answer.usage)
    calls = [shots] if usage else [shots[start:end] for start, end in slices]
    parts = []
    for call in calls:
        counts = counting.reported(offer, lines, fitted, call, usage, made=made)
        items = _token_items(lines, counts, call[0]) + _picture_items(offer, lines, call, lenient=True)
        inputs = _input_items(offer, lines, fitted.images, call[0])
        parts.append(estimates.merged(items + inputs * (len(slices) if usage else 1)))
    parts = _by_billable_units(offer, answer, parts, made=made, delivered=len(shots))
    return estimates.total(parts, at, basis="actual", step_nanos=_step_nanos(offer))


def _believed(offer: Offer, fitted: Fitted, picos: int | None, at: dt.datetime) -> int | None:
    """The cost that the provider tells, if this offer's provider tells it and it can be true."""
    if picos is None or not offer.pricing.get("reported_cost"):
        return None
    most_picos = BELIEVED_TIMES * worst_case(offer, fitted, at).total_nanos * money.PICOS_PER_NANO
    return picos if 0 < picos <= most_picos else None


def starting_nanos(offer: Offer, at: dt.datetime) -> int | None:
    """The list price of the cheapest picture, as pages show it: published where a provider does, without prompt or
    rounding. None when the offer has no price."""
    operation = "generation" if offer.capabilities.generates else "edit"
    published = [line for line in tariff.current(offer, at, "listed", operation=operation) if line.meter == "image"]
    if published:
        return min(line.unit_price_picos for line in published) // money.PICOS_PER_NANO
    words = offer.capabilities.sizes
    size = DEFAULT_SIZE if DEFAULT_SIZE in words or offer.capabilities.size_style != "enum" or not words else words[0]
    fitted = Fitted(prompt="", n=1, size=size, quality=None, background=None, output_format="png")
    fitted = fitted if offer.capabilities.generates else replace(fitted, operation="edit")
    totals = []
    for quality in _possible_qualities(offer, fitted):
        try:
            lines = tariff.lines(offer, at, operation=operation)
            found = _forecast(offer, lines, fitted, tariff.foreseen_shot(fitted, quality, size), at, basis="expected")
        except errors.Unpriced:
            continue
        totals.append(sum(item.amount_attos for item in found.items if item.meter in PICTURE_METERS))
    return money.divide_half_even(min(totals), estimates.ATTOS_PER_NANO) if totals else None


def _assumed_quality(offer: Offer) -> str | None:
    assumed: str | None = offer.pricing.get("assumed_quality")
    return assumed


def _possible_qualities(offer: Offer, fitted: Fitted) -> tuple[str | None, ...]:
    if fitted.quality not in (None, AUTO):
        return (fitted.quality,)
    return tuple(quality for quality in offer.capabilities.qualities if quality != AUTO) or (None,)


def _possible_sizes(offer: Offer, lines: Lines, quality: str | None, fitted: Fitted) -> list[str]:
    """The sizes that "auto" may turn into; "auto" itself stays where the offer states a ceiling for it."""
    if fitted.size != AUTO:
        return [fitted.size]
    if "image" in lines:
        found = {line.conditions.get("size", AUTO) for line in lines["image"]}
    elif "ceiling_tokens" in offer.pricing:
        found = {AUTO}
    else:
        found = set(offer.pricing.get("output_tokens", {}).get(quality, {}))
    return sorted(found) or [AUTO]


def _shot(offer: Offer, fitted: Fitted, answer: Answer, pixels: tuple[int, int]) -> Shot:
    """What one delivered picture counts as: what the provider says, else what was sent, else what can be seen."""
    quality: str | None
    told_quality, told_size = answer.effective.get("quality"), answer.effective.get("size", "")
    words = offer.capabilities.qualities
    if told_quality in words and told_quality != AUTO:
        quality, unsure = told_quality, False
    elif fitted.quality not in (None, AUTO):
        quality, unsure = fitted.quality, False
    else:
        quality, unsure = _assumed_quality(offer), AUTO in words
    size = told_size if _is_size(told_size) else fitted.size
    size = f"{pixels[0]}x{pixels[1]}" if size == AUTO else size
    return replace(tariff.foreseen_shot(fitted, quality, size), pixels=pixels, estimated=unsure)


def _is_size(text: str) -> bool:
    width, _, height = text.partition("x")
    edges = [int(edge) for edge in (width, height) if edge.isascii() and edge.isdigit() and len(edge) < 6]
    return len(edges) == 2 and min(edges) > 0 and max(edges) <= MAX_EDGE_PX


def _forecast(offer: Offer, lines: Lines, fitted: Fitted, shot: Shot, at: dt.datetime, *, basis: Basis) -> Estimate:
    counting.check_inputs(offer, lines, fitted)
    is_worst = basis == "worst_case"
    count = counting.worst_case if is_worst else counting.likely
    inputs = counting.given(fitted) if is_worst else fitted.images
    parts = []
    for start, end in counting.chunks(fitted.n, offer.capabilities.max_n):
        shots = [shot] * (end - start)
        items = _token_items(lines, count(offer, lines, fitted, shots), shot) + _picture_items(offer, lines, shots)
        items += _input_items(offer, lines, inputs, shot)
        if is_worst:
            items += _input_ceiling(offer, inputs, len(shots), at)
        parts.append(estimates.merged(items))
    return estimates.total(parts, at, basis=basis, step_nanos=_step_nanos(offer))


def _token_items(lines: Lines, counts: Counts, shot: Shot) -> list[Item]:
    found = []
    for meter, (number, estimated) in counts.items():
        line = lines.line_for(meter, shot)
        if line is not None and number:
            found.append(estimates.item(line, number, number, estimated=estimated))
    return found


def _picture_items(offer: Offer, lines: Lines, shots: list[Shot], *, lenient: bool = False) -> list[Item]:
    return [
        _picture_item(offer, lines, meter, shot, lenient=lenient)
        for meter in ("image", "megapixel")
        if meter in lines
        for shot in shots
    ]


def _picture_item(offer: Offer, lines: Lines, meter: str, shot: Shot, *, lenient: bool) -> Item:
    nearest = lenient or offer.pricing.get("size_match") == "nearest_pixels"
    line = lines.line_for(meter, shot, nearest=nearest)
    if line is None:
        raise tariff.unpriced(offer, shot)
    quantity = billable = money.MICROS_PER_UNIT
    if line.meter == "megapixel":
        if shot.pixels is None:
            raise tariff.unpriced(offer, shot)
        quantity, billable = _megapixels(offer, shot.pixels, line.meter)
    return estimates.item(line, quantity, billable, estimated=shot.estimated)


def _input_items(offer: Offer, lines: Lines, images: Sequence[InputImage], shot: Shot) -> list[Item]:
    """What one call pays for the pictures it is given, beyond those that the price of a result includes."""
    extra = images[offer.pricing.get("input_images_included", 0) :]
    found: list[Item] = []
    for meter in tariff.INPUT_METERS if extra else ():
        line = lines.line_for(meter, shot)
        if line is None:
            continue
        for image in extra:
            one = (money.MICROS_PER_UNIT, money.MICROS_PER_UNIT)
            quantity, billable = one if meter == "input_image" else _megapixels(offer, image.pixels, meter)
            found.append(estimates.item(line, quantity, billable, estimated=False))
    return found


def _input_ceiling(offer: Offer, images: Sequence[InputImage], times: int, at: dt.datetime) -> list[Item]:
    """Of an offer whose provider tells the cost and not the price of a given picture: the most one can add."""
    picos = offer.pricing.get("input_image_ceiling_picos")
    if picos is None or not images:
        return []
    return [estimates.ceiling_item(picos, times * len(images) * money.MICROS_PER_UNIT, on=at.date())]


def _megapixels(offer: Offer, pixels: tuple[int, int], meter: str) -> tuple[int, int]:
    """Micro-megapixels of one picture: as they are, and as the provider counts them."""
    per_megapixel = offer.pricing.get("pixels_per_megapixel", 1_000_000)
    quantity = -(-pixels[0] * pixels[1] * money.MICROS_PER_UNIT // per_megapixel)
    rule = offer.pricing.get("quantity_rounding", {}).get(meter)
    return quantity, money.round_up(quantity, rule["step_micros"]) if rule else quantity


def _by_billable_units(
    offer: Offer, answer: Answer, parts: list[list[Item]], *, made: int, delivered: int
) -> list[list[Item]]:
    """The provider's own count of billable units in place of ours, where the offer says which meter it counts."""
    units, unit = answer.billable_units_micros, offer.pricing.get("billable_unit")
    if units is None or not 0 < units <= MAX_UNITS_MICROS:
        return parts
    merged = estimates.merged(item for part in parts for item in part)
    counted = [item for item in merged if item.meter == unit]
    if len(counted) != 1:
        return parts
    told = replace(counted[0], billable_quantity_micros=units * delivered // made, estimated=False)
    return [[told if item is counted[0] else item for item in merged]]


def _step_nanos(offer: Offer) -> int:
    """What the provider rounds each request up to; 0 where it does not."""
    rule = offer.pricing.get("rounding")
    return int(rule["step_nanos"]) if rule else 0
