"""Counting tokens: the published tables and the formula behind the newer ones."""

from __future__ import annotations

from typing import Any

import pytest

from imagesapi import tokens

TABLE = {"output_tokens": {"low": {"1024x1024": 272}, "high": {"1536x1024": 6208}}}
FORMULA: dict[str, Any] = {
    "output_tokens_formula": {
        "quality_factor": {"low": 16, "medium": 48, "high": 96},
        "constants": {"offset_pixels": 2_000_000, "divisor": 4_000_000},
    }
}


@pytest.mark.parametrize(
    ("quality", "size", "count"),
    [
        ("low", "1024x1024", 196),
        ("low", "1536x1024", 158),
        ("low", "3840x2160", 371),
        ("medium", "1024x1536", 1372),
        ("medium", "1024x640", 956),
        ("medium", "2048x1152", 1413),
        ("high", "1024x1024", 7024),
        ("high", "1024x768", 4815),
        ("high", "2560x1440", 7370),
        ("high", "2048x2048", 14272),
    ],
)
def test_it_counts_by_the_formula_as_published(quality: str, size: str, count: int) -> None:
    assert tokens.output_tokens(FORMULA, quality=quality, size=size) == count


def test_it_prefers_the_table_over_the_formula() -> None:
    assert tokens.output_tokens({**FORMULA, **TABLE}, quality="low", size="1024x1024") == 272
    assert tokens.output_tokens({**FORMULA, **TABLE}, quality="low", size="1536x1024") == 158


@pytest.mark.parametrize(
    ("pricing", "quality", "size"),
    [
        ({}, "low", "1024x1024"),
        (TABLE, "low", "1536x1024"),
        (TABLE, "ultra", "1024x1024"),
        (FORMULA, "auto", "1024x1024"),
        (FORMULA, "low", "auto"),
        (FORMULA, "low", "0x1024"),
    ],
)
def test_it_knows_no_tokens_beyond_table_and_formula(pricing: dict[str, Any], quality: str, size: str) -> None:
    assert tokens.output_tokens(pricing, quality=quality, size=size) is None


@pytest.mark.parametrize(
    ("prompt", "estimate", "ceiling"), [("", 1, 0), ("cat", 1, 3), ("12345", 2, 5), ("猫が座る", 3, 12), ("🦦🦦", 2, 8)]
)
def test_it_counts_a_prompt_by_its_bytes(prompt: str, estimate: int, ceiling: int) -> None:
    assert tokens.prompt_tokens(prompt) == estimate
    assert tokens.prompt_tokens_ceiling(prompt) == ceiling
