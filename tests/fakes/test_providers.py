"""The fake provider itself: the rules it enforces, the bill it keeps, and that it plays its parts."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import orjson
import pybase64
import pytest
from PIL import Image

from tests.fakes import _openai, misbehaviour
from tests.fakes.providers import FAL_KEY, OPENAI_KEY, ProviderFake

ASKED = {"model": "gpt-image-1", "prompt": "a fox in the snow", "quality": "low", "size": "1024x1024"}
SCHNELL = {"prompt": "a fox", "image_size": {"width": 512, "height": 768}}


@pytest.fixture(scope="module")
def running() -> Iterator[ProviderFake]:
    with ProviderFake(retired=frozenset({"gpt-image-1.5"})) as fake:
        yield fake


@pytest.fixture
def fake(running: ProviderFake) -> ProviderFake:
    running.reset()
    return running


def send(
    method: str, url: str, body: Any = None, *, authorization: str = "", kind: str = "application/json"
) -> tuple[int, Any, dict[str, str]]:
    data = body if isinstance(body, bytes) or body is None else orjson.dumps(body)
    headers = {"Content-Type": kind, **({"Authorization": authorization} if authorization else {})}
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            status, content, found = reply.status, reply.read(), dict(reply.headers)
    except urllib.error.HTTPError as error:
        with error:
            status, content, found = error.code, error.read(), dict(error.headers)
    names = {name.lower(): value for name, value in found.items()}
    return status, orjson.loads(content) if content[:1] in b"{[" else content, names


def generate(fake: ProviderFake, *, key: str = OPENAI_KEY, kind: str = "application/json", **changed: Any) -> Any:
    url = f"{fake.openai_url}/images/generations"
    return send("POST", url, {**ASKED, **changed}, authorization=f"Bearer {key}", kind=kind)


def fal(fake: ProviderFake, method: str, url: str, body: Any = None) -> Any:
    return send(method, url, body, authorization=f"Key {FAL_KEY}")


# OpenAI


@pytest.mark.parametrize(
    ("output_format", "size"), [("png", "1024x1024"), ("jpeg", "1536x1024"), ("webp", "1024x1536")]
)
def test_it_draws_real_pictures_of_the_asked_size(fake: ProviderFake, output_format: str, size: str) -> None:
    status, body, headers = generate(fake, n=2, output_format=output_format, size=size)
    assert status == 200
    assert len({item["b64_json"] for item in body["data"]}) == 2
    image = Image.open(io.BytesIO(pybase64.b64decode(body["data"][0]["b64_json"], validate=True)))
    assert (image.format, f"{image.width}x{image.height}") == (output_format.upper(), size)
    assert headers["x-request-id"].startswith("req_")
    assert (fake.calls, fake.billed) == (1, 2)


def test_its_usage_follows_the_table_and_the_prompt(fake: ProviderFake) -> None:
    assert generate(fake, n=2)[1]["usage"] == {
        "input_tokens": 5,
        "output_tokens": 544,
        "total_tokens": 549,
        "input_tokens_details": {"text_tokens": 5, "image_tokens": 0},
        "output_tokens_details": {"image_tokens": 544, "text_tokens": 0},
    }


@pytest.mark.parametrize(
    ("model", "quality", "size", "tokens"),
    [
        ("gpt-image-1", "high", "1024x1536", 6240),
        ("gpt-image-2", "low", "1024x1024", 196),
        ("gpt-image-2", "high", "3840x2160", 13342),
        ("gpt-image-2", "medium", "1024x640", 956),
        ("gpt-image-2.5-sunburst", "medium", "2048x1152", 367),
        ("gpt-image-2.5-flare", "xhigh", "2560x1440", 3276),
        ("gpt-image-2.5-flare", "max", "2048x2048", 14272),
    ],
)
def test_its_tokens_are_those_of_the_published_tables(model: str, quality: str, size: str, tokens: int) -> None:
    assert _openai.output_tokens(model, quality, size) == tokens


@pytest.mark.parametrize(
    ("changed", "param", "code"),
    [
        ({"response_format": "b64_json"}, "response_format", "unknown_parameter"),
        ({"seed": 1}, "seed", "unknown_parameter"),
        ({"size": "512x512"}, "size", "invalid_value"),
        ({"size": "1920x1080", "model": "gpt-image-2"}, "size", "invalid_value"),
        ({"size": "3840x1024", "model": "gpt-image-2"}, "size", "invalid_value"),
        ({"size": "512x512", "model": "gpt-image-2"}, "size", "invalid_value"),
        ({"quality": "max"}, "quality", "invalid_value"),
        ({"quality": "xhigh", "model": "gpt-image-2"}, "quality", "invalid_value"),
        ({"n": 0}, "n", "invalid_value"),
        ({"n": 11}, "n", "invalid_value"),
        ({"n": True}, "n", "invalid_value"),
        ({"background": "transparent", "output_format": "jpeg"}, "background", "invalid_value"),
        ({"output_compression": 50}, "output_compression", "invalid_value"),
        ({"output_compression": 101, "output_format": "webp"}, "output_compression", "invalid_value"),
        ({"moderation": "off"}, "moderation", "invalid_value"),
        ({"prompt": ""}, "prompt", "invalid_value"),
        ({"prompt": "x" * 32_001}, "prompt", "invalid_value"),
        ({"prompt": None}, "prompt", "missing_required_parameter"),
        ({"user": None}, "user", "invalid_type"),
        ({"model": "dall-e-3"}, "model", "model_not_found"),
        ({"model": "gpt-image-1.5"}, "model", "model_not_found"),
    ],
)
def test_it_refuses_what_openai_refuses(fake: ProviderFake, changed: dict[str, Any], param: str, code: str) -> None:
    status, body, _ = generate(fake, **changed)
    assert status == (404 if code == "model_not_found" else 400)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert (body["error"]["param"], body["error"]["code"]) == (param, code)
    assert fake.billed == 0


def test_it_takes_null_for_absent(fake: ProviderFake) -> None:
    assert generate(fake, n=None, size=None, quality=None, background=None)[0] == 200


def test_it_takes_newer_qualities_and_sizes(fake: ProviderFake) -> None:
    assert generate(fake, model="gpt-image-2.5-flare", quality="max", size="1024x768")[1]["size"] == "1024x768"


def test_it_wants_the_right_key_and_masks_a_wrong_one(fake: ProviderFake) -> None:
    status, body, _ = generate(fake, key="sk-wrong-0123456789")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    assert "***" in body["error"]["message"]
    assert generate(fake, kind="text/plain")[0] == 415
    assert send("POST", f"{fake.openai_url}/images/generations", b"{", authorization=f"Bearer {OPENAI_KEY}")[0] == 400


def test_it_lists_models(fake: ProviderFake) -> None:
    status, body, _ = send("GET", f"{fake.openai_url}/models", authorization=f"Bearer {OPENAI_KEY}")
    names = [model["id"] for model in body["data"]]
    assert status == 200 and "gpt-image-2" in names and "gpt-image-1.5" not in names
    for name, expected in (("gpt-image-1", 200), ("gpt-image-1.5", 404)):
        url = f"{fake.openai_url}/models/{name}"
        assert send("GET", url, authorization=f"Bearer {OPENAI_KEY}")[0] == expected
    assert fake.calls == 0


# fal


def test_it_runs_a_model_and_serves_its_file(fake: ProviderFake) -> None:
    status, body, headers = fal(fake, "POST", f"{fake.fal_run_url}/fal-ai/flux/schnell", SCHNELL)
    assert status == 200
    assert (body["images"][0]["width"], body["has_nsfw_concepts"]) == (512, [False])
    assert headers["x-fal-billable-units"] == "1.0"
    _, data, found = send("GET", body["images"][0]["url"])
    assert Image.open(io.BytesIO(data)).size == (512, 768)
    assert found["content-type"] == "image/jpeg"
    assert fal(fake, "GET", body["images"][0]["url"])[0] == 400
    assert fake.billed == 1


def test_it_gives_pictures_inline_in_sync_mode(fake: ProviderFake) -> None:
    _, body, _ = fal(fake, "POST", f"{fake.fal_run_url}/openai/gpt-image-2", {"prompt": "a fox", "sync_mode": True})
    assert body["images"][0]["url"].startswith("data:image/png;base64,iVBORw0KGg")
    assert "usage" not in body


@pytest.mark.parametrize(
    ("name", "asked", "field", "kind"),
    [
        ("fal-ai/gpt-image-1/text-to-image", {"image_size": "512x512"}, "image_size", "literal_error"),
        ("fal-ai/gpt-image-1.5", {"image_size": "auto"}, "image_size", "literal_error"),
        ("fal-ai/gpt-image-1/text-to-image", {"num_images": 5}, "num_images", "less_than_equal"),
        ("fal-ai/flux/dev", {"num_images": 0}, "num_images", "greater_than_equal"),
        ("fal-ai/flux/dev", {"output_format": "webp"}, "output_format", "literal_error"),
        ("fal-ai/flux/dev", {"image_size": {"width": 5, "height": 5}}, "image_size", "value_error"),
        ("fal-ai/flux/dev", {"prompt": None}, "prompt", "missing"),
        ("openai/gpt-image-2", {"quality": "auto"}, "quality", "literal_error"),
    ],
)
def test_it_refuses_what_fal_refuses(
    fake: ProviderFake, name: str, asked: dict[str, Any], field: str, kind: str
) -> None:
    status, body, headers = fal(fake, "POST", f"{fake.fal_run_url}/{name}", {"prompt": "a fox", **asked})
    assert status == 422
    assert (body["detail"][0]["loc"], body["detail"][0]["type"]) == (["body", field], kind)
    assert headers["x-fal-retryable"] == "false"


def test_it_takes_a_key_and_no_bearer(fake: ProviderFake) -> None:
    url = f"{fake.fal_run_url}/fal-ai/flux/dev"
    assert send("POST", url, SCHNELL, authorization=f"Bearer {FAL_KEY}")[0] == 401
    assert send("POST", url, SCHNELL, authorization="Key wrong")[0] == 401
    assert fal(fake, "POST", f"{fake.fal_run_url}/fal-ai/nothing", SCHNELL)[0] == 404


def test_a_queued_job_goes_through_its_states() -> None:
    with ProviderFake(queue_s=0.2, delay_s=0.2) as fake:
        _, job, _ = fal(fake, "POST", f"{fake.fal_queue_url}/fal-ai/flux/dev", SCHNELL)
        assert job["status_url"] == f"{fake.fal_queue_url}/fal-ai/flux/requests/{job['request_id']}/status"
        seen: list[tuple[int, str]] = []
        begun = time.monotonic()
        while not seen or seen[-1] != (200, "COMPLETED"):
            status, body, _ = fal(fake, "GET", job["status_url"])
            if (status, body["status"]) not in seen:
                seen.append((status, body["status"]))
            assert time.monotonic() - begun < 3
        assert seen == [(202, "IN_QUEUE"), (202, "IN_PROGRESS"), (200, "COMPLETED")]
        assert fal(fake, "GET", job["response_url"])[1]["images"]
        assert fake.billed == 1


def test_a_waiting_job_can_be_cancelled_and_a_running_one_finishes() -> None:
    with ProviderFake(queue_s=0.3) as fake:
        job = fal(fake, "POST", f"{fake.fal_queue_url}/fal-ai/flux/dev", SCHNELL)[1]
        assert fal(fake, "PUT", job["cancel_url"])[0] == 202
        assert fal(fake, "GET", job["status_url"])[1]["error_type"] == "request_cancelled"
        assert fal(fake, "PUT", job["cancel_url"])[0] == 400
        assert fake.billed == 0
    with ProviderFake(delay_s=0.2) as fake:
        job = fal(fake, "POST", f"{fake.fal_queue_url}/fal-ai/flux/dev", SCHNELL)[1]
        assert fal(fake, "PUT", job["cancel_url"])[0] == 202
        time.sleep(0.25)
        assert fal(fake, "GET", job["response_url"])[0] == 200
        assert fake.billed == 1


def test_a_wrong_input_shows_in_the_result_of_the_queue(fake: ProviderFake) -> None:
    job = fal(fake, "POST", f"{fake.fal_queue_url}/fal-ai/flux/dev", {"prompt": "x", "num_images": 9})[1]
    status = fal(fake, "GET", job["status_url"])[1]
    assert (status["status"], status["error"]) == ("COMPLETED", "Invalid status code: 422")
    assert fal(fake, "GET", job["response_url"])[0] == 422


# The parts it plays


def test_it_plays_a_script_once_and_a_standing_part_until_told(fake: ProviderFake) -> None:
    fake.script(misbehaviour.rate_limited(), misbehaviour.html(502))
    assert [generate(fake)[0] for _ in range(3)] == [429, 502, 200]
    fake.behave(misbehaviour.blocked())
    assert [generate(fake)[0] for _ in range(2)] == [400, 400]
    fake.behave(None)
    assert generate(fake)[0] == 200
    assert (fake.calls, fake.billed) == (6, 2)


def test_a_part_for_one_route_leaves_the_others_alone(fake: ProviderFake) -> None:
    fake.behave(misbehaviour.html(500), on="run")
    assert generate(fake)[0] == 200
    assert fal(fake, "POST", f"{fake.fal_run_url}/fal-ai/flux/dev", SCHNELL)[0] == 500


def test_it_bills_what_it_never_delivers(fake: ProviderFake) -> None:
    fake.script(misbehaviour.bill_and_drop(), misbehaviour.drop())
    for billed in (2, 2):
        with pytest.raises(OSError):  # noqa: PT011 - a closed or a reset connection
            generate(fake, n=2)
        assert fake.billed == billed


def test_it_weighs_as_much_as_told() -> None:
    with ProviderFake(picture_bytes=1_500_000) as fake:
        data = pybase64.b64decode(generate(fake)[1]["data"][0]["b64_json"])
    assert 1_500_000 <= len(data) < 1_510_000
    image = Image.open(io.BytesIO(data))
    image.load()
    assert image.size == (1024, 1024)


def test_it_holds_hundreds_of_slow_requests_at_once() -> None:
    with ProviderFake(delay_s=0.8) as fake:
        found: list[int] = []
        threads = [threading.Thread(target=lambda: found.append(generate(fake)[0])) for _ in range(300)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [200] * 300
        assert time.monotonic() - begun < 8
        assert fake.billed == 300


def test_stopping_ends_requests_that_hang() -> None:
    fake = ProviderFake().start()
    fake.script(misbehaviour.hang())
    caught: list[BaseException] = []

    def run() -> None:
        try:
            generate(fake)
        except OSError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not fake.calls:
        time.sleep(0.01)
    begun = time.monotonic()
    fake.stop()
    thread.join(3)
    assert caught and time.monotonic() - begun < 3


def test_it_runs_as_a_process_with_its_own_keys() -> None:
    command = [sys.executable, "-m", "tests.fakes.providers", "--port", "0", "--openai-key", "sk-own-key"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        match = re.fullmatch(r"OPENAI_BASE_URL=(http://127\.0\.0\.1:\d+/v1)\n", process.stdout.readline())
        assert match is not None
        assert send("GET", f"{match[1]}/models", authorization="Bearer sk-own-key")[0] == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
