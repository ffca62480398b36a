"""The replicate adapter against the wire-level fake: each model's fields, waiting, cancelling, resuming."""

from __future__ import annotations

import io
import itertools
import time
from collections.abc import Callable
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import replicate
from imagesapi.providers.base import BadAnswer, Blocked, Cancelled, TimedOut, Unavailable
from imagesapi.values import Answer, EditCapabilities, InputImage
from tests.fakes import _pictures, misbehaviour
from tests.fakes.providers import REPLICATE_TOKEN, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.offers import catalogue
from tests.imagesapi.predictions import (
    KONTEXT,
    ONE,
    PAINTER,
    PIXELS,
    SCHNELL,
    asked_for,
    ended,
    failure,
    offer,
    routes,
    run,
)


def picture(kind: str = "png") -> InputImage:
    return InputImage(f"image/{kind}", 64, 48, "0" * 64, _pictures.draw(64, 48, kind))


def image_of(answer: Answer, index: int = 0) -> Image.Image:
    found = answer.pictures[index]
    data = found.data if found.b64 is None else pybase64.b64decode(found.b64, validate=True)
    assert data is not None
    return Image.open(io.BytesIO(data))


# What it asks, and what comes back


def test_it_waits_for_a_quick_model_in_one_call(fake: ProviderFake) -> None:
    answer = run(fake, n=2, size="1344x768", aspect_ratio="16:9", output_format="jpeg", extras={"seed": 7})
    assert routes(fake) == ["predict", "predict-file", "predict-file"]
    seen = fake.requests[0]
    assert seen.path == f"/replicate/v1/models/{SCHNELL}/predictions"
    assert seen.headers["authorization"] == f"Bearer {REPLICATE_TOKEN}"
    assert seen.json == {
        "input": {
            "seed": 7,
            "prompt": "a fox in the snow",
            "aspect_ratio": "16:9",
            "num_outputs": 2,
            "output_format": "jpg",
        }
    }
    assert (image_of(answer).format, image_of(answer, 1).size) == ("JPEG", (1344, 768))
    assert answer.evidence == {"prediction_id": answer.request_id, "predict_time_s": "0.500000"}
    assert (fake.calls, fake.billed) == (1, 2)


def test_files_are_fetched_without_the_key(fake: ProviderFake) -> None:
    run(fake)
    assert "authorization" not in fake.requests[-1].headers


def test_one_address_is_an_answer_too(fake: ProviderFake) -> None:
    assert image_of(run(fake, KONTEXT, ONE)).size == (1024, 1024)


@pytest.mark.parametrize("wire_id", [SCHNELL, KONTEXT])
def test_pictures_may_come_inline(fake: ProviderFake, wire_id: str) -> None:
    fake.replicate.inline = True
    able = ONE if wire_id == KONTEXT else {}
    assert image_of(run(fake, wire_id, able, output_format="webp")).format == "WEBP"
    assert routes(fake) == ["predict"]


@pytest.mark.parametrize(
    ("within_s", "wait_s", "life_s"), [(1.5, None, 5), (4.5, 2, 5), (9.5, 7, 10), (60.0, 10, 60), (300.0, 10, 300)]
)
def test_waiting_and_the_end_are_bounded_by_the_deadline(
    fake: ProviderFake, within_s: float, wait_s: int | None, life_s: int
) -> None:
    run(fake, within_s=within_s)
    headers = fake.requests[0].headers
    assert headers.get("prefer") == (f"wait={wait_s}" if wait_s else None)
    assert headers["cancel-after"] == f"{life_s}s"


def test_sizes_are_words_or_pixels_as_the_model_has_them(fake: ProviderFake) -> None:
    pixels = adapters.fitted(quality=None, size="768x512")
    assert replicate.build(pixels, offer(fake, PAINTER, **PIXELS))["input"] == {
        "prompt": "a fox in the snow",
        "width": 768,
        "height": 512,
        "output_format": "png",
    }
    with_ratios = replicate.build(pixels, catalogue()["replicate/flux-1.1-pro"])["input"]
    assert (with_ratios["aspect_ratio"], with_ratios["width"], with_ratios["height"]) == ("custom", 768, 512)
    tiers = {"1K": {"1:1": "1024x1024"}, "2K": {"1:1": "2048x2048"}}
    tiered = replicate.build(adapters.fitted(**asked_for(resolution="2K")), offer(fake, ratio_sizes=tiers))["input"]
    assert (tiered["aspect_ratio"], tiered["resolution"]) == ("1:1", "2K")
    listed = replicate.build(pixels, offer(fake, size_style="enum", sizes=("768x512",), ratio_sizes={}))["input"]
    assert listed["size"] == "768x512"


