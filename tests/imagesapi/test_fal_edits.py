"""Edits through the fal adapter: pictures as data URIs in each model's own fields, by run and by queue."""

from __future__ import annotations

import io
import time
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import fal
from imagesapi.providers.base import Blocked, InvalidInput, ProviderError, TimedOut
from imagesapi.values import Answer, EditCapabilities, InputImage, Offer
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters

GPT_IMAGE_1 = ("fal-ai/gpt-image-1/text-to-image", "fal-ai/gpt-image-1/edit-image")
GPT_IMAGE_2 = ("openai/gpt-image-2", "openai/gpt-image-2/edit")
KONTEXT = ("", "fal-ai/flux-pro/kontext")
FREE: dict[str, Any] = {"sizes": (), "size_style": "preset_or_pixels", "backgrounds": (), "output_formats": ("png",)}
MASK = adapters.picture(colour=(255, 255, 255))


def offer(
    fake: ProviderFake, ids: tuple[str, str] = GPT_IMAGE_1, *, mode: str = "run", able: dict[str, Any] | None = None,
    **edits: Any,
) -> Offer:  # fmt: skip
    settings = adapters.settings_of(fake, FAL_MODE=mode)
    able = able or ({} if ids == GPT_IMAGE_1 else FREE)
    return adapters.offer("fal", ids[0], settings, edit_wire_id=ids[1], edits=EditCapabilities(**edits), **able)


def run(fake: ProviderFake, to: Offer | None = None, **asked: Any) -> Answer:
    asked = {"operation": "edit", "images": (adapters.picture(),), **asked}
    return fal.run(adapters.call(fal, to or offer(fake), **asked))


def uri(image: InputImage) -> str:
    return f"data:{image.content_type};base64,{pybase64.b64encode_as_string(image.data)}"


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_it_sends_pictures_as_data_uris_in_their_order(fake: ProviderFake, mode: str) -> None:
    images = tuple(adapters.picture(kind=kind) for kind in ("jpeg", "png", "webp"))
    answer = run(fake, offer(fake, mode=mode), images=images)
    seen = fake.requests[0]
    assert seen.path.endswith("/fal-ai/gpt-image-1/edit-image")
    assert seen.json == {
        "prompt": "a fox in the snow",
        "sync_mode": True,
        "num_images": 1,
        "image_size": "1024x1024",
        "output_format": "png",
        "quality": "low",
        "image_urls": [uri(image) for image in images],
    }
    data = pybase64.b64decode(answer.pictures[0].b64 or b"")
    assert Image.open(io.BytesIO(data)).size == (1024, 1024)
    assert fake.billed == 1


@pytest.mark.parametrize("field", ["mask_url", "mask_image_url"])
def test_it_puts_the_mask_into_the_field_the_offer_names(fake: ProviderFake, field: str) -> None:
    ids = GPT_IMAGE_2 if field == "mask_url" else ("fal-ai/gpt-image-1.5", "fal-ai/gpt-image-1.5/edit")
    able = FREE if field == "mask_url" else {"qualities": ("low",)}
    run(fake, offer(fake, ids, able=able, mask="white", image_field=f"image_urls {field}"), mask=MASK)
    assert fake.requests[0].json[field] == uri(MASK)
    assert fake.requests[0].json["image_urls"] == [uri(adapters.picture())]


def test_a_field_for_one_picture_gets_it_without_a_list(fake: ProviderFake) -> None:
    to = offer(fake, KONTEXT, able={**FREE, "qualities": ()}, image_field="image_url")
    run(fake, to, quality=None)
    assert fake.requests[0].json["image_url"] == uri(adapters.picture())
    assert "image_urls" not in fake.requests[0].json


def test_it_says_the_lower_fidelity_outright_where_there_is_a_choice(fake: ProviderFake) -> None:
    to = offer(fake, input_fidelities=("low", "high"))
    run(fake, to)
    run(fake, to, input_fidelity="high")
    run(fake, offer(fake))
    assert [seen.json.get("input_fidelity") for seen in fake.requests] == ["low", "high", None]


def test_generations_of_an_offer_that_edits_are_as_before(fake: ProviderFake) -> None:
    run(fake, offer(fake, input_fidelities=("low",)), operation="generation", images=())
    assert fake.requests[0].path.endswith("/fal-ai/gpt-image-1/text-to-image")
    assert not {"image_urls", "input_fidelity"} & set(fake.requests[0].json)


def test_extras_can_stand_for_no_picture(fake: ProviderFake) -> None:
    names = ("image_url", "image_urls", "mask_url", "mask_image_url", "input_fidelity", "seed")
    to = adapters.offer("fal", "m", adapters.settings_of(fake), extras=names)
    wanted = adapters.fitted(operation="edit", extras=dict.fromkeys(names, "evil"))
    assert {name for name in names if name in fal.build(wanted, to)} == {"seed"}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"images": (adapters.picture(kind="gif"),)}, "image"),
        ({"images": (adapters.picture(),) * 17}, "image"),
        ({"mask": adapters.picture((8, 8))}, "mask"),
        ({"mask": adapters.picture(colour=(0, 0, 0, 0))}, "mask"),
    ],
)
def test_a_refused_picture_is_named_in_openais_words(fake: ProviderFake, asked: dict[str, Any], param: str) -> None:
    to = offer(fake, GPT_IMAGE_2, mask="white", image_field="image_urls mask_url")
    with pytest.raises(InvalidInput) as caught:
        run(fake, to, **asked)
    assert (caught.value.param, caught.value.http_status) == (param, 422)
    assert fake.billed == 0


@pytest.mark.parametrize(
    ("behaviour", "kind"), [(misbehaviour.blocked(), Blocked), (misbehaviour.bill_and_drop(), TimedOut)]
)
def test_edits_fail_as_generations_do(
    fake: ProviderFake, behaviour: misbehaviour.Behaviour, kind: type[ProviderError]
) -> None:
    fake.script(behaviour)
    with pytest.raises(kind):
        run(fake)


def test_a_queued_edit_is_resumed_without_its_pictures() -> None:
    remembered: list[dict[str, Any]] = []

    def die(reference: dict[str, Any]) -> None:
        remembered.append(reference)
        raise SystemExit

    with ProviderFake(delay_s=0.3) as slow:
        to = offer(slow, mode="queue")
        slow.script(misbehaviour.html(502), on="cancel")
        with pytest.raises(SystemExit):
            run(slow, to, remember=die)
        assert "data:" not in str(remembered)
        while (answer := fal.resume(to, remembered[0], time.monotonic() + 5)) is None:
            time.sleep(0.05)
    assert len(answer.pictures) == 1
