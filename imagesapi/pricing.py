"""What a request can cost at most, what it should cost, and what it did cost: integers only, rounded once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from core import errors, money
from imagesapi import estimates, tokens
from imagesapi.estimates import Basis, Estimate, Item
from imagesapi.values import Answer, Fitted, Offer, PriceLine, Usage

# Far above any picture or call: a provider's count beyond it is a fault, not evidence.
MAX_TOKENS = 1_000_000_000
MAX_UNITS_MICROS = 1_000_000 * money.MICROS_PER_UNIT
MAX_EDGE_PX = 65_536
AUTO = "auto"
DEFAULT_SIZE = "1024x1024"
PICTURE_METERS = ("image", "megapixel", "image_output_token")

Lines = Mapping[str, list[PriceLine]]
Counts = Mapping[str, tuple[int, bool]]  # token meter -> micro-tokens, and whether they are estimated


@dataclass(frozen=True, slots=True)
class _Shot:
    """One picture as far as its price goes."""

    quality: str | None
    size: str
    pixels: tuple[int, int] | None
    estimated: bool = False


def worst_case(offer: Offer, fitted: Fitted, at: dt.datetime) -> Estimate:
    """The most this request can cost here, which is what the hold takes. Raises Unpriced where no bound is known."""
    lines = _lines(offer, at)
    options = [
        _forecast(offer, lines, fitted, _foreseen_shot(quality, size), at, basis="worst_case")
        for quality in _possible_qualities(offer, fitted)
        for size in _possible_sizes(offer, lines, quality, fitted)
    ]
    return max(options, key=lambda option: option.total_nanos)


def expected(offer: Offer, fitted: Fitted, at: dt.datetime) -> Estimate:
    """What this request should cost here; `auto` counts as the offer's assumed quality and as 1024x1024."""
    quality = _assumed_quality(offer) if fitted.quality in (None, AUTO) else fitted.quality
    size = DEFAULT_SIZE if fitted.size == AUTO else fitted.size
    return _forecast(offer, _lines(offer, at), fitted, _foreseen_shot(quality, size), at, basis="expected")


def actual(
    offer: Offer, fitted: Fitted, answer: Answer, at: dt.datetime, delivered: Sequence[tuple[int, int]]
) -> Estimate:
    """What the delivered pictures cost, at the prices valid at `at`, when the call was sent.

    `delivered` holds the real width and height of each. The provider's own count comes first, then its table by the
    effective values; what the provider made but nobody received is left out.
    """
    if not delivered:
        return estimates.total([], at, basis="actual", step_nanos=0)
    lines = _lines(offer, at)
    shots = [_shot(offer, fitted, answer, pixels) for pixels in delivered]
    made = _made(fitted, answer, delivered=len(delivered))
    usage = _plausible(answer.usage)
    calls = [shots] if usage else [shots[start:end] for start, end in _calls(len(shots), offer.capabilities.max_n)]
    parts = [
        _items(offer, lines, _reported(offer, lines, fitted, call, usage, made=made), call, lenient=True)
        for call in calls
    ]
    parts = _by_billable_units(offer, answer, parts, made=made, delivered=len(shots))
    return estimates.total(parts, at, basis="actual", step_nanos=_step_nanos(offer))


def starting_nanos(offer: Offer, at: dt.datetime) -> int | None:
    """The list price of the cheapest picture, as pages show it: published where a provider does, without prompt or
    rounding. None when the offer has no price."""
    published = [line for line in _current(offer, at, "listed") if line.meter == "image"]
    if published:
        return min(line.unit_price_picos for line in published) // money.PICOS_PER_NANO
    words = offer.capabilities.sizes
    size = DEFAULT_SIZE if DEFAULT_SIZE in words or offer.capabilities.size_style != "enum" else words[0]
    fitted = Fitted(prompt="", n=1, size=size, quality=None, background=None, output_format="png")
    totals = []
    for quality in _possible_qualities(offer, fitted):
        try:
            found = _forecast(offer, _lines(offer, at), fitted, _foreseen_shot(quality, size), at, basis="expected")
        except errors.Unpriced:
            continue
        totals.append(sum(item.amount_attos for item in found.items if item.meter in PICTURE_METERS))
    return money.divide_half_even(min(totals), estimates.ATTOS_PER_NANO) if totals else None


