"""images/edits and images/variations: every spelling of a form, JSON, and what is refused before money is held."""

from __future__ import annotations

import io
from typing import Any

import PIL.Image
import pytest
from django.test import Client

from imagesapi.models import Generation
from tests.envelope import assert_refused
from tests.fakes.providers import ProviderFake
from tests.imagesapi.canvas import data_uri, mask, picture
from tests.imagesapi.conftest import Caller, assert_nothing_happened
from tests.people import IssuedKey

EDITS = "/openai/v1/images/edits"
VARIATIONS = "/openai/v1/images/variations"
BOUNDARY = "simple-boundary"
Parts = list[tuple[str, str | None, bytes]]


def form(*parts: tuple[str, str | None, bytes]) -> bytes:
    """A body with these parts in this order: name, file name or None, bytes."""
    lines = []
    for name, filename, data in parts:
        head = f'Content-Disposition: form-data; name="{name}"'
        if filename is not None:
            head += f'; filename="{filename}"\r\nContent-Type: application/octet-stream'
        lines.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode()


FIELDS: Parts = [
    ("model", None, b"openai/gpt-image-1"),
    ("prompt", None, b"make it blue"),
    ("size", None, b"1024x1024"),
    ("quality", None, b"low"),
]


def send(caller: Caller, *parts: tuple[str, str | None, bytes], path: str = EDITS) -> Any:
    return caller.send(form(*parts), content_type=f"multipart/form-data; boundary={BOUNDARY}", path=path)


def sent_pictures(fake: ProviderFake) -> list[tuple[str, tuple[int, int]]]:
    """Part names and dimensions of the pictures that the provider got, in their order."""
    return [
        (part.name, PIL.Image.open(io.BytesIO(part.data)).size)
        for part in fake.requests[-1].parts
        if part.filename is not None
    ]


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "images", "image_url"])
def test_it_takes_a_picture_under_every_name(caller: Caller, providers: ProviderFake, name: str) -> None:
    answer = send(caller, *FIELDS, (name, "source.png", picture()))
    assert answer.status_code == 200, answer.content
    assert answer.json()["data"][0]["url"]
    assert answer.json()["metadata"]["provider"] == "openai"
    assert [size for _, size in sent_pictures(providers)] == [(64, 48)]
    row = Generation.objects.get()
    assert row.endpoint == "images/edits"
    assert [(one["width"], one["height"]) for one in row.asked["image"]] == [(64, 48)]


def test_it_keeps_the_order_of_pictures_across_names_and_kinds(caller: Caller, providers: ProviderFake) -> None:
    widths = (10, 20, 30, 40)
    one, two, three, four = (picture(size=(width, 16)) for width in widths)
    answer = send(
        caller,
        ("image[]", "a.png", one),
        *FIELDS,
        ("image", None, data_uri(two).encode()),
        ("image[7]", "c", three),
        ("image", "d.png", data_uri(four).encode()),
    )
    assert answer.status_code == 200, answer.content
    assert [size[0] for _, size in sent_pictures(providers)] == list(widths)


def test_it_names_the_endpoint_that_edited(caller: Caller, providers: ProviderFake) -> None:
    fields: Parts = [("model", None, b"fal/gpt-image-1"), *FIELDS[1:]]
    answer = send(caller, *fields, ("image", "x", picture()))
    assert answer.json()["metadata"]["executed_model"] == "fal/fal-ai/gpt-image-1/edit-image"
    assert answer.headers["x-pixelpar-model"] == "fal/fal-ai/gpt-image-1/edit-image"
    row = Generation.objects.get()
    assert [attempt.executed_model for attempt in row.attempts.all()] == ["fal/fal-ai/gpt-image-1/edit-image"]
    assert (row.receipt or {})["executed_model"] == "fal/fal-ai/gpt-image-1/edit-image"


def test_it_reads_numbers_and_booleans_of_a_form(caller: Caller, providers: ProviderFake) -> None:
    answer = send(caller, *FIELDS, ("n", None, b"2"), ("strict", None, b"false"), ("image", "x", picture()))
    assert answer.status_code == 200, answer.content
    assert len(answer.json()["data"]) == 2
    assert Generation.objects.get().asked["n"] == 2


