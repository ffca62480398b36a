"""Clients that are not OpenAI's own: the Vercel AI SDK, LangChain's tools, LiteLLM as a library."""

from __future__ import annotations

import base64
from typing import Any

from tests.contract.conftest import Customer, Pictures, Sdk
from tests.contract.lossy import LossyLine
from tests.contract.matrix import AI_SDK, LANGCHAIN, LITELLM, shows
from tests.contract.test_sdk_edits import FORMS, arrived, described
from tests.contract.test_sdk_retries import charges
from tests.contract.test_sdks import PNG, fetched, refused_soon
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}
UNKNOWN = "pxp_000000000000." + "A" * 43


def as_litellm(asked: dict[str, Any]) -> dict[str, Any]:
    """With the word in front by which LiteLLM knows that this is an OpenAI-compatible server."""
    return {**asked, "model": f"openai/{asked['model']}"}


# The Vercel AI SDK


@shows("generate, neither asked for", clients=AI_SDK)
def test_the_ai_sdk_generates(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    answer = sdk.do("generate", customer, **ASKED, n=2)["answer"]
    assert [image["mediaType"] for image in answer["images"]] == ["image/png"] * 2
    assert len({image["base64"] for image in answer["images"]}) == 2
    assert answer["usage"]["outputTokens"] == 2 * 272
    assert answer["warnings"] == []
    assert [(seen.json["n"], seen.json["quality"]) for seen in fake.requests] == [(2, "low")]


@shows("generate, `b64_json`", clients=AI_SDK[:1])
def test_the_ai_sdk_asks_for_base64_of_names_it_does_not_know(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    answer = sdk.do("generate", customer, **{**ASKED, "model": "openai/gpt-image-1", "n": 2})["answer"]
    assert base64.b64decode(answer["images"][0]["base64"]).startswith(PNG)
    assert [seen.json["n"] for seen in fake.requests] == [1, 1]


@shows("generate, `url`", "generate, `b64_json`", clients=AI_SDK[1:])
def test_the_compatible_ai_sdk_takes_either_form(customer: Customer, sdk: Sdk) -> None:
    for wanted in ("url", "b64_json"):
        answer = sdk.do("generate", customer, **ASKED, response_format=wanted)["answer"]
        assert base64.b64decode(answer["images"][0]["base64"]).startswith(PNG)


@shows("edit, bytes", "edit, several images", "edit, mask", clients=AI_SDK)
def test_the_ai_sdk_edits(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    images = [described(path, "bytes") for path in (pictures.source, pictures.second)]
    for asked in ({"image": images[:1]}, {"image": images, "mask": described(pictures.mask, "bytes")}):
        fake.reset()
        answer = sdk.do("edit", customer, **ASKED, **asked)["answer"]
        assert base64.b64decode(answer["images"][0]["base64"]).startswith(PNG)
        (seen,) = fake.requests
        sent = [part for part in seen.files if part.name != "mask"]
        assert all(arrived(*pair) for pair in zip(sent, (pictures.source, pictures.second), strict=False))
        assert len(seen.files) == len(asked["image"]) + ("mask" in asked)


@shows("errors 400, 401, 402, 404", "error 429", clients=AI_SDK)
def test_the_ai_sdks_errors_are_its_own(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    capped = customer.another_key(limits={"spend_total_usd": "0.001"})
    cases: list[tuple[str | None, dict[str, Any], int, str]] = [
        (None, {"size": "17x17"}, 400, "invalid_value"),
        (UNKNOWN, {}, 401, "invalid_api_key"),
        (capped, {}, 402, "billing_hard_limit_reached"),
        (None, {"model": "gpt-image-99"}, 404, "model_not_found"),
    ]
    for key, changes, status, code in cases:
        error = sdk.do("generate", customer, key=key, **{**ASKED, **changes})["error"]
        assert (error["class"], error["status"], error["code"]) == ("APICallError", status, code)
    assert fake.calls == 0
    error = refused_soon(sdk, customer, key=customer.another_key(limits={"requests_per_minute": 1}), **ASKED)
    assert (error["class"], error["status"], error["code"]) == ("APICallError", 429, "rate_limit_exceeded")


@shows("`Idempotency-Key`", clients=AI_SDK)
def test_the_ai_sdk_pays_once_with_a_key(customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine) -> None:
    lossy.lose(2, quietly=False)
    how = {"default_headers": {"Idempotency-Key": "order-7"}}
    answer = sdk.do("generate", customer, base_url=lossy.base_url, how=how, **ASKED)["answer"]
    assert len(answer["images"]) == 1
    assert lossy.retry_counts == ["", "", ""]
    assert (fake.calls, charges()) == (1, 1)


# LangChain's tools


@shows("generate, `url`", "generate, `b64_json`", clients=LANGCHAIN[:1])
def test_langchain_js_generates(customer: Customer, sdk: Sdk) -> None:
    for wanted in ("url", "b64_json"):
        found = sdk.do("generate", customer, **ASKED, response_format=wanted)["answer"]
        assert (fetched(found) if wanted == "url" else base64.b64decode(found)).startswith(PNG)


@shows(clients=LANGCHAIN[:1])
def test_langchain_js_asks_for_the_old_style_and_is_told_of_it(customer: Customer, sdk: Sdk) -> None:
    """It always sends DALL·E's `style`, and its `quality` when none is given."""
    asked = {name: value for name, value in ASKED.items() if name != "quality"}
    assert fetched(sdk.do("generate", customer, **asked)["answer"]).startswith(PNG)


@shows("generate, neither asked for", clients=LANGCHAIN[1:])
def test_langchain_python_generates(customer: Customer, sdk: Sdk) -> None:
    assert fetched(sdk.do("generate", customer, **ASKED)["answer"]).startswith(PNG)
    addresses = sdk.do("generate", customer, **ASKED, n=2)["answer"].split("\n")
    assert [fetched(address)[:8] for address in addresses] == [PNG, PNG]


@shows("errors 400, 401, 402, 404", clients=LANGCHAIN)
def test_langchains_errors_are_openais(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    other = "APIStatusError" if sdk.client.is_python else "APIError"
    capped = customer.another_key(limits={"spend_total_usd": "0.001"})
    cases: list[tuple[str | None, dict[str, Any], str, int]] = [
        (None, {"size": "17x17"}, "BadRequestError", 400),
        (UNKNOWN, {}, "AuthenticationError", 401),
        (capped, {}, other, 402),
        (None, {"model": "gpt-image-99"}, "NotFoundError", 404),
    ]
    for key, changes, kind, status in cases:
        error = sdk.do("generate", customer, key=key, **{**ASKED, **changes})["error"]
        assert (error["class"], error["status"]) == (kind, status)
    assert fake.calls == 0


@shows("error 429", "`Idempotency-Key`", clients=LANGCHAIN[1:])
def test_langchain_python_hands_settings_on_to_openais_client(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    how = {"default_headers": {"Idempotency-Key": "order-7"}}
    first, again = (sdk.do("generate", customer, how=how, **ASKED)["answer"] for _ in range(2))
    assert first == again
    assert (fake.calls, charges()) == (1, 1)
    error = refused_soon(sdk, customer, key=customer.another_key(limits={"requests_per_minute": 1}), **ASKED)
    assert (error["class"], error["status"]) == ("RateLimitError", 429)


@shows("lost reply costs once", clients=LANGCHAIN)
def test_langchain_pays_a_lost_reply_once(customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine) -> None:
    lossy.lose(1)
    assert fetched(sdk.do("generate", customer, base_url=lossy.base_url, **ASKED)["answer"]).startswith(PNG)
    assert lossy.retry_counts == ["0", "1"]
    assert (fake.calls, charges()) == (1, 1)


# LiteLLM


@shows("generate, neither asked for", clients=LITELLM)
def test_litellm_generates(customer: Customer, sdk: Sdk) -> None:
    answer = sdk.do("generate", customer, **as_litellm(ASKED), n=2)["answer"]
    for item in answer["data"]:
        assert fetched(item["url"]) == base64.b64decode(item["b64_json"])
    assert answer["usage"]["output_tokens"] == 2 * 272


@shows(
    *("edit, open file", "edit, bytes", "edit, file in memory", "edit, several images", "edit, mask"), clients=LITELLM
)
def test_litellm_edits(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    for form in FORMS[:3]:
        images = [described(path, form) for path in (pictures.source, pictures.second)]
        for asked in ({"image": images[0]}, {"image": images, "mask": described(pictures.mask, form)}):
            fake.reset()
            answer = sdk.do("edit", customer, **as_litellm(ASKED), **asked)["answer"]
            assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(PNG)
            (seen,) = fake.requests
            sent = [part for part in seen.files if part.name != "mask"]
            assert all(arrived(*pair) for pair in zip(sent, (pictures.source, pictures.second), strict=False))
            assert len(seen.files) == (3 if "mask" in asked else 1)


@shows("variation", clients=LITELLM)
def test_litellm_varies(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    asked: dict[str, Any] = {
        "model": "openai/gpt-image-1",
        "image": described(pictures.source, "opened"),
        "size": "1024x1024",
    }
    answer = sdk.do("vary", customer, **asked)["answer"]
    assert answer["data"][0]["url"]


@shows("errors 400, 401, 402, 404", clients=LITELLM)
def test_litellms_errors_are_its_own(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    """It tells some of them by OpenAI's words in the message."""
    capped = customer.another_key(limits={"spend_total_usd": "0.001"})
    cases: list[tuple[str | None, dict[str, Any], str, int]] = [
        (None, {"size": "17x17"}, "BadRequestError", 400),
        (UNKNOWN, {}, "AuthenticationError", 401),
        ("sk-proj-1234", {}, "AuthenticationError", 401),
        (customer.ended_key(), {}, "AuthenticationError", 401),
        (capped, {}, "APIError", 402),
        (None, {"model": "gpt-image-99"}, "NotFoundError", 404),
    ]
    for key, changes, kind, status in cases:
        error = sdk.do("generate", customer, key=key, **as_litellm({**ASKED, **changes}))["error"]
        assert (error["class"], error["status"]) == (kind, status)
    assert fake.calls == 0


@shows("lost reply costs once", clients=LITELLM)
def test_litellm_pays_a_lost_reply_once(customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine) -> None:
    lossy.lose(1)
    answer = sdk.do("generate", customer, base_url=lossy.base_url, **as_litellm(ASKED))["answer"]
    assert answer["data"][0]["url"]
    assert (fake.calls, charges()) == (1, 1)


@shows("`Idempotency-Key`", clients=LITELLM)
def test_litellm_pays_once_with_a_key(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    how = {"extra_headers": {"Idempotency-Key": "order-7"}}
    first, again = (sdk.do("generate", customer, how=how, **as_litellm(ASKED))["answer"] for _ in range(2))
    assert [item["url"] for item in first["data"]] == [item["url"] for item in again["data"]]
    assert (fake.calls, charges()) == (1, 1)


@shows(clients=LITELLM)
def test_litellm_says_that_an_edits_reply_was_lost(
    customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine, pictures: Pictures
) -> None:
    lossy.lose(1)
    how = {"extra_headers": {"Idempotency-Key": "order-7"}}
    asked = {**as_litellm(ASKED), "image": described(pictures.source, "bytes")}
    assert "error" in sdk.do("edit", customer, base_url=lossy.base_url, how=how, **asked)
    assert sdk.do("edit", customer, base_url=lossy.base_url, how=how, **asked)["answer"]["data"][0]["url"]
    assert lossy.retry_counts == ["", ""]
    assert (fake.calls, charges()) == (1, 1)


@shows(clients=AI_SDK)
def test_the_ai_sdk_does_not_say_that_it_sends_again(
    customer: Customer, sdk: Sdk, fake: ProviderFake, lossy: LossyLine
) -> None:
    lossy.lose(1)
    assert "answer" in sdk.do("generate", customer, base_url=lossy.base_url, **ASKED)
    assert lossy.retry_counts == ["", ""]
    assert (fake.calls, charges()) == (2, 2)


@shows(clients=AI_SDK + LANGCHAIN + LITELLM)
def test_refused_content_is_sent_once(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    fake.behave(misbehaviour.blocked())
    asked = as_litellm(ASKED) if sdk.client.through == "litellm" else ASKED
    error = sdk.do("generate", customer, **asked)["error"]
    assert error["status"] == 400
    assert fake.calls == 1
