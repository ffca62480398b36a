"""The fake's edits and streams: the form it insists on, and OpenAI's exact events on both routes."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from tests.fakes import _forms, _pictures
from tests.fakes.providers import OPENAI_KEY, ProviderFake

PICTURE = _pictures.draw(64, 48, "png")
Parts = list[tuple[str, str]]


@pytest.fixture(scope="module")
def running() -> Iterator[ProviderFake]:
    with ProviderFake() as fake:
        yield fake


@pytest.fixture
def fake(running: ProviderFake) -> ProviderFake:
    running.reset()
    return running


def form(fields: dict[str, str], files: Parts, *, data: bytes = PICTURE) -> bytes:
    pieces = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()
    ]
    written = "".join(pieces).encode()
    for name, kind in files:
        head = (
            f'--b\r\nContent-Disposition: form-data; name="{name}"; filename="upload"\r\nContent-Type: {kind}\r\n\r\n'
        )
        written += head.encode() + data + b"\r\n"
    return written + b"--b--\r\n"


def post(
    fake: ProviderFake, body: bytes, *, route: str = "edits", kind: str = "multipart/form-data; boundary=b"
) -> Any:
    headers = {"Content-Type": kind, "Authorization": f"Bearer {OPENAI_KEY}"}
    request = urllib.request.Request(f"{fake.openai_url}/images/{route}", data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as reply:
            return reply.status, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def edit(fake: ProviderFake, files: Parts, *, data: bytes = PICTURE, **fields: str) -> Any:
    status, body = post(fake, form({"model": "gpt-image-1", "prompt": "a fox", **fields}, files, data=data))
    return status, orjson.loads(body)


def test_it_edits_what_comes_as_image_or_as_a_list(fake: ProviderFake) -> None:
    assert edit(fake, [("image", "image/png")])[0] == 200
    status, body = edit(fake, [("image[]", "image/png")] * 16, quality="low")
    assert status == 200
    assert body["usage"]["input_tokens_details"] == {"text_tokens": 2, "image_tokens": 16 * 194}
    assert (fake.calls, fake.billed) == (2, 2)
    assert len(fake.requests[1].files) == 16 and fake.requests[1].form["quality"] == "low"


@pytest.mark.parametrize(
    ("files", "param", "code"),
    [
        ([("image", "application/octet-stream")], "image", "unsupported_file_mimetype"),
        ([("image", "image/jpeg")], "image", "invalid_image_file"),
        ([("image", "image/png"), ("image", "image/png")], "image", "invalid_value"),
        ([("image[]", "image/png")] * 17, "image", "invalid_value"),
        ([("picture", "image/png")], "picture", "unknown_parameter"),
        ([], "image", "missing_required_parameter"),
        ([("image", "image/png"), ("mask", "image/png")], "mask", "invalid_image_file"),
    ],
)
def test_it_refuses_files_as_openai_does(fake: ProviderFake, files: Parts, param: str, code: str) -> None:
    status, body = edit(fake, files)
    assert (status, body["error"]["param"], body["error"]["code"]) == (400, param, code)
    assert fake.billed == 0


@pytest.mark.parametrize(
    "fields",
    [{"moderation": "low"}, {"style": "vivid"}, {"image": "text"}, {"n": "two"}, {"stream": "yes"}, {"seed": "1"}],
)
def test_it_refuses_fields_as_openai_does(fake: ProviderFake, fields: dict[str, str]) -> None:
    status, answer = post(fake, form({"model": "gpt-image-1", "prompt": "a fox", **fields}, [("image", "image/png")]))
    body = orjson.loads(answer)
    assert (status, body["error"]["param"]) == (400, next(iter(fields)))


@pytest.mark.parametrize("cut", [slice(1, None), slice(None, -4), slice(40, None)])
def test_it_reads_only_whole_forms(fake: ProviderFake, cut: slice) -> None:
    body = form({"model": "gpt-image-1", "prompt": "a fox"}, [("image", "image/png")])
    with pytest.raises(_forms.Malformed):
        _forms.read("multipart/form-data; boundary=b", body[cut])
    assert post(fake, body[cut])[0] == 400


def events(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for block in body.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), orjson.loads(data.removeprefix("data: "))))
    return found


def test_it_streams_the_events_of_the_reference(fake: ProviderFake) -> None:
    asked = {"model": "gpt-image-1", "prompt": "a fox", "stream": True, "partial_images": 1, "n": 2}
    status, made = post(fake, orjson.dumps(asked), route="generations", kind="application/json")
    fields = {"model": "gpt-image-1", "prompt": "a fox", "stream": "true", "partial_images": "1", "n": "2"}
    changed = post(fake, form(fields, [("image", "image/png")]))[1]
    assert status == 200
    state = {"type", "b64_json", "created_at", "size", "quality", "background", "output_format"}
    for prefix, body in (("image_generation", made), ("image_edit", changed)):
        told = events(body)
        assert [name for name, _ in told] == [f"{prefix}.partial_image", f"{prefix}.completed"] * 2
        assert all(name == facts["type"] for name, facts in told)
        assert set(told[0][1]) == state | {"partial_image_index"}
        assert set(told[1][1]) == state | {"usage"}
        assert "output_tokens_details" not in told[1][1]["usage"]


def test_it_forgets_the_contents_of_many_large_requests(fake: ProviderFake) -> None:
    padded = _pictures.draw(64, 48, "png") + bytes(70_000)
    for _ in range(202):
        edit(fake, [("image", "image/gif")], data=padded)
    assert [bool(seen.parts) for seen in fake.requests] == [True] * 200 + [False] * 2
