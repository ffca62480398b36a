"""How many tokens a prompt and a picture cost, for prices that count tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4


def prompt_tokens(prompt: str) -> int:
    """An estimate of a prompt's tokens: four UTF-8 bytes each, never below one."""
    return max(1, -(-prompt_tokens_ceiling(prompt) // BYTES_PER_TOKEN))


def prompt_tokens_ceiling(prompt: str) -> int:
    """The most tokens a prompt can have: a tokenizer never makes more of them than there are UTF-8 bytes."""
    return len(prompt.encode("utf-8"))


def output_tokens(pricing: Mapping[str, Any], *, quality: str, size: str) -> int | None:
    """The tokens of one picture by an offer's table, else by its formula; None where neither knows this picture.

    `quality` and `size` are effective values: "auto" is in no table.
    """
    listed = pricing.get("output_tokens", {}).get(quality, {}).get(size)
    if listed is not None:
        return int(listed)
    formula = pricing.get("output_tokens_formula") or {"quality_factor": {}}
    factor = formula["quality_factor"].get(quality)
    pixels = _pixels(size)
    if factor is None or pixels is None:
        return None
    return _by_formula(factor, *pixels, **formula["constants"])


def _pixels(size: str) -> tuple[int, int] | None:
    width, _, height = size.partition("x")
    if not (size.isascii() and width.isdecimal() and height.isdecimal()):
        return None
    pixels = int(width), int(height)
    return pixels if min(pixels) > 0 else None


def _by_formula(factor: int, width: int, height: int, *, offset_pixels: int, divisor: int) -> int:
    """The public calculator of the gpt-image-2 family: `factor` patches on the long edge, in integers only."""
    long, short = max(width, height), min(width, height)
    patches_short = (2 * factor * short + long) // (2 * long)  # round half up
    return -(-factor * patches_short * (offset_pixels + width * height) // divisor)