def test_extras_never_override_what_the_adapter_writes(fake: ProviderFake) -> None:
    names = ("seed", "prompt", "width", "aspect_ratio", "num_outputs", "output_format", "mask")
    wanted = adapters.fitted(**asked_for(extras={**dict.fromkeys(names, 77), "unlisted": 1}))
    asked = replicate.build(wanted, offer(fake, extras=names))["input"]
    assert (asked["seed"], asked["num_outputs"], asked["aspect_ratio"]) == (77, 1, "1:1")
    assert not {"unlisted", "width", "mask"} & set(asked)


def test_every_offer_of_the_catalogue_is_taken(fake: ProviderFake) -> None:
    for name, known in catalogue().items():
        if known.provider != "replicate":
            continue
        to = offer(fake, known.wire_id)
        object.__setattr__(to, "capabilities", known.capabilities)
        answer = replicate.run(adapters.call(replicate, to, **asked_for(output_compression=90)))
        assert image_of(answer).size == (1024, 1024), name


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("", ["image"]),
        ("image", ["image"]),
        ("images", ["images"]),
        ("input_image", ["input_image", "input_image_2"]),
    ],
)
def test_an_edits_pictures_go_to_the_fields_of_the_model(fake: ProviderFake, field: str, names: list[str]) -> None:
    images = (picture("png"), picture("jpeg"))[: 1 if field in ("", "image") else 2]
    wire_id = KONTEXT if field == "input_image" else PAINTER
    able = {**ONE, "edits": EditCapabilities(max_images=2, image_field=field)}
    if wire_id == PAINTER:
        able |= PIXELS
    call = adapters.call(replicate, offer(fake, wire_id, **able), **asked_for(operation="edit", images=images))
    before = {**call.body["input"]}
    replicate.run(call)
    asked = fake.requests[0].json["input"]
    uris = [f"data:{one.content_type};base64,{pybase64.b64encode_as_string(one.data)}" for one in images]
    assert {name: asked[name] for name in names} == (
        {field: uris} if field == "images" else dict(zip(names, uris, strict=True))
    )
    assert call.body["input"] == before  # no copy of the pictures stays with the plan


def test_a_mask_goes_along(fake: ProviderFake) -> None:
    able = {**PIXELS, "edits": EditCapabilities(mask="white", image_field="image mask")}
    run(fake, PAINTER, able, operation="edit", images=(picture(),), mask=picture())
    assert fake.requests[0].json["input"]["mask"].startswith("data:image/png;base64,")


def test_fewer_pictures_than_asked_for_are_told(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body.update(output=body["output"][:2])))
    answer = run(fake, n=3)
    assert len(answer.pictures) == 2
    assert (answer.evidence["pictures_asked"], answer.evidence["pictures_received"]) == (3, 2)


# Waiting


def test_it_asks_until_a_slow_prediction_is_done() -> None:
    with ProviderFake(queue_s=0.2, delay_s=0.7) as fake:
        begun = time.monotonic()
        assert len(run(fake, within_s=2.5).pictures) == 1  # too little time to be waited for
        assert 0.9 <= time.monotonic() - begun < 2.0
        assert 3 <= routes(fake).count("prediction") <= 5
        assert fake.billed == 1


def test_it_remembers_the_prediction_before_it_asks_about_it() -> None:
    with ProviderFake(delay_s=0.3) as fake:
        remembered: list[tuple[dict[str, Any], list[str]]] = []
        run(fake, within_s=2.0, remember=lambda job: remembered.append((job, routes(fake))))
        ((job, asked_by_then),) = remembered
        assert set(job) == {"request_id", "get_url", "cancel_url"}
        assert asked_by_then == ["predict"]


def test_it_cancels_a_prediction_it_cannot_remember() -> None:
    def fail(_: dict[str, Any]) -> None:
        raise RuntimeError("no database")

    with ProviderFake(delay_s=5) as fake:
        with pytest.raises(RuntimeError):
            run(fake, within_s=2.0, remember=fail)
        assert routes(fake) == ["predict", "predict-cancel"]
        assert fake.billed == 0


