"""Unmodified SDKs on the real server: only the base URL and the key are changed."""

from __future__ import annotations

import base64
from typing import Any

import pytest
import requests

from accounts import keys, organizations, users
from tests.contract.conftest import Customer, Sdk
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

ASKED = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}
PNG = b"\x89PNG\r\n\x1a\n"


def fetched(url: str, **headers: str) -> bytes:
    reply = requests.get(url, headers=headers, timeout=10)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/png")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    return reply.content


@pytest.mark.parametrize("wanted", ["url", "b64_json", None])
def test_it_generates_in_every_response_format(customer: Customer, sdk: Sdk, wanted: str | None) -> None:
    more: dict[str, Any] = {"response_format": wanted} if wanted else {}
    answer = sdk.do("generate", customer, **ASKED, n=2, **more)["answer"]
    assert answer["_request_id"] == answer["id"]
    assert (answer["size"], answer["quality"], answer["output_format"]) == ("1024x1024", "low", "png")
    assert answer["usage"]["output_tokens"] == 2 * 272
    assert len(answer["data"]) == 2
    for item in answer["data"]:
        # A parameter that the SDK's type has is None when the answer left it out.
        assert bool(item.get("url")) == (wanted != "b64_json")
        assert bool(item.get("b64_json")) == (wanted != "url")
        assert bool(item.get("expires_at")) == bool(item.get("url"))
        pictures = {base64.b64decode(item["b64_json"])} if item.get("b64_json") else set()
        if item.get("url"):
            pictures |= {fetched(item["url"]), fetched(item["url"], Authorization="Bearer something stray")}
        assert len(pictures) == 1
        assert pictures.pop().startswith(PNG)


def test_it_lists_models_and_finds_one_by_every_name(customer: Customer, sdk: Sdk) -> None:
    listed = sdk.do("models", customer)["answer"]
    assert {"gpt-image-1", "mock-image", "gpt-image-2"} <= {model["id"] for model in listed}
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed)
    for name in ("gpt-image-1", "openai/gpt-image-1", "fal/gpt-image-1"):
        found = sdk.do("model", customer, id=name)["answer"]
        assert (found["id"], found["owned_by"]) == ("gpt-image-1", "openai")
        assert [provider["provider"] for provider in found["providers"]] == ["openai", "fal"]


def test_its_errors_are_the_sdks_own(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    python = not sdk.version.startswith("7.")
    other = "APIStatusError" if python else "APIError"
    charlie = users.create_verified("charlie@example.net", name="Charlie")
    _, poor = keys.create(organizations.create("Charlie Ltd", owner=charlie), name="poor", created_by=charlie)
    unknown = "pxp_000000000000." + "A" * 43
    cases: list[tuple[dict[str, Any], dict[str, Any], str, int, str, str | None]] = [
        ({"key": unknown}, {}, "AuthenticationError", 401, "invalid_api_key", None),
        ({"key": "sk-proj-1234"}, {}, "AuthenticationError", 401, "invalid_api_key", None),
        ({"key": poor}, {}, other, 402, "insufficient_balance", None),
        ({}, {"model": "gpt-image-99"}, "NotFoundError", 404, "model_not_found", "model"),
        ({}, {"n": 0}, "BadRequestError", 400, "invalid_value", "n"),
        ({}, {"size": "17x17"}, "BadRequestError", 400, "invalid_value", "size"),
    ]
    for how, changes, kind, status, code, param in cases:
        error = sdk.do("generate", customer, **how, **{**ASKED, **changes})["error"]
        assert (error["class"], error["status"], error["code"], error["param"]) == (kind, status, code, param)
        assert error["type"] in ("invalid_request_error", "insufficient_quota")
    error = sdk.do("model", customer, id="nobody/nothing")["error"]
    assert (error["class"], error["code"]) == ("NotFoundError", "model_not_found")
    assert fake.calls == 0


def test_a_failure_after_every_provider_was_asked_is_not_sent_again(
    customer: Customer, sdk: Sdk, fake: ProviderFake
) -> None:
    fake.behave(misbehaviour.html(502))
    error = sdk.do("generate", customer, **ASKED)["error"]
    assert (error["class"], error["status"], error["code"]) == ("InternalServerError", 502, "all_providers_failed")
    assert [seen.route for seen in fake.requests] == ["openai", "run"]


def test_refused_content_is_a_bad_request(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    fake.behave(misbehaviour.blocked())
    error = sdk.do("generate", customer, **ASKED)["error"]
    assert (error["class"], error["status"], error["code"]) == ("BadRequestError", 400, "moderation_blocked")
    assert [seen.route for seen in fake.requests] == ["openai"]


def test_the_versions_are_the_ones_we_promise(sdk: Sdk) -> None:
    assert sdk.version.startswith(("3.", "1.", "7."))
