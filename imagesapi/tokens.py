"""How many tokens a prompt and a picture cost, for prices that count tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BYTES_PER_TOKEN = 4
# Of image output, by OpenAI's guide; an offer may state its own.
PARTIAL_IMAGE_TOKENS = 100
# Text tokens that a picture given to an edit adds to the prompt: up to 41 were reported for tall ones.
INPUT_OVERHEAD_TOKENS = 48


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


def partial_tokens(pricing: Mapping[str, Any], partial_images: int) -> int:
    """What the unfinished pictures on the way to one picture cost."""
    return partial_images * int(pricing.get("partial_image_tokens", PARTIAL_IMAGE_TOKENS))


def input_tokens_ceiling(pricing: Mapping[str, Any], *, fidelity: str | None) -> int | None:
    """The most tokens one given picture takes, as the offer states it; None where it states nothing."""
    stated = pricing.get("image_input_ceiling_tokens")
    if isinstance(stated, Mapping):
        known = fidelity or pricing.get("assumed_input_fidelity", "")
        stated = stated.get(known, max(stated.values(), default=None))
    return None if stated is None else int(stated)


def input_tokens(pricing: Mapping[str, Any], pixels: tuple[int, int], *, fidelity: str | None) -> int | None:
    """The tokens one given picture should take, never above the ceiling; None where the offer states neither."""
    ceiling = input_tokens_ceiling(pricing, fidelity=fidelity)
    rule = pricing.get("image_input_tokens")
    if rule is None or ceiling is None:
        return ceiling
    high = (fidelity or pricing.get("assumed_input_fidelity")) == "high"
    if rule["by"] == "tiles":
        found = _by_tiles(pixels, high=high, **{name: value for name, value in rule.items() if name != "by"})
    elif rule["by"] == "patches":
        found = _by_patches(pixels, **{name: value for name, value in rule.items() if name != "by"})
    else:
        found = rule["high" if high else "low"]
    return min(int(found), ceiling)


def _by_tiles(
    pixels: tuple[int, int], *, base: int, each: int, tile_px: int, high: bool, high_square: int, high_other: int
) -> int:
    """The older GPT image models: the short edge brought down to one tile, then whole tiles; high fidelity adds."""
    long, short = max(pixels), min(pixels)
    if short > tile_px:
        long, short = long * tile_px // short, tile_px
    tiles = -(-long // tile_px) * -(-short // tile_px)
    extra = 0 if not high else high_square if max(pixels) * 4 <= min(pixels) * 5 else high_other
    return base + each * tiles + extra


def _by_patches(
    pixels: tuple[int, int], *, patch_px: int, most: int, magnify_to_px: int, magnify_most: int, max_ratio: int
) -> int:
    """gpt-image-2: small pictures are magnified, narrow ones padded, and the patches counted up to a budget."""
    long, short = max(pixels), min(pixels)
    if long < magnify_to_px:
        target = min(magnify_to_px, long * magnify_most)
        long, short = target, max(1, short * target // long)
    short = max(short, -(-long // max_ratio))
    return min(-(-long // patch_px) * -(-short // patch_px), most)
