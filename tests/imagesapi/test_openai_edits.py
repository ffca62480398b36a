"""Edits through the openai adapter: the form that goes out, part by part, and what its refusals become."""

from __future__ import annotations

import io
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import _multipart, openai
from imagesapi.providers.base import BadAnswer, Blocked, InvalidInput, ModelGone, ProviderError, TimedOut
from imagesapi.values import Answer, Offer, Usage
from tests.fakes import _forms, misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters

CLEAR = (0, 0, 0, 0)


def offer(fake: ProviderFake, wire_id: str = "gpt-image-1", **able: Any) -> Offer:
    settings = adapters.settings_of(fake)
    return adapters.offer("openai", wire_id, settings, compression=True, moderation=True, **able)


def run(fake: ProviderFake, wire_id: str = "gpt-image-1", **asked: Any) -> Answer:
    asked = {"operation": "edit", "images": (adapters.picture(),), **asked}
    return openai.run(adapters.call(openai, offer(fake, wire_id), **asked))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    assert fake.openai_key not in repr((caught.value.message, caught.value.details))
    return caught.value


def test_it_sends_one_picture_as_image(fake: ProviderFake) -> None:
    picture = adapters.picture()
    answer = run(fake, images=(picture,))
    (seen,) = fake.requests
    assert seen.path == "/v1/images/edits"
    assert seen.form == {
        "model": "gpt-image-1",
        "prompt": "a fox in the snow",
        "n": "1",
        "size": "1024x1024",
        "output_format": "png",
        "quality": "low",
    }
    (part,) = seen.files
    assert (part.name, part.filename, part.content_type) == ("image", "image-1.png", "image/png")
    assert part.data == picture.data
    assert Image.open(io.BytesIO(pybase64.b64decode(answer.pictures[0].b64 or ""))).size == (1024, 1024)
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=194, image_output_tokens=272)
    assert answer.effective["size"] == "1024x1024"


def test_it_sends_several_pictures_in_their_order_with_their_true_types(fake: ProviderFake) -> None:
    kinds = ("webp", "png", "jpeg")
    images = tuple(adapters.picture(kind=kind) for kind in kinds)
    run(fake, images=images)
    files = fake.requests[0].files
    assert [part.name for part in files] == ["image[]"] * 3
    assert [part.content_type for part in files] == [f"image/{kind}" for kind in kinds]
    assert [part.filename for part in files] == ["image-1.webp", "image-2.png", "image-3.jpg"]
    assert [part.data for part in files] == [image.data for image in images]


def test_it_sends_every_choice_an_edit_has_and_none_it_has_not(fake: ProviderFake) -> None:
    chosen: dict[str, Any] = {
        "n": 2, "size": "1536x1024", "quality": "medium", "background": "opaque", "output_format": "webp",
        "output_compression": 50, "user": "u-1", "input_fidelity": "high", "moderation": "low", "style": "vivid",
    }  # fmt: skip
    answer = run(fake, **chosen)
    expected = {name: str(value) for name, value in chosen.items() if name not in ("moderation", "style")}
    assert fake.requests[0].form == {"model": "gpt-image-1", "prompt": "a fox in the snow", **expected}
    assert len(answer.pictures) == 2
    assert answer.usage is not None and answer.usage.image_input_tokens == 4354
    assert fake.billed == 2


def test_it_sends_a_mask_or_a_markup_beside_the_pictures(fake: ProviderFake) -> None:
    overlay = adapters.picture(colour=CLEAR)
    run(fake, mask=overlay)
    run(fake, "gpt-image-2.5-flare", markup=overlay)
    named = [[(part.name, part.filename) for part in seen.files] for seen in fake.requests]
    assert named == [[("image", "image-1.png"), (name, f"{name}.png")] for name in ("mask", "markup")]
    assert all(seen.files[1].data == overlay.data for seen in fake.requests)


def test_it_names_the_model_for_edits_where_that_is_another(fake: ProviderFake) -> None:
    to = adapters.offer("openai", "gpt-image-2", adapters.settings_of(fake), edit_wire_id="gpt-image-1")
    openai.run(adapters.call(openai, to, operation="edit", images=(adapters.picture(),)))
    openai.run(adapters.call(openai, to))
    assert fake.requests[0].form["model"] == "gpt-image-1"
    assert fake.requests[1].json["model"] == "gpt-image-2"


