"""OpenAI's own SDKs and pictures: every form of upload, masks, several pictures, variations."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.contract.conftest import Customer, Pictures, Sdk
from tests.contract.lossy import LossyLine
from tests.contract.matrix import NODE, SDKS, shows
from tests.fakes._exchange import Part
from tests.fakes.providers import ProviderFake

ASKED: dict[str, Any] = {"model": "gpt-image-1", "prompt": "a hat on it", "size": "1024x1024", "quality": "low"}
# What our servers see of the part's name and type is the SDK's; what the provider gets is always right.
FORMS = ("opened", "bytes", "memory", "named")

# These send open files in the order in which they were done reading them.
READ_IN_ANY_ORDER = ("node 4", "node 5")


def described(path: Path, form: str) -> dict[str, str]:
    """A file as a client script is told to hand it over; a name and a type only where the form has them."""
    return {"form": form, "path": str(path), "name": "anything.png", "type": "image/png"}


def drawn(data: bytes) -> tuple[object, ...]:
    """A picture's pixels, which is what must arrive: notes in the file are taken out on the way."""
    image = Image.open(io.BytesIO(data))
    return image.size, image.mode, image.tobytes()


def arrived(part: Part, path: Path) -> bool:
    return drawn(part.data) == drawn(path.read_bytes())


def edited(sdk: Sdk, customer: Customer, fake: ProviderFake, **asked: Any) -> list[Part]:
    """The files that reached the provider, after a look at the answer."""
    fake.reset()
    answer = sdk.do("edit", customer, **ASKED, **asked)["answer"]
    assert base64.b64decode(answer["data"][0]["b64_json"]).startswith(b"\x89PNG")
    assert answer["data"][0]["url"].startswith(customer.server.url)
    assert answer["metadata"]["executed_model"] == "openai/gpt-image-1"
    assert answer["metadata"]["adjustments"] == []
    (seen,) = fake.requests
    assert (seen.route, seen.form["prompt"]) == ("edits", ASKED["prompt"])
    assert {part.content_type for part in seen.files} == {"image/png"}
    return seen.files


@shows("edit, open file", "edit, bytes", "edit, file in memory", "edit, named and typed", clients=SDKS)
def test_it_edits_a_picture_in_every_form(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    for form in FORMS:
        (part,) = edited(sdk, customer, fake, image=described(pictures.source, form))
        assert part.name == "image" and arrived(part, pictures.source), form


@shows("edit, several images", clients=SDKS)
def test_it_edits_several_pictures_in_their_order(
    customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures
) -> None:
    paths = [pictures.source, pictures.second]
    for form in ("bytes", "named", "opened"):
        parts = edited(sdk, customer, fake, image=[described(path, form) for path in paths])
        if sdk.client.name in READ_IN_ANY_ORDER and form == "opened":
            parts.sort(key=lambda part: not arrived(part, pictures.source))
        assert all(arrived(part, path) for part, path in zip(parts, paths, strict=True)), form
    (part,) = edited(sdk, customer, fake, image=[described(pictures.second, "opened")])
    assert arrived(part, pictures.second)


@shows("edit, mask", clients=SDKS)
def test_it_edits_with_a_mask(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    for form in ("opened", "bytes"):
        asked: dict[str, Any] = {"image": described(pictures.source, form), "mask": described(pictures.mask, form)}
        parts = {part.name: part for part in edited(sdk, customer, fake, **asked)}
        assert set(parts) == {"image", "mask"}
        assert arrived(parts["image"], pictures.source) and arrived(parts["mask"], pictures.mask)


@shows(clients=NODE)
def test_it_takes_what_else_javascript_hands_over(
    customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures
) -> None:
    for form in ("typed", "response"):
        (part,) = edited(sdk, customer, fake, image=described(pictures.source, form))
        assert arrived(part, pictures.source)


@shows(clients=NODE)
def test_newer_javascript_sends_an_open_file_in_chunks(
    customer: Customer, sdk: Sdk, lossy: LossyLine, pictures: Pictures
) -> None:
    """Of a line in between that sends it on whole; the server itself reads chunks in the tests above."""
    asked: dict[str, Any] = {**ASKED, "image": described(pictures.source, "opened")}
    assert "answer" in sdk.do("edit", customer, base_url=lossy.base_url, **asked)
    assert lossy.chunked == [sdk.client.name in ("node 6", "node 7")]


@shows("variation", clients=SDKS)
def test_it_varies_a_picture(customer: Customer, sdk: Sdk, fake: ProviderFake, pictures: Pictures) -> None:
    for form in ("opened", "bytes"):
        asked: dict[str, Any] = {"model": "gpt-image-1", "n": 2, "size": "1024x1024", "response_format": "b64_json"}
        answer = sdk.do("vary", customer, image=described(pictures.source, form), **asked)["answer"]
        assert len({item["b64_json"] for item in answer["data"]}) == 2
        assert answer["metadata"]["cost"] > 0
    assert [seen.route for seen in fake.requests] == ["edits", "edits"]
    assert all(arrived(seen.files[0], pictures.source) for seen in fake.requests)