def _current(offer: Offer, at: dt.datetime, basis: str) -> Iterable[PriceLine]:
    """Of each price the version valid at `at`."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], PriceLine] = {}
    for line in offer.prices:
        if line.basis != basis or line.valid_from > at:
            continue
        key = (line.meter, frozenset(line.conditions.items()))
        if key not in found or found[key].valid_from < line.valid_from:
            found[key] = line
    return found.values()


def _lines(offer: Offer, at: dt.datetime) -> Lines:
    """The billed prices by meter. Raises Unpriced when none of them is for a picture."""
    found: dict[str, list[PriceLine]] = {}
    for line in _current(offer, at, "billed"):
        found.setdefault(line.meter, []).append(line)
    if not any(meter in found for meter in PICTURE_METERS):
        raise errors.Unpriced(f"{offer.provider} has no price for {offer.model}, so it is refused.", param="model")
    return found


def _line_for(lines: list[PriceLine], shot: _Shot, *, nearest: bool) -> PriceLine | None:
    """The price of one picture; with `nearest` a size that is not listed takes that of the nearest pixel count."""
    matching = [line for line in lines if line.conditions.get("quality", shot.quality) == shot.quality]
    exact = [line for line in matching if line.conditions.get("size", shot.size) == shot.size]
    if exact:
        return max(exact, key=lambda line: len(line.conditions))
    if not nearest or not matching or shot.size == AUTO:
        return None
    wanted = _area(shot.size)
    return min(matching, key=lambda line: (abs(_area(line.conditions["size"]) - wanted), -line.unit_price_picos))


def _area(size: str) -> int:
    width, _, height = size.partition("x")
    return int(width) * int(height)


def _unpriced(offer: Offer, shot: _Shot) -> errors.Unpriced:
    return errors.Unpriced(
        f"{offer.provider} has no price for {offer.model} at quality {shot.quality or AUTO} and size {shot.size}, "
        "so it is refused.",
        param="size",
    )


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


def _shot(offer: Offer, fitted: Fitted, answer: Answer, pixels: tuple[int, int]) -> _Shot:
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
    return _Shot(quality, f"{pixels[0]}x{pixels[1]}" if size == AUTO else size, pixels, estimated=unsure)


def _is_size(text: str) -> bool:
    width, _, height = text.partition("x")
    edges = [int(edge) for edge in (width, height) if edge.isascii() and edge.isdigit() and len(edge) < 6]
    return len(edges) == 2 and min(edges) > 0 and max(edges) <= MAX_EDGE_PX


def _calls(n: int, max_n: int) -> Iterable[tuple[int, int]]:
    """The slices of `n` pictures that one call each can make: prompts and roundings count once a call."""
    return ((start, min(start + max_n, n)) for start in range(0, n, max_n))


def _foreseen_shot(quality: str | None, size: str) -> _Shot:
    width, _, height = size.partition("x")
    return _Shot(quality, size, (int(width), int(height)) if height else None)


def _forecast(offer: Offer, lines: Lines, fitted: Fitted, shot: _Shot, at: dt.datetime, *, basis: Basis) -> Estimate:
    parts = []
    for start, end in _calls(fitted.n, offer.capabilities.max_n):
        shots = [shot] * (end - start)
        parts.append(_items(offer, lines, _foreseen(offer, lines, fitted, shots, ceiling=basis == "worst_case"), shots))
    return estimates.total(parts, at, basis=basis, step_nanos=_step_nanos(offer))


def _foreseen(offer: Offer, lines: Lines, fitted: Fitted, shots: list[_Shot], *, ceiling: bool) -> Counts:
    """Token counts of one call before it is made: the most there can be, or what is likely."""
    if ceiling:
        prompt = tokens.prompt_tokens_ceiling(fitted.prompt) + offer.pricing.get("prompt_overhead_tokens", 0)
        written = len(shots) * offer.pricing.get("text_output_ceiling_tokens", 0)
    else:
        prompt, written = tokens.prompt_tokens(fitted.prompt), 0
    found = {"text_input_token": prompt, "text_output_token": written}
    if "image_output_token" in lines:
        count = _ceiling_tokens if ceiling else _likely_tokens
        found["image_output_token"] = len(shots) * count(offer, shots[0])
    return {meter: (number * money.MICROS_PER_UNIT, True) for meter, number in found.items()}


def _reported(
    offer: Offer, lines: Lines, fitted: Fitted, shots: list[_Shot], usage: Usage | None, *, made: int
) -> Counts:
    """Token counts of a call that was made: as reported, else estimated; output counts only for delivered pictures."""
    one = money.MICROS_PER_UNIT
    if usage is None:
        found = {"text_input_token": (tokens.prompt_tokens(fitted.prompt) * one, True)}
    else:
        found = {
            "text_input_token": (usage.text_input_tokens * one, False),
            "image_input_token": (usage.image_input_tokens * one, False),
            "text_output_token": (usage.text_output_tokens * one * len(shots) // made, False),
        }
    if usage is not None and usage.image_output_tokens > 0:
        found["image_output_token"] = (usage.image_output_tokens * one * len(shots) // made, False)
    elif "image_output_token" in lines:
        found["image_output_token"] = (sum(_likely_tokens(offer, shot, lenient=True) for shot in shots) * one, True)
    return found


def _made(fitted: Fitted, answer: Answer, *, delivered: int) -> int:
    """The pictures that the provider's own counts are for, blocked and unusable ones among them."""
    received = answer.evidence.get("pictures_received")
    told = min(received, fitted.n) if isinstance(received, int) else 0
    return max(len(answer.pictures), delivered, told)


