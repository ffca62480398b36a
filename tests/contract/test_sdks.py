"""OpenAI's own SDKs, unmodified, on the real server: generating, the catalogue, and errors as their own classes."""

from __future__ import annotations

import base64
from typing import Any

import requests

from accounts import keys, organizations, users
from tests.contract.conftest import Customer, Sdk
from tests.contract.matrix import SDKS, shows
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}
PNG = b"\x89PNG\r\n\x1a\n"


def fetched(url: str, **headers: str) -> bytes:
    reply = requests.get(url, headers=headers, timeout=10)
    assert (reply.status_code, reply.headers["Content-Type"]) == (200, "image/png")
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    return reply.content


@shows("generate, `url`", "generate, `b64_json`", "generate, neither asked for", clients=SDKS)
def test_it_generates_in_every_response_format(customer: Customer, sdk: Sdk) -> None:
    for wanted in ("url", "b64_json", None):
        more: dict[str, Any] = {"response_format": wanted} if wanted else {}
        answer = sdk.do("generate", customer, **ASKED, n=2, **more)["answer"]
        assert answer["_request_id"] == answer["id"]
        assert (answer["size"], answer["quality"], answer["output_format"]) == ("1024x1024", "low", "png")
        assert answer["usage"]["output_tokens"] == 2 * 272
        assert len(answer["data"]) == 2
        for item in answer["data"]:
            assert_is_as_wanted(item, wanted)


def assert_is_as_wanted(item: dict[str, Any], wanted: str | None) -> None:
    # A parameter that the SDK's type has is None when the answer left it out.
    assert bool(item.get("url")) == (wanted != "b64_json")
    assert bool(item.get("b64_json")) == (wanted != "url")
    assert bool(item.get("expires_at")) == bool(item.get("url"))
    pictures = {base64.b64decode(item["b64_json"])} if item.get("b64_json") else set()
    if item.get("url"):
        pictures |= {fetched(item["url"]), fetched(item["url"], Authorization="Bearer something stray")}
    assert len(pictures) == 1
    assert pictures.pop().startswith(PNG)


@shows("list models", "one model, with a slash", clients=SDKS)
def test_it_lists_models_and_finds_one_by_every_name(customer: Customer, sdk: Sdk) -> None:
    listed = sdk.do("models", customer)["answer"]
    assert {"gpt-image-1", "mock-image", "gpt-image-2"} <= {model["id"] for model in listed}
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in listed)
    for name in ("gpt-image-1", "openai/gpt-image-1", "fal/gpt-image-1"):
        found = sdk.do("model", customer, id=name)["answer"]
        assert (found["id"], found["owned_by"]) == ("gpt-image-1", "openai")
        assert [provider["provider"] for provider in found["providers"]] == ["openai", "fal"]


@shows("errors 400, 401, 402, 404", clients=SDKS)
def test_its_errors_are_the_sdks_own(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    other = "APIStatusError" if sdk.client.is_python else "APIError"
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
        assert error["request_id"].startswith("req_")
    error = sdk.do("model", customer, id="nobody/nothing")["error"]
    assert (error["class"], error["code"]) == ("NotFoundError", "model_not_found")
    assert fake.calls == 0


def refused_soon(sdk: Sdk, customer: Customer, *, key: str, **asked: Any) -> dict[str, Any]:
    """The error of one request more than the key may make in a minute; one minute may end while this goes on.

    Without the client's own patience: it would wait for the next minute, as it is told to.
    """
    found = [sdk.do("generate", customer, key=key, how={"max_retries": 0}, **asked) for _ in range(3)]
    assert "answer" in found[0]
    error: dict[str, Any] = next(one["error"] for one in found if "error" in one)
    return error


@shows("error 429", clients=SDKS)
def test_too_many_requests_are_its_rate_limit_error(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    key = customer.another_key(limits={"requests_per_minute": 1})
    error = refused_soon(sdk, customer, key=key, **ASKED)
    assert (error["class"], error["status"], error["code"]) == ("RateLimitError", 429, "rate_limit_exceeded")


@shows(clients=SDKS)
def test_what_the_providers_refuse_or_fail_is_not_sent_again(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    fake.behave(misbehaviour.blocked())
    error = sdk.do("generate", customer, **ASKED)["error"]
    assert (error["class"], error["status"], error["code"]) == ("BadRequestError", 400, "moderation_blocked")
    fake.behave(misbehaviour.html(502))
    error = sdk.do("generate", customer, **ASKED)["error"]
    assert (error["class"], error["status"], error["code"]) == ("InternalServerError", 502, "all_providers_failed")
    assert [seen.route for seen in fake.requests] == ["openai", "openai", "run"]
