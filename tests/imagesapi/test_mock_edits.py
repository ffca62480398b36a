"""The mock changes given pictures where it may, enlarges them, shows unfinished ones, and stops when told to."""

from __future__ import annotations

import dataclasses
import io
import time
from typing import Any, Literal

import pybase64
import pytest
from PIL import Image, ImageChops, ImageStat

from imagesapi.providers import base, mock
from imagesapi.values import Answer, EditCapabilities, InputImage, Offer, Partial, Usage
from tests.imagesapi import adapters

SIZE = (96, 64)
TOKENS = {
    "output_tokens": {"low": {"96x64": 272}},
    "image_input_ceiling_tokens": 500,
    "image_input_tokens": {"by": "fidelity", "low": 100, "high": 400},
}


def as_input(image: Image.Image, kind: str = "png") -> InputImage:
    file = io.BytesIO()
    image.save(file, kind.upper())
    return dataclasses.replace(adapters.picture(image.size, kind=kind), data=file.getvalue())


def scenery(size: tuple[int, int] = SIZE) -> Image.Image:
    """Something with tones: a gradient from black to white."""
    return Image.linear_gradient("L").resize(size).convert("RGB")


def run(offer: Offer | None = None, **asked: Any) -> Answer:
    to = offer or adapters.offer("mock", "mock-image", {})
    asked = {"operation": "edit", "images": (as_input(scenery()),), "size": "96x64", **asked}
    return mock.run(adapters.call(mock, to, **asked))


def files(**asked: Any) -> list[bytes]:
    return [picture.data or b"" for picture in run(**asked).pictures]


def image(**asked: Any) -> Image.Image:
    return Image.open(io.BytesIO(files(**asked)[0]))


def difference(one: Image.Image, other: Image.Image) -> float:
    return sum(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


def test_it_changes_the_picture_the_same_way_twice() -> None:
    assert files(n=2) == files(n=2)
    assert difference(image(), scenery()) > 30


def test_it_changes_it_otherwise_for_another_prompt_picture_number_or_companion() -> None:
    first = as_input(scenery())
    found = {
        files()[0],
        files(n=2)[1],
        files(prompt="a green fox")[0],
        files(images=(as_input(scenery().rotate(180)),))[0],
        files(images=(first, adapters.picture(colour=(1, 2, 3))))[0],
    }
    assert len(found) == 5


def test_the_first_picture_stays_recognisable() -> None:
    dark, light = (ImageStat.Stat(image().convert("L").crop(box)).mean[0] for box in ((0, 0, 96, 10), (0, 54, 96, 64)))
    assert light > dark + 40


@pytest.mark.parametrize("kind", ["alpha", "white"])
def test_only_what_the_mask_allows_is_changed(kind: Literal["alpha", "white"]) -> None:
    """Also of the other kind, which it is given where it stands in for an offer that takes those."""
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0) if kind == "alpha" else (255, 255, 255, 255), (0, 0, 48, 64))
    to = adapters.offer("mock", "m", {}, edits=EditCapabilities(mask=kind))
    changed = image(offer=to, mask=as_input(mask))
    clear, kept = (0, 0, 48, 64), (48, 0, 96, 64)
    assert difference(changed.crop(kept), scenery().crop(kept)) == 0
    assert difference(changed.crop(clear), scenery().crop(clear)) > 30


def test_a_markup_shows_in_the_result() -> None:
    markup = Image.new("RGBA", SIZE, (0, 0, 0, 0))
    markup.paste((255, 0, 0, 255), (0, 0, 48, 64))
    assert difference(image(markup=as_input(markup)), image()) > 5


def test_a_higher_fidelity_keeps_more_of_the_picture() -> None:
    low, high = (difference(image(input_fidelity=word), scenery()) for word in ("low", "high"))
    assert high < low * 0.8


def test_it_makes_the_size_that_was_asked_for_or_keeps_that_of_the_picture() -> None:
    assert image(size="200x100").size == (200, 100)
    answer = run(size="auto")
    assert Image.open(io.BytesIO(answer.pictures[0].data or b"")).size == SIZE
    assert answer.effective["size"] == "96x64"


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_it_takes_and_makes_every_format(kind: str) -> None:
    assert image(images=(as_input(scenery(), kind),), output_format=kind).format == kind.upper()