def _plausible(usage: Usage | None) -> Usage | None:
    """The usage, unless a count in it cannot be one."""
    if usage is None:
        return None
    counts = (usage.text_input_tokens, usage.image_input_tokens, usage.image_output_tokens, usage.text_output_tokens)
    return usage if all(0 <= count <= MAX_TOKENS for count in counts) else None


def _ceiling_tokens(offer: Offer, shot: _Shot) -> int:
    """The most output tokens one picture takes: its table or formula where that is firm, else the stated ceiling."""
    known = None
    if shot.size != AUTO:
        known = tokens.output_tokens(offer.pricing, quality=shot.quality or "", size=shot.size)
    if known is not None and not offer.pricing.get("output_tokens_estimated"):
        return known
    stated = offer.pricing.get("ceiling_tokens")
    if isinstance(stated, Mapping):
        stated = stated.get(shot.quality)
    if stated is None:
        raise _unpriced(offer, shot)
    return max(int(stated), known or 0)


def _likely_tokens(offer: Offer, shot: _Shot, *, lenient: bool = False) -> int:
    """The output tokens one picture should take; `lenient` for a picture already made, which must have some count."""
    quality = shot.quality or ""
    known = tokens.output_tokens(offer.pricing, quality=quality, size=shot.size)
    if known is None and lenient:
        listed = offer.pricing.get("output_tokens", {}).get(quality, {})
        if listed:
            known = listed[min(listed, key=lambda size: abs(_area(size) - _area(shot.size)))]
    return int(known) if known is not None else _ceiling_tokens(offer, shot)


def _megapixels(offer: Offer, shot: _Shot) -> tuple[int, int]:
    """Micro-megapixels of one picture: as they are, and as the provider counts them."""
    if shot.pixels is None:
        raise _unpriced(offer, shot)
    per_megapixel = offer.pricing.get("pixels_per_megapixel", 1_000_000)
    quantity = -(-shot.pixels[0] * shot.pixels[1] * money.MICROS_PER_UNIT // per_megapixel)
    rule = offer.pricing.get("quantity_rounding", {}).get("megapixel")
    return quantity, money.round_up(quantity, rule["step_micros"]) if rule else quantity


def _items(offer: Offer, lines: Lines, counts: Counts, shots: list[_Shot], *, lenient: bool = False) -> list[Item]:
    """The items of one call."""
    found = []
    for meter, priced in lines.items():
        if meter in ("image", "megapixel"):
            found += [_picture_item(offer, priced, shot, lenient=lenient) for shot in shots]
        elif counts.get(meter, (0, False))[0]:
            number, estimated = counts[meter]
            found += [estimates.item(line, number, number, estimated=estimated) for line in priced]
    return estimates.merged(found)


def _picture_item(offer: Offer, priced: list[PriceLine], shot: _Shot, *, lenient: bool) -> Item:
    nearest = lenient or offer.pricing.get("size_match") == "nearest_pixels"
    line = _line_for(priced, shot, nearest=nearest)
    if line is None:
        raise _unpriced(offer, shot)
    one = money.MICROS_PER_UNIT
    quantity, billable = _megapixels(offer, shot) if line.meter == "megapixel" else (one, one)
    return estimates.item(line, quantity, billable, estimated=shot.estimated)


def _by_billable_units(
    offer: Offer, answer: Answer, parts: list[list[Item]], *, made: int, delivered: int
) -> list[list[Item]]:
    """The provider's own count of billable units in place of ours, where the offer says which meter it counts."""
    units, unit = answer.billable_units_micros, offer.pricing.get("billable_unit")
    merged = estimates.merged(item for part in parts for item in part)
    counted = [item for item in merged if item.meter == unit]
    if units is None or not 0 < units <= MAX_UNITS_MICROS or len(counted) != 1:
        return parts
    told = replace(counted[0], billable_quantity_micros=units * delivered // made, estimated=False)
    return [[told if item is counted[0] else item for item in merged]]


def _step_nanos(offer: Offer) -> int:
    """What the provider rounds each request up to; 0 where it does not."""
    rule = offer.pricing.get("rounding")
    return int(rule["step_nanos"]) if rule else 0
