"""OpenAI's own SDKs and streams: unfinished pictures, finished ones, and an error in the middle as an exception."""

from __future__ import annotations

import base64
from typing import Any

from tests.contract.conftest import Customer, Pictures, Sdk
from tests.contract.matrix import STREAMING, shows
from tests.contract.test_sdk_edits import described
from tests.fakes import stream_misbehaviour
from tests.fakes.providers import ProviderFake

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"}
STREAMED: dict[str, Any] = {**ASKED, "stream": True, "partial_images": 2}


def assert_is_a_whole_stream(events: list[dict[str, Any]], kind: str) -> None:
    assert [event["type"] for event in events] == [*[f"{kind}.partial_image"] * 2, f"{kind}.completed"]
    assert [event["partial_image_index"] for event in events[:2]] == [0, 1]
    assert all(base64.b64decode(event["b64_json"]).startswith(b"\x89PNG") for event in events)
    last = events[-1]
    assert last["usage"]["output_tokens"] == 272 + 2 * 100
    assert (last["size"], last["quality"], last["output_format"]) == ("1024x1024", "low", "png")
    assert last["metadata"]["cost"] > 0


@shows("stream a generation", clients=STREAMING)
def test_it_streams_a_generation(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    assert_is_a_whole_stream(sdk.do("generate", customer, **STREAMED)["answer"], "image_generation")
    assert fake.calls == 1


@shows("stream an edit", clients=STREAMING)
def test_it_streams_an_edit(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    answer = sdk.do("edit", customer, **STREAMED, image=described(pictures.source, "opened"))["answer"]
    assert_is_a_whole_stream(answer, "image_edit")
    assert fake.calls == 1


@shows("error in a stream", clients=STREAMING)
def test_an_error_in_a_stream_is_an_exception(customer: Customer, sdk: Sdk, fake: ProviderFake) -> None:
    fake.behave(stream_misbehaviour.error(stream_misbehaviour.MODERATION, after=1))
    found = sdk.do("generate", customer, **STREAMED)
    assert [event["type"] for event in found["seen"]] == ["image_generation.partial_image"]
    assert (found["error"]["class"], found["error"]["code"]) == ("APIError", "moderation_blocked")
    assert found["error"]["type"] == "image_generation_user_error"


@shows(clients=STREAMING)
def test_what_is_wrong_before_the_stream_is_an_ordinary_error(customer: Customer, sdk: Sdk) -> None:
    error = sdk.do("generate", customer, **{**STREAMED, "partial_images": 9})["error"]
    assert (error["class"], error["status"], error["param"]) == ("BadRequestError", 400, "partial_images")
