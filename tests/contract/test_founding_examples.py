"""The founding generate examples, as people paste them: answered, shown, charged and explained, by either provider."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import orjson
import pytest
import requests

from tests.contract import installed
from tests.contract.conftest import Customer
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

PROMPT = "A serene mountain landscape at sunset"
# openai: 4 160 image tokens of a high square at $40 a million, and 10 prompt tokens at $5 a million.
OPENAI_COST = Decimal("0.16645")
# fal: "auto" becomes medium, whose table says $0.042; with the prompt's 10 tokens at $2 a million
# that is $0.04202, and each request is rounded up to the next cent.
FAL_COST = Decimal("0.05")

Example = Callable[..., str]


def paste_curl(example: Example) -> str:
    url = orjson.loads(example("generate.sh", ["sh"]))["data"][0]["url"]
    assert isinstance(url, str)
    return url


def paste_python(example: Example) -> str:
    return example("generate.py", installed.python_newest())


def paste_python_1(example: Example) -> str:
    return example("generate.py", installed.python_1())


def paste_node(example: Example) -> str:
    return example("generate.mjs", ["node"], installed.node_folder())


PASTES = [
    pytest.param(paste_curl, id="curl", marks=pytest.mark.needs("curl")),
    pytest.param(paste_python, id="python newest"),
    pytest.param(paste_python_1, id="python 1"),
    pytest.param(paste_node, id="node", marks=pytest.mark.needs("node", "npm")),
]


def assert_shows_a_picture(url: str) -> None:
    """`data[0].url` is there for whoever has it, with a stray Authorization header too."""
    for headers in ({}, {"Authorization": "Bearer sk-something-stray"}):
        reply = requests.get(url, headers=headers, timeout=10)
        assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/png")
        assert reply.content.startswith(b"\x89PNG")


def the_request(customer: Customer) -> dict[str, Any]:
    """The one request there is, whole, as its owner looks it up."""
    listed = requests.get(f"{customer.server.url}/v1/requests", headers=customer.headers, timeout=10).json()["data"]
    assert len(listed) == 1
    address = f"{customer.server.url}/v1/requests/{listed[0]['id']}"
    found: dict[str, Any] = requests.get(address, headers=customer.headers, timeout=10).json()
    assert (found["status"], found["asked"]["prompt"], found["simulated"]) == ("completed", PROMPT, False)
    return found


def assert_paid(customer: Customer, cost: Decimal) -> None:
    balance = requests.get(f"{customer.server.url}/v1/balance", headers=customer.headers, timeout=10).json()
    assert Decimal(str(balance["available"]["amount"])) == Decimal(5) - cost


@pytest.mark.parametrize("paste", PASTES)
def test_openai_answers_at_the_cost_of_its_tokens(
    customer: Customer, fake: ProviderFake, example: Example, paste: Callable[[Example], str]
) -> None:
    assert_shows_a_picture(paste(example))
    found = the_request(customer)
    assert [(one["provider"], one["status"]) for one in found["attempts"]] == [("openai", "succeeded")]
    assert found["adjustments"] == []
    receipt = found["receipt"]
    assert receipt["executed_model"] == "openai/gpt-image-1"
    assert [(item["meter"], item["quantity"], item["estimated"]) for item in receipt["items"]] == [
        ("text_input_token", "10", False),
        ("image_output_token", "4160", False),
    ]
    assert Decimal(receipt["charged"]) == Decimal(receipt["total"]) == OPENAI_COST == Decimal(str(found["cost"]))
    assert receipt["evidence"]["usage"]["output_tokens"] == 4160
    assert "4160 image tokens × $0.00004" in receipt["explanation"]
    assert_paid(customer, OPENAI_COST)


@pytest.mark.parametrize("paste", [paste for paste in PASTES if paste.id != "python 1"])
def test_fal_answers_when_openai_fails_at_its_rounded_up_cent(
    customer: Customer, fake: ProviderFake, example: Example, paste: Callable[[Example], str]
) -> None:
    fake.behave(misbehaviour.status(500), on="openai")
    assert_shows_a_picture(paste(example))
    found = the_request(customer)
    assert [(one["provider"], one["status"]) for one in found["attempts"]] == [
        ("openai", "failed"),
        ("fal", "succeeded"),
    ]
    assert [(one["parameter"], one["used"]) for one in found["adjustments"]] == [("quality", "medium")]
    receipt = found["receipt"]
    assert receipt["executed_model"] == "fal/fal-ai/gpt-image-1/text-to-image"
    assert [(item["label"], item["quantity"], item["estimated"]) for item in receipt["items"]] == [
        ("prompt tokens", "10", True),
        ("image · 1024x1024 · medium", "1", False),
    ]
    assert receipt["rounding"][0] == {
        "by": "provider",
        "rule": "each request up to the next $0.01",
        "from": "0.04202",
        "to": "0.05",
    }
    assert Decimal(receipt["charged"]) == FAL_COST == Decimal(str(found["cost"]))
    assert "rounds up to $0.05" in receipt["explanation"]
    assert_paid(customer, FAL_COST)