def test_a_prediction_that_never_ends_is_cancelled_at_the_deadline() -> None:
    with ProviderFake(delay_s=60) as fake:
        begun = time.monotonic()
        error = failure(fake, within_s=0.8)
        assert isinstance(error, TimedOut)  # what ran until then may be billed
        assert time.monotonic() - begun < 1.2
        assert "predict-cancel" in routes(fake)
        assert fake.billed == 0


def test_one_that_ended_before_it_began_is_unbilled(fake: ProviderFake) -> None:
    fake.script(ended("aborted"))
    error = failure(fake)
    assert isinstance(error, Unavailable)
    assert error.may_fail_over and not error.possibly_billed


def test_one_that_somebody_else_cancelled_may_be_billed(fake: ProviderFake) -> None:
    fake.script(ended("canceled"))
    assert isinstance(failure(fake), TimedOut)


def after(looks: int) -> Callable[[], bool]:
    """A caller who wants no result any more at the given look."""
    count = itertools.count()
    return lambda: next(count) >= looks


def test_a_caller_who_cancels_ends_the_prediction() -> None:
    with ProviderFake(delay_s=30) as fake:
        begun = time.monotonic()
        error = failure(fake, within_s=2.9, cancelled=after(1))
        assert isinstance(error, Cancelled)
        assert time.monotonic() - begun < 1.5
        assert routes(fake)[-2:] == ["predict-cancel", "prediction"]


def test_a_result_that_came_in_the_last_moment_is_taken() -> None:
    with ProviderFake(delay_s=0.5) as fake:
        fake.script(misbehaviour.delayed(0.6), on="predict-cancel")
        assert len(run(fake, within_s=2.0, cancelled=after(0)).pictures) == 1


def test_a_cancel_that_fails_leaves_the_outcome_unknown() -> None:
    with ProviderFake(delay_s=30) as fake:
        fake.behave(misbehaviour.html(502), on="predict-cancel")
        assert isinstance(failure(fake, within_s=0.8), TimedOut)


def test_asking_survives_passing_trouble() -> None:
    with ProviderFake(delay_s=0.2) as fake:
        trouble = (misbehaviour.html(502), misbehaviour.drop(), misbehaviour.status(429), misbehaviour.drop_in_body())
        fake.script(*trouble, on="prediction")
        assert len(run(fake, within_s=2.9, output_format="jpeg").pictures) == 1
        assert fake.calls == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_prediction_the_service_lost_is_a_bad_answer(status: int) -> None:
    with ProviderFake(delay_s=30) as fake:
        fake.behave(misbehaviour.status(status, {"detail": "Not found"}), on="prediction")
        assert isinstance(failure(fake, within_s=2.0), BadAnswer)


# Resuming


def submitted(fake: ProviderFake) -> dict[str, Any]:
    """The reference of a prediction whose caller died right after storing it."""
    remembered: list[dict[str, Any]] = []

    def die(reference: dict[str, Any]) -> None:
        remembered.append(reference)
        raise SystemExit

    fake.script(misbehaviour.html(502), on="predict-cancel")
    with pytest.raises(SystemExit):
        run(fake, within_s=2.0, remember=die)
    return remembered[0]


def test_it_resumes_a_prediction_after_a_crash() -> None:
    with ProviderFake(delay_s=0.5) as fake:
        reference, to = submitted(fake), offer(fake)
        assert replicate.resume(to, reference, time.monotonic() + 5) is None
        while (answer := replicate.resume(to, reference, time.monotonic() + 5)) is None:
            time.sleep(0.1)
        assert len(answer.pictures) == 1
        assert fake.calls == 1


def test_a_resumed_prediction_says_none_while_it_cannot_be_asked(fake: ProviderFake) -> None:
    reference = submitted(fake)
    fake.script(misbehaviour.drop(), on="prediction")
    assert replicate.resume(offer(fake), reference, time.monotonic() + 5) is None


def test_a_resumed_prediction_that_failed_raises(fake: ProviderFake) -> None:
    reference = submitted(fake)
    fake.replicate.failure = "NSFW content detected"
    with pytest.raises(Blocked):
        replicate.resume(offer(fake), reference, time.monotonic() + 5)


def test_it_resumes_nothing_off_the_services_host(fake: ProviderFake) -> None:
    reference = {**submitted(fake), "get_url": "http://127.0.0.1:1/x"}
    with pytest.raises(BadAnswer):
        replicate.resume(offer(fake), reference, time.monotonic() + 5)