def test_it_keeps_metadata_of_a_form(caller: Caller) -> None:
    answer = send(caller, *FIELDS, ("metadata[order]", None, b"7"), ("image", "x", picture()))
    assert answer.status_code == 200, answer.content
    assert Generation.objects.get().metadata == {"order": "7"}


def test_it_sends_a_mask(caller: Caller, providers: ProviderFake) -> None:
    answer = send(caller, ("mask", "mask.png", mask()), *FIELDS, ("image", "x", picture()))
    assert answer.status_code == 200, answer.content
    assert sorted(name for name, _ in sent_pictures(providers)) == ["image", "mask"]


def test_it_takes_json(caller: Caller, providers: ProviderFake) -> None:
    body = {
        "model": "openai/gpt-image-1",
        "prompt": "make it blue",
        "size": "1024x1024",
        "quality": "low",
        "images": [{"image_url": data_uri(picture(size=(20, 10)))}, {"image_url": data_uri(picture())}],
        "mask": {"image_url": data_uri(mask(size=(20, 10)))},
    }
    answer = caller.send(body, path=EDITS)
    assert answer.status_code == 200, answer.content
    assert [size for name, size in sent_pictures(providers) if name != "mask"] == [(20, 10), (64, 48)]


def test_it_turns_a_variation_into_an_edit(caller: Caller, providers: ProviderFake) -> None:
    answer = send(caller, ("model", None, b"openai/gpt-image-1"), ("image", "x", picture()), path=VARIATIONS)
    assert answer.status_code == 200, answer.content
    text = {part.name: part.data for part in providers.requests[-1].parts if part.filename is None}
    assert b"variation" in text["prompt"]
    assert Generation.objects.get().endpoint == "images/variations"


def test_it_prices_an_edit_without_making_it(caller: Caller, providers: ProviderFake) -> None:
    answer = send(caller, *FIELDS, ("dryRun", None, b"true"), ("image", "x", picture()))
    assert answer.status_code == 200, answer.content
    assert answer.json()["hold_micros"] > 0
    assert_nothing_happened(providers)


BROKEN: list[tuple[str, Parts, int, str, str | None]] = [
    ("no picture", FIELDS, 400, "missing_required_parameter", "image"),
    ("no prompt", [("model", None, b"gpt-image-1"), ("image", "x", b"p")], 400, "missing_required_parameter", "prompt"),
    ("not a picture", [*FIELDS, ("image", "x.png", b"hello there")], 400, "unsupported_file_mimetype", "image"),
    ("an empty one", [*FIELDS, ("image", "x.png", b"")], 400, "invalid_image_file", "image"),
    ("a cut one", [*FIELDS, ("image", "x", picture()[:60])], 400, "invalid_image_file", "image"),
    ("a broken data URI", [*FIELDS, ("image", None, b"data:image/png;base64,@@")], 400, "invalid_image_file", "image"),
    ("an internal address", [*FIELDS, ("image", None, b"https://127.0.0.1/a.png")], 400, "invalid_image_url", "image"),
    ("a plain address", [*FIELDS, ("image", None, b"http://example.com/a.png")], 400, "invalid_image_url", "image"),
    ("17 pictures", [*FIELDS, *[("image[]", "x", picture())] * 17], 400, "too_many_images", "image"),
    (
        "a mask of another size",
        [*FIELDS, ("image", "x", picture()), ("mask", "m", mask(size=(32, 32)))],
        400,
        "invalid_mask",
        "mask",
    ),
    (
        "mask and markup",
        [*FIELDS, ("image", "x", picture()), ("mask", "m", mask()), ("markup", "m", mask())],
        400,
        "invalid_value",
        "markup",
    ),
    ("a prompt twice", [*FIELDS, ("prompt", None, b"b"), ("image", "x", picture())], 400, "invalid_value", "prompt"),
    ("a prompt as a file", [("prompt", "p.txt", b"b"), ("image", "x", picture())], 400, "invalid_value", "prompt"),
    ("a list of masks", [*FIELDS, ("image", "x", picture()), ("mask[]", "m", mask())], 400, "invalid_value", "mask"),
    ("n in words", [*FIELDS, ("n", None, b"two"), ("image", "x", picture())], 400, "invalid_type", "n"),
    (
        "a stream of a GIF",
        [*FIELDS, ("stream", None, b"true"), ("output_format", None, b"gif"), ("image", "x", picture())],
        400,
        "invalid_value",
        "output_format",
    ),
]