def test_a_body_is_built_without_the_pictures(fake: ProviderFake) -> None:
    wanted = adapters.fitted(operation="edit", images=(adapters.picture(),), mask=adapters.picture(colour=CLEAR))
    assert not {"image", "mask", "markup"} & set(openai.build(wanted, offer(fake)))


def test_extras_can_stand_for_no_file(fake: ProviderFake) -> None:
    names = ("image", "image[]", "mask", "markup", "input_fidelity", "safety_identifier")
    wanted = adapters.fitted(operation="edit", extras=dict.fromkeys(names, "evil"))
    body = openai.build(wanted, offer(fake, extras=names))
    assert {name for name in names if name in body} == {"safety_identifier"}


def test_prompts_in_any_script_and_shape_arrive_as_they_are(fake: ProviderFake) -> None:
    prompt = '日本の狐 "quoted"\r\n--pixelpar\r\nContent-Disposition: form-data; name="model"\r\n\r\nevil 🦊'
    run(fake, prompt=prompt)
    assert (fake.requests[0].form["prompt"], fake.requests[0].form["model"]) == (prompt, "gpt-image-1")


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"wire_id": "gpt-image-2", "input_fidelity": "low"}, "input_fidelity", "invalid_input_fidelity_model"),
        ({"wire_id": "gpt-image-1-mini", "input_fidelity": "high"}, "input_fidelity", "invalid_value"),
        ({"mask": adapters.picture((10, 10), colour=CLEAR)}, "mask", "invalid_image_file"),
        ({"mask": adapters.picture()}, "mask", "invalid_image_file"),
        ({"markup": adapters.picture(colour=CLEAR)}, "markup", "unknown_parameter"),
        ({"images": (adapters.picture(),) * 17}, "image", "invalid_value"),
        ({"images": (adapters.picture(kind="gif"),)}, "image", "unsupported_file_mimetype"),
        ({"images": (adapters.picture(), adapters.picture(kind="gif"))}, "image", "unsupported_file_mimetype"),
        ({"size": "640x480"}, "size", "invalid_value"),
    ],
)
def test_a_refusal_names_the_parameter(fake: ProviderFake, asked: dict[str, Any], param: str, code: str) -> None:
    error = failure(fake, **asked)
    assert isinstance(error, InvalidInput)
    assert (error.param, error.error_code, error.http_status) == (param, code, 400)
    assert fake.billed == 0


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (misbehaviour.blocked(), Blocked),
        (misbehaviour.bill_and_drop(), TimedOut),
        (misbehaviour.garbage(), BadAnswer),
        (misbehaviour.not_an_image(), BadAnswer),
        (misbehaviour.status(404, {"error": {"message": "gone", "code": "model_not_found"}}), ModelGone),
    ],
)
def test_edits_fail_as_generations_do(fake: ProviderFake, behaviour: Behaviour, kind: type[ProviderError]) -> None:
    assert type(failure(fake, behaviour)) is kind


# The form itself


def test_a_form_keeps_its_bytes_and_escapes_its_names() -> None:
    data = bytes(range(256)) * 3 + b"\r\n--pixelpar-"
    picture = _multipart.File("image", "a.png", "image/png", data)
    body, content_type = _multipart.write({'evil"\r\nX: y': "1", "none": None}, files=[picture])
    text, file = _forms.read(content_type, body)
    assert (text.name, text.data, text.filename) == ("evil%22%0D%0AX: y", b"1", None)
    assert (file.name, file.filename, file.content_type, file.data) == ("image", "a.png", "image/png", data)


def test_a_form_writes_nested_values_as_the_sdks_do() -> None:
    fields = {"svg": {"model": "m", "reasoning": {"effort": "low"}}, "order": ["a", "b"], "on": True, "off": False}
    body, content_type = _multipart.write(fields, files=[])
    assert [(part.name, part.data.decode()) for part in _forms.read(content_type, body)] == [
        ("svg[model]", "m"),
        ("svg[reasoning][effort]", "low"),
        ("order[]", "a"),
        ("order[]", "b"),
        ("on", "true"),
        ("off", "false"),
    ]
