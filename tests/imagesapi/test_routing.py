"""Routing: in what order offers are tried, what the operator and the request may say about it, and who is left out."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from core import errors
from imagesapi import catalog, routing_preference
from imagesapi.health import Health
from imagesapi.values import Preference
from tests.imagesapi import plans
from tests.imagesapi.plans import offer, order, plan

WELL = Health(calls=100, failures=0, p50_ms=5_000)


def prefer(**members: Any) -> dict[str, Any]:
    return {"asked": {"preference": routing_preference.parse(members)}}


# --- the order --------------------------------------------------------------------------------------------------------


def test_it_goes_by_adjustments_before_price() -> None:
    styled = {"style": "vivid"}
    cheap = offer("a", 1, dollars="0.01")
    exact = offer("b", 2, dollars="0.09", capabilities=_takes(styles=("vivid",)))
    assert order(plan(cheap, exact, asked=styled)) == ["b", "a"]


def test_it_goes_by_price_before_health() -> None:
    slow = Health(calls=100, failures=40, p50_ms=60_000)
    assert order(plan(offer("a", 1, dollars="0.02"), offer("b", 2), health={1: WELL, 2: slow})) == ["b", "a"]


def test_it_goes_by_success_before_latency() -> None:
    shaky = Health(calls=100, failures=6, p50_ms=1_000)
    assert order(plan(offer("a", 1), offer("b", 2), health={1: shaky, 2: WELL})) == ["b", "a"]


def test_it_goes_by_seconds_of_latency_before_weight() -> None:
    slower = Health(calls=100, failures=0, p50_ms=6_000)
    assert order(plan(offer("a", 1, weight=9), offer("b", 2), health={1: slower, 2: WELL})) == ["b", "a"]
    near = Health(calls=100, failures=0, p50_ms=5_999)
    assert order(plan(offer("b", 1, weight=9), offer("a", 2), health={1: near, 2: WELL})) == ["b", "a"]


def test_it_goes_by_weight_and_then_by_name() -> None:
    assert order(plan(offer("c", 1), offer("a", 2), offer("b", 3, weight=1))) == ["b", "a", "c"]


def test_it_tries_what_was_never_measured() -> None:
    assert order(plan(offer("a", 1), offer("b", 2), health={1: WELL})) == ["b", "a"]


def test_it_follows_the_operators_fixed_order() -> None:
    dear = offer("c", 3, dollars="0.09")
    found = plan(offer("a", 1), offer("b", 2, dollars="0.02"), dear, provider_order=("c", "b"))
    assert order(found) == ["c", "b", "a"]
    assert found.hold_nanos == 90_000_000


# --- what the request prefers -----------------------------------------------------------------------------------------


def test_it_follows_the_requests_order_and_keeps_the_others() -> None:
    offers = offer("a", 1), offer("b", 2, dollars="0.02"), offer("c", 3, dollars="0.03")
    assert order(plan(*offers, provider_order=("b",), **prefer(order=["c", "nobody"]))) == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("members", "left"),
    [
        ({"only": ["b", "c"]}, ["b", "c"]),
        ({"ignore": ["a"]}, ["b", "c"]),
        ({"only": ["a", "b"], "ignore": ["a"]}, ["b"]),
    ],
)
def test_it_leaves_out_whom_the_request_leaves_out(members: dict[str, Any], left: list[str]) -> None:
    found = plan(offer("a", 1, dollars="0.09"), offer("b", 2), offer("c", 3), **prefer(**members))
    assert order(found) == left
    assert found.hold_nanos == 10_000_000


def test_it_sorts_by_what_the_request_names() -> None:
    exact = offer("b", 2, dollars="0.09", capabilities=_takes(styles=("vivid",)))
    cheap, quick = offer("a", 1), Health(calls=100, failures=0, p50_ms=4_900)
    by_price = {"style": "vivid", "preference": Preference(sort="price")}
    assert order(plan(exact, cheap, asked=by_price)) == ["a", "b"]
    by_latency = {"preference": Preference(sort="latency")}
    offers = cheap, offer("b", 2, dollars="0.09")
    assert order(plan(*offers, asked=by_latency, health={1: WELL, 2: quick})) == ["b", "a"]
    assert order(plan(*offers, asked=by_latency, health={1: WELL, 2: quick}, provider_order=("a",))) == ["b", "a"]


def test_it_keeps_a_pinned_provider_without_failover() -> None:
    found = plan(offer("a", 1), offer("b", 2), asked={"model": f"b/{plans.MODEL}"})
    assert order(found) == ["b"]


def test_it_says_who_offers_the_model_when_nobody_is_left() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"offered by a, b") as refusal:
        plan(offer("a", 1), offer("b", 2), **prefer(only=["nobody"]))
    assert (refusal.value.param, refusal.value.status) == ("provider", 400)


def test_it_names_the_providers_there_are() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"names 'openia'; the providers here are a, nobody") as refusal:
        plan(offer("a", 1), **prefer(order=["openia"]))
    assert refusal.value.param == "provider.order"


def test_it_reads_a_preference() -> None:
    found = routing_preference.parse({"order": ["a", "b", "a"], "ignore": [], "only": None, "sort": "latency"})
    assert found == Preference(order=("a", "b"), sort="latency")
    assert routing_preference.parse(None) == routing_preference.parse({}) == Preference()


@pytest.mark.parametrize(
    ("value", "param", "code"),
    [
        ("openai", "provider", "invalid_type"),
        ([], "provider", "invalid_type"),
        (True, "provider", "invalid_type"),
        ({"allow_fallbacks": False}, "provider", "unknown_parameter"),
        ({"x" * 5_000: 1}, "provider", "unknown_parameter"),
        ({"order": "openai"}, "provider.order", "invalid_type"),
        ({"order": {"openai": 1}}, "provider.order", "invalid_type"),
        ({"order": [1]}, "provider.order", "invalid_type"),
        ({"order": [""]}, "provider.order", "invalid_type"),
        ({"order": [["openai"]]}, "provider.order", "invalid_type"),
        ({"order": ["a"] * 33}, "provider.order", "invalid_value"),
        ({"ignore": ["a" * 65]}, "provider.ignore", "invalid_value"),
        ({"only": []}, "provider.only", "invalid_value"),
        ({"sort": "throughput"}, "provider.sort", "invalid_value"),
        ({"sort": ["price"]}, "provider.sort", "invalid_value"),
        ({"sort": {}}, "provider.sort", "invalid_value"),
    ],
)
def test_it_refuses_a_preference_it_cannot_follow(value: Any, param: str, code: str) -> None:
    with pytest.raises(errors.InvalidRequest) as refusal:
        routing_preference.parse(value)
    assert (refusal.value.param, refusal.value.error_code) == (param, code)
    assert len(refusal.value.message) < 200


# --- the operator's command -------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_it_lets_the_operator_fix_order_and_weights() -> None:
    before = catalog.current_version()
    told = set_routing("gpt-image-1.5", "--order", "openai, fal", "--weight", "fal=7")
    assert "order openai, fal; weights fal=7, openai=0" in told
    entry = catalog.snapshot().models["gpt-image-1.5"]
    assert entry.provider_order == ("openai", "fal")
    assert {one.provider: one.weight for one in entry.offers}["fal"] == 7
    assert catalog.current_version() > before
    assert catalog.load().changes == []
    assert "order openai, fal" in set_routing("gpt-image-1.5")
    assert "order not fixed" in set_routing("gpt-image-1.5", "--order", "")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "arguments",
    [
        ("no-model",),
        ("gpt-image-1.5", "--order", "mock"),
        ("gpt-image-1.5", "--weight", "fal=x"),
        ("gpt-image-1.5", "--weight", "fal=99999999999999"),
        ("dall-e-3", "--weight", "="),
    ],
)
def test_it_refuses_an_order_that_makes_no_sense(arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        set_routing(*arguments)


def set_routing(*arguments: str) -> str:
    out = io.StringIO()
    call_command("set_routing", *arguments, stdout=out)
    return out.getvalue()


def _takes(**changes: Any) -> Any:
    return dataclasses.replace(offer("x", 0).capabilities, **changes)