def test_it_keeps_what_was_clear_clear() -> None:
    given = scenery().convert("RGBA")
    given.paste((0, 0, 0, 0), (0, 0, 48, 64))
    alpha = image(images=(as_input(given),), background="transparent").getchannel("A")
    assert (alpha.getpixel((10, 10)), alpha.getpixel((90, 10))) == (0, 255)
    assert image(images=(as_input(given),)).mode == "RGB"


@pytest.mark.parametrize("factor", [2, 4])
def test_it_enlarges_without_a_prompt(factor: int) -> None:
    answer = run(prompt="", scale_factor=factor, size="auto")
    enlarged = Image.open(io.BytesIO(answer.pictures[0].data or b""))
    assert enlarged.size == (96 * factor, 64 * factor)
    assert answer.effective["size"] == f"{96 * factor}x{64 * factor}"
    assert difference(enlarged.resize(SIZE), scenery()) < 10


def test_it_refuses_to_enlarge_beyond_measure() -> None:
    with pytest.raises(base.InvalidInput, match="up to 64000000 pixels") as caught:
        run(scale_factor=4, images=(adapters.picture((3000, 2000)),))
    assert caught.value.param == "scale_factor"


def test_it_counts_tokens_for_what_it_was_given_and_showed() -> None:
    to = dataclasses.replace(adapters.offer("mock", "m", {}), pricing=TOKENS)
    shown: list[Partial] = []
    two = (as_input(scenery()), adapters.picture())
    answer = run(to, images=two, n=2, stream=True, partial_images=3, on_partial=shown.append, input_fidelity="high")
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=800, image_output_tokens=2 * (272 + 300))
    plain = run(to).usage
    assert plain is not None and (plain.image_input_tokens, plain.image_output_tokens) == (100, 272)


# Unfinished pictures


def test_it_shows_unfinished_pictures_that_come_closer() -> None:
    shown: list[Partial] = []
    answer = run(operation="generation", images=(), stream=True, partial_images=3, on_partial=shown.append)
    final = Image.open(io.BytesIO(answer.pictures[0].data or b""))
    unfinished = [Image.open(io.BytesIO(pybase64.b64decode(one.b64, validate=True))) for one in shown]
    assert [one.index for one in shown] == [0, 1, 2]
    assert {one.size for one in unfinished} == {final.size}
    distances = [difference(one, final) for one in unfinished]
    assert distances == sorted(distances, reverse=True) and distances[-1] > 0
    assert shown[0].effective["size"] == "96x64"
    assert files(operation="generation", images=()) == [answer.pictures[0].data]


def test_it_spreads_them_over_its_delay() -> None:
    times: list[float] = []
    begun = time.monotonic()
    asked: dict[str, Any] = {"stream": True, "partial_images": 2, "extras": {"mock_delay_ms": 600}}
    run(**asked, on_partial=lambda partial: times.append(time.monotonic() - begun))
    assert 0.15 < times[0] < 0.35 < times[1] < 0.55
    assert time.monotonic() - begun >= 0.6


def test_it_shows_those_of_every_picture() -> None:
    shown: list[Partial] = []
    run(n=2, stream=True, partial_images=2, on_partial=shown.append)
    assert [one.index for one in shown] == [0, 1, 0, 1]


@pytest.mark.parametrize("word", ["refuse", "unavailable", "timeout"])
def test_it_fails_after_having_shown_some(word: str) -> None:
    shown: list[Partial] = []
    asked: dict[str, Any] = {"stream": True, "partial_images": 2, "extras": {"mock_fail": word}}
    with pytest.raises(base.ProviderError):
        run(**asked, on_partial=shown.append, within_s=0.3)
    assert len(shown) == 2


# Cancelling


def test_it_stops_when_its_caller_cancels() -> None:
    begun = time.monotonic()
    with pytest.raises(base.Cancelled) as caught:
        run(extras={"mock_delay_ms": 60_000}, cancelled=lambda: time.monotonic() > begun + 0.2, within_s=30)
    assert not caught.value.possibly_billed
    assert time.monotonic() - begun < 1


def test_it_delivers_what_takes_no_time_even_when_cancelled() -> None:
    assert run(cancelled=lambda: True).pictures


def test_its_body_names_what_an_edit_asks_and_holds_no_picture() -> None:
    to = adapters.offer("mock", "mock-image", {})
    wanted = adapters.fitted(
        operation="edit", images=(adapters.picture(),), input_fidelity="high", scale_factor=2, stream=True
    )
    body = mock.build(wanted, to)
    assert (body["input_fidelity"], body["scale_factor"], body["stream"]) == ("high", 2, True)
    assert not {"images", "image", "mask"} & set(body)
