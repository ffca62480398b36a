"""Receipts: every quantity, price and rounding that leads to a charge, without the prompt."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson
import pytest

from core import money
from imagesapi import pricing, receipts, routing
from imagesapi.values import Answer, Fitted, ImageRequest, Picture, Usage
from tests.imagesapi.offers import NOON, catalogue, fitted

REQUEST = ImageRequest(operation="generation", model="gpt-image-1", prompt="a red fox", size="1024x1024")


def receipt(name: str, answer: Answer, *, charged_nanos: int | None = None, sent: Fitted | None = None) -> Any:
    offer, sent = catalogue()[name], sent or fitted()
    candidate = routing.Candidate(
        offer=offer,
        fitted=sent,
        body={},
        worst_case=pricing.worst_case(offer, sent, NOON),
    )
    cost = pricing.actual(offer, sent, answer, NOON, [(1024, 1024)])
    charged_nanos = cost.total_nanos if charged_nanos is None else charged_nanos
    return receipts.compose(REQUEST, candidate, answer, cost, charged_nanos=charged_nanos)


def test_it_explains_the_tokens_at_openai() -> None:
    answer = Answer(pictures=[Picture(b64="AA==")], usage=Usage(13, 0, 272), request_id="req_up")
    found = receipt("openai/gpt-image-1", answer)
    assert found["total"] == found["charged"] == "0.010945"
    assert [(item["label"], item["quantity"], item["unit_price"], item["amount"]) for item in found["items"]] == [
        ("prompt tokens", "13", "0.000005", "0.000065"),
        ("image tokens", "272", "0.00004", "0.01088"),
    ]
    assert found["items"][0]["as_of"] == "2026-10-14"
    assert found["evidence"]["provider_request_id"] == "req_up"
    assert found["evidence"]["usage"]["image_output_tokens"] == 272
    assert found["explanation"] == "13 prompt tokens × $0.000005 + 272 image tokens × $0.00004 = $0.010945"


def test_it_explains_the_rounded_up_cent_at_fal() -> None:
    found = receipt("fal/gpt-image-1", Answer(pictures=[Picture(b64="AA==")]))
    assert found["total"] == "0.02"
    assert found["rounding"] == [
        {"by": "provider", "rule": "each request up to the next $0.01", "from": "0.011006", "to": "0.02"},
        {"by": "platform", "rule": "half-even to the nano-dollar, once", "from": "0.02", "to": "0.02"},
    ]
    assert "image · low · 1024x1024 × $0.011" in found["explanation"]
    assert "= $0.011006, which fal rounds up to $0.02" in found["explanation"]


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_it_adds_up_to_its_own_total(name: str) -> None:
    usage = Usage(7, 0, 300, 11) if catalogue()[name].capabilities.reports_usage else None
    qualities = catalogue()[name].capabilities.qualities
    sent = fitted(quality=next((word for word in qualities if word != "auto"), None))
    found = receipt(name, Answer(pictures=[Picture(b64="AA==")], usage=usage), sent=sent)
    total = sum(money.picos(item["amount"]) for item in found["items"])
    assert total == money.picos(found["rounding"][0]["from"])
    for item in found["items"]:
        product = int(item["billable_quantity"]) * money.picos(item["unit_price"])
        assert product == money.picos(item["amount"])


def test_it_says_what_the_platform_absorbed() -> None:
    answer = Answer(pictures=[Picture(b64="AA==")], usage=Usage(0, 0, 1_000))
    found = receipt("openai/gpt-image-1", answer, charged_nanos=30_000_000)
    assert (found["total"], found["charged"], found["absorbed"]) == ("0.04", "0.03", "0.01")
    assert found["explanation"].endswith("charged $0.03, the rest was absorbed by the platform")


def test_it_holds_no_prompt_and_nothing_postgresql_refuses() -> None:
    answer = Answer(pictures=[Picture(b64="AA==")], evidence={"us\0age": ["\0x", {"a": "b\0"}]})
    text = orjson.dumps(receipt("openai/gpt-image-1", answer)).decode()
    assert "fox" not in text
    assert "\\u0000" not in text


def test_it_shows_a_dry_run_in_json_numbers() -> None:
    offer = catalogue()["fal/flux.1-schnell"]
    estimate = pricing.expected(offer, fitted(size="1040x1024", quality=None), NOON)
    (component,) = receipts.components(estimate)
    assert component == {
        "type": "output",
        "metric": "megapixel",
        "quantity": 1.015625,
        "billable_quantity": 2,
        "unit_price": 0.003,
        "total_cost": 0.006,
    }
    assert dataclasses.is_dataclass(estimate)


def test_it_keeps_numbers_beyond_64_bits_as_text() -> None:
    """PostgreSQL would give 1e300 back with three hundred digits."""
    answer = Answer(pictures=[Picture(b64="AA==")], usage=Usage(13, 0, 272), evidence={"a": [1e300, -(2**70), 5, True]})
    assert receipt("openai/gpt-image-1", answer)["evidence"]["a"] == ["1e+300", str(-(2**70)), 5, True]
