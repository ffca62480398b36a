"""Streams to the caller: native and emulated, with heartbeats, errors in the nested form, and readers who leave."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client

from billing.models import Transfer
from imagesapi import streaming
from imagesapi.models import Generation, Image
from tests import money
from tests.envelope import assert_refused
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi.canvas import data_uri, picture
from tests.imagesapi.conftest import GENERATIONS
from tests.imagesapi.test_edits import EDITS, FIELDS, form
from tests.people import IssuedKey

ASKED: dict[str, Any] = {"model": "openai/gpt-image-1", "prompt": "a fox", "size": "1024x1024", "quality": "low"}
REQUIRED = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format"}


@pytest.fixture
def key(committed: None, providers: ProviderFake) -> Iterator[IssuedKey]:
    _, found = money.customer(wallet_nanos=10**10)
    yield found
    assert money.wrongs() == []


def ask(key: IssuedKey, *, path: str = GENERATIONS, headers: dict[str, str] | None = None, **body: Any) -> Any:
    client = Client(raise_request_exception=False, headers={**key.headers, **(headers or {})})
    return client.post(path, json.dumps({**ASKED, "stream": True, **body}), content_type="application/json")


def events(answer: Any) -> list[dict[str, Any]]:
    """The events of a stream, comments left out; the name and the data's type must agree."""
    assert answer.headers["Content-Type"] == "text/event-stream", answer.content
    found = []
    for block in b"".join(answer.streaming_content).decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if lines:
            data = json.loads(lines["data"])
            assert data["type"] == lines["event"]
            found.append(data)
    return found


def settled(count: int = 1) -> None:
    """Wait until so many requests are completed, whoever reads."""
    give_up_at = time.monotonic() + 10
    while Generation.objects.filter(status="completed").count() < count:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_it_streams_what_the_provider_streams(key: IssuedKey) -> None:
    found = events(ask(key, partial_images=2))
    assert [one["type"].rpartition(".")[2] for one in found] == ["partial_image", "partial_image", "completed"]
    assert [one["partial_image_index"] for one in found[:2]] == [0, 1]
    last = found[-1]
    assert last["type"] == "image_generation.completed"
    assert last.keys() >= REQUIRED | {"usage", "url", "id", "metadata"}
    assert last["metadata"]["cost"] > 0
    row = Generation.objects.get()
    assert (row.status, Image.objects.count()) == ("completed", 1)


def test_an_unfinished_picture_costs_100_image_tokens(key: IssuedKey) -> None:
    without, with_two = (events(ask(key, partial_images=count))[-1] for count in (0, 2))
    assert with_two["usage"]["output_tokens"] - without["usage"]["output_tokens"] == 200
    assert with_two["metadata"]["cost"] - without["metadata"]["cost"] == pytest.approx(200 * 40e-6)


def test_it_streams_where_the_provider_cannot(key: IssuedKey) -> None:
    found = events(ask(key, model="fal/gpt-image-1", partial_images=2))
    assert [one["type"] for one in found] == ["image_generation.completed"]
    (change,) = [one for one in found[0]["metadata"]["adjustments"] if one["parameter"] == "partial_images"]
    assert (change["asked"], change["used"]) == (2, 0)


def test_strict_refuses_unfinished_pictures_that_nobody_makes(key: IssuedKey, providers: ProviderFake) -> None:
    answer = ask(key, model="fal/gpt-image-1", partial_images=2, strict=True)
    assert_refused(answer, 400, "adjustment_refused", param="partial_images")
    assert providers.calls == 0


def test_several_pictures_share_the_usage(key: IssuedKey) -> None:
    found = events(ask(key, n=3))
    assert len(found) == 3
    told = (Generation.objects.get().receipt or {})["evidence"]["usage"]
    assert sum(one["usage"]["output_tokens"] for one in found) == sum(one["output_tokens"] for one in told)


def test_edits_stream_as_edits(key: IssuedKey) -> None:
    body: dict[str, Any] = {"images": [{"image_url": data_uri(picture())}], "partial_images": 1}
    found = events(ask(key, path=EDITS, **body))
    assert [one["type"] for one in found] == ["image_edit.partial_image", "image_edit.completed"]


def test_a_form_streams_too(key: IssuedKey) -> None:
    client = Client(headers=key.headers)
    body = form(*FIELDS, ("stream", None, b"true"), ("image", "x", picture()))
    found = events(client.post(EDITS, body, content_type="multipart/form-data; boundary=simple-boundary"))
    assert found[-1]["type"] == "image_edit.completed"


def test_what_fails_before_the_first_byte_is_an_ordinary_error(key: IssuedKey, providers: ProviderFake) -> None:
    providers.script(misbehaviour.blocked())
    assert_refused(ask(key), 400, "moderation_blocked")
    assert_refused(ask(key, model="nothing"), 404, "model_not_found", param="model")


def test_what_fails_later_is_told_in_the_nested_form(
    key: IssuedKey, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.1)
    failing = misbehaviour.delayed(0.5, misbehaviour.status(500))
    providers.script(failing)
    (last,) = events(ask(key))
    assert last["type"] == "error"
    assert last["error"].keys() >= {"message", "type", "param", "code"}
    assert last["error"]["code"] == "all_providers_failed"
    assert not Transfer.objects.filter(kind="charge").exists()


def test_it_sends_heartbeats_while_nothing_comes(
    key: IssuedKey, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.05)
    providers.script(misbehaviour.delayed(0.4))
    text = b"".join(ask(key).streaming_content)
    assert text.startswith(b": ")
    assert text.count(b": the provider is at work\n\n") >= 3
    assert b"image_generation.completed" in text


def test_a_reader_who_leaves_changes_nothing(
    key: IssuedKey, providers: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "HEARTBEAT_S", 0.05)
    providers.script(misbehaviour.delayed(0.3))
    answer = ask(key)
    next(iter(answer.streaming_content))
    answer.close()
    settled()
    assert Transfer.objects.filter(kind="charge").count() == 1


def test_a_stream_is_replayed_as_a_stream(key: IssuedKey, providers: ProviderFake) -> None:
    first, second = (events(ask(key, headers={"Idempotency-Key": "s"})) for _ in range(2))
    assert first[-1] == second[-1]
    assert providers.calls == 1


def test_a_stream_and_a_later_answer_do_not_go_together(key: IssuedKey, providers: ProviderFake) -> None:
    assert_refused(ask(key, headers={"Prefer": "respond-async"}), 400, "invalid_value", param="stream")
    assert providers.calls == 0
