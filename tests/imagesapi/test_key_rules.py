"""A key's rules against what would really be made: model, size and quality, at each provider."""

from __future__ import annotations

from typing import Any, cast

import pytest

from accounts import rules
from accounts.callers import Caller
from core.errors import PermissionDenied
from imagesapi import key_rules
from imagesapi.routing import Candidate
from tests.imagesapi import offers

ALIASES = {"gpt-image": "gpt-image-1"}


def caller(**document: Any) -> Caller:
    return Caller(
        organization_id=1,
        organization_slug="a",
        key_id=1,
        key_public_id="k",
        created_by_id=None,
        default_response_format="",
        link_life_minutes=60,
        scopes=frozenset(),
        rules=rules.parse(document),
        key_version=1,
    )


def candidate(name: str, **fitted: object) -> Candidate:
    """One offer of the shipped catalogue, with what it would be sent; prices are nobody's business here."""
    nothing = cast(Any, None)
    return Candidate(
        offer=offers.catalogue()[name],
        fitted=offers.fitted(**fitted),
        body={},
        worst_case=nothing,
    )


BOTH = (candidate("fal/gpt-image-1"), candidate("openai/gpt-image-1"))


def left(candidates: tuple[Candidate, ...], **document: Any) -> list[str]:
    found = key_rules.allowed(caller(**document), candidates, aliases=ALIASES)
    return [one.offer.provider for one in found]


def refused(candidates: tuple[Candidate, ...], **document: Any) -> PermissionDenied:
    with pytest.raises(PermissionDenied) as refusal:
        key_rules.allowed(caller(**document), candidates, aliases=ALIASES)
    return refusal.value


def test_a_key_without_rules_may_use_everything() -> None:
    assert key_rules.allowed(caller(), BOTH) is BOTH
    assert key_rules.allowed(caller(on_refusal="next"), BOTH) is BOTH


@pytest.mark.parametrize(
    ("entries", "providers"),
    [
        (["gpt-image-1"], ["fal", "openai"]),
        (["gpt-image"], ["fal", "openai"]),
        (["dall-e-3", "gpt-image-1"], ["fal", "openai"]),
        (["openai/gpt-image-1"], ["openai"]),
        (["openai/gpt-image"], ["openai"]),
        (["fal/*"], ["fal"]),
        (["fal/*", "openai/*"], ["fal", "openai"]),
    ],
)
def test_a_rule_names_models_in_every_spelling(entries: list[str], providers: list[str]) -> None:
    assert left(BOTH, models=entries) == providers


@pytest.mark.parametrize("entry", ["dall-e-3", "openai/dall-e-3", "google/*", "gpt-image-", "gpt-image-1-mini", "fal"])
def test_another_model_is_refused_and_the_allowed_ones_are_named(entry: str) -> None:
    error = refused(BOTH, models=[entry])
    assert (error.status, error.error_code, error.param) == (403, "model_not_allowed", "model")
    assert entry in error.message
    assert "gpt-image-1" in error.message


def test_what_counts_is_the_size_that_would_be_made() -> None:
    small = candidate("fal/gpt-image-1", size="512x512")
    assert left((small, BOTH[1]), sizes=["512x512"]) == ["fal"]
    assert left((small, BOTH[1]), sizes=["1024x1024", "512x512"]) == ["fal", "openai"]
    error = refused(BOTH, sizes=["512x512", "256x256"])
    assert (error.error_code, error.param) == ("size_not_allowed", "size")
    assert "512x512, 256x256" in error.message
    assert "1024x1024" in error.message


def test_a_size_nobody_knows_yet_must_be_allowed_by_name() -> None:
    open_ended = (candidate("openai/gpt-image-1", size="auto"),)
    assert refused(open_ended, sizes=["1024x1024"]).error_code == "size_not_allowed"
    assert left(open_ended, sizes=["auto"]) == ["openai"]


def test_what_counts_is_the_quality_that_would_be_bought() -> None:
    dear = candidate("openai/gpt-image-1", quality="high")
    assert left((BOTH[0], dear), qualities=["low"]) == ["fal"]
    error = refused((dear,), qualities=["low", "medium"])
    assert (error.error_code, error.param) == ("quality_not_allowed", "quality")
    assert "low, medium" in error.message
    assert refused((candidate("openai/gpt-image-1", quality="auto"),), qualities=["low"]).param == "quality"


def test_a_model_without_qualities_is_not_kept_away_by_them() -> None:
    assert left((candidate("fal/gpt-image-1", quality=None),), qualities=["low"]) == ["fal"]


def test_all_rules_must_be_met_by_the_same_offer() -> None:
    candidates = (candidate("fal/gpt-image-1", quality="high"), candidate("openai/gpt-image-1", quality="low"))
    assert refused(candidates, models=["fal/*"], qualities=["low"]).error_code == "quality_not_allowed"
    assert left(candidates, models=["openai/*"], qualities=["low"]) == ["openai"]