@pytest.mark.parametrize(("parts", "status", "code", "param"), [row[1:] for row in BROKEN], ids=[r[0] for r in BROKEN])
def test_it_refuses_before_money_is_held(
    caller: Caller, providers: ProviderFake, parts: Parts, status: int, code: str, param: str | None
) -> None:
    assert_refused(send(caller, *parts), status, code, param=param)
    assert_nothing_happened(providers)


@pytest.mark.parametrize("name", ["mask", "markup"])
def test_a_variation_has_no_overlay(caller: Caller, providers: ProviderFake, name: str) -> None:
    """As the document says: with one it would be an edit whose prompt nobody wrote."""
    answer = send(caller, *FIELDS[:1], ("image", "x", picture()), (name, "m", mask()), path=VARIATIONS)
    assert_refused(answer, 400, "unknown_parameter", param=name, says="images/edits")
    assert_nothing_happened(providers)


BODIES: list[tuple[str, bytes, int, str]] = [
    ("without a boundary", b"x", 400, "invalid_multipart"),
    ("cut short", form(*FIELDS, ("image", "x", picture()))[:-30], 400, "invalid_multipart"),
    ("nothing in it", b"hello", 400, "invalid_multipart"),
    ("too many parts", form(*[("a", None, b"b")] * 300), 413, "request_too_large"),
    ("a part without a name", form(("", None, b"b")), 400, "invalid_multipart"),
    (
        "a mask whose name is no UTF-8",
        form(*FIELDS, ("image", "x", picture()), ("mask", "m", mask())).replace(b'"m"', b'"masqu\xe9"'),
        400,
        "invalid_multipart",
    ),
    (
        "a part that says nothing of itself",
        form(*FIELDS, ("image", "x", picture()), ("n", None, b"2")).replace(
            b'Disposition: form-data; name="n"', b"A: b"
        ),
        400,
        "invalid_multipart",
    ),
]


@pytest.mark.parametrize(("body", "status", "code"), [row[1:] for row in BODIES], ids=[row[0] for row in BODIES])
def test_it_refuses_a_broken_form(caller: Caller, providers: ProviderFake, body: bytes, status: int, code: str) -> None:
    kind = f"multipart/form-data; boundary={BOUNDARY}" if len(body) > 1 else "multipart/form-data"
    assert_refused(caller.send(body, content_type=kind, path=EDITS), status, code)
    assert_nothing_happened(providers)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([{"file_id": "file-1"}], "no Files API"),
        ([{"image_url": "x", "more": 1}], "nothing else"),
        (["not an address"], "neither"),
        ([7], "an https address"),
    ],
)
def test_it_refuses_other_references(caller: Caller, providers: ProviderFake, images: Any, says: str) -> None:
    answer = caller.send({"model": "gpt-image-1", "prompt": "a", "images": images}, path=EDITS)
    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
    assert_nothing_happened(providers)


def test_it_says_which_models_cannot_edit(caller: Caller) -> None:
    answer = send(caller, ("model", None, b"flux.1-schnell"), ("prompt", None, b"a"), ("image", "x", picture()))
    assert_refused(answer, 400, "unsupported_operation", param="model")


def test_it_points_from_generations_to_edits(caller: Caller, providers: ProviderFake) -> None:
    for name in ("image", "mask", "input_fidelity", "image_url", "scale_factor"):
        assert_refused(caller.ask(**{name: "x"}), 400, "unknown_parameter", param=name, says="images/edits")
    assert_nothing_happened(providers)


def test_it_needs_a_key(db: None, api_key: IssuedKey) -> None:
    body = form(*FIELDS, ("image", "x", picture()))
    answer = Client().post(EDITS, body, content_type=f"multipart/form-data; boundary={BOUNDARY}")
    assert answer.status_code == 401
