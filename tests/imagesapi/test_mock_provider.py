"""The mock draws real pictures that honour every parameter, and is slow, failing or refusing when told to be."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageFilter, ImageStat

from imagesapi import providers
from imagesapi.providers import base, mock, mock_painting
from imagesapi.values import Answer, Capabilities, Connection, Fitted, Offer, Usage

QUALITIES = ("auto", "low", "medium", "high")
GPT_IMAGE_1_TOKENS = {"low": {"1024x1024": 272}, "medium": {"1024x1024": 1056, "1536x1024": 1568}}
SCENES = ("mountain", "ocean", "desert", "forest", "skyline", "planet", "paper", "marble", "silk", "bubbles", "mosaic")


def _offer(*, settings: dict[str, str] | None = None, **changes: Any) -> Offer:
    values: dict[str, Any] = {
        "id": 1, "model": "mock-image", "provider": "mock", "provider_name": "Mock", "adapter": "mock",
        "wire_id": "mock-image", "edit_wire_id": "mock-image", "prices": (), "pricing": {"free": True},
        "capabilities": Capabilities(max_n=10, prompt_max_chars=32_000, qualities=QUALITIES),
        "deprecated_on": None, "retires_on": None, "enabled": True, "weight": 1,
        "connection": Connection(settings=settings or {}, configured=True),
    }  # fmt: skip
    return Offer(**{**values, **changes})


def _run(offer: Offer | None = None, *, deadline_s: float = 30, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "prompt": "a red fox", "n": 1, "size": "96x96", "quality": "low", "background": None, "output_format": "png",
    }  # fmt: skip
    fitted = Fitted(**{**values, **changes})
    offer = offer or _offer()
    call = base.Call(
        offer=offer,
        fitted=fitted,
        body=mock.build(fitted, offer),
        deadline=time.monotonic() + deadline_s,
        generation_id="gen_1",
        remember=lambda reference: None,
    )
    return mock.run(call)


def _files(**changes: Any) -> list[bytes]:
    return [picture.data or b"" for picture in _run(**changes).pictures]


def _image(**changes: Any) -> Image.Image:
    return Image.open(io.BytesIO(_files(**changes)[0]))


def _mean(image: Image.Image) -> list[float]:
    return ImageStat.Stat(image.convert("RGB")).mean


def test_it_is_found_as_an_adapter_and_its_brushes_are_not() -> None:
    assert providers.load("mock").SETTINGS is mock.SETTINGS
    for name in ("mock_painting", "mock_brushes", "mock_landscapes", "mock_abstracts", "mock_palette"):
        with pytest.raises(LookupError):
            providers.load(name)


def test_it_draws_the_same_picture_twice() -> None:
    assert _files(n=3) == _files(n=3)


def test_it_draws_each_of_n_differently_and_keeps_the_first_ones() -> None:
    files = _files(n=10)
    assert len(set(files)) == 10
    assert files[:2] == _files(n=2)


@pytest.mark.parametrize("prompt", ["a cat", "mountains at dusk"])
def test_it_draws_visibly_different_pictures(prompt: str) -> None:
    first, second = (Image.open(io.BytesIO(file)) for file in _files(prompt=prompt, n=2))
    assert max(_mean(ImageChops.difference(first, second))) > 8


def test_it_draws_another_picture_for_another_prompt_model_or_seed() -> None:
    files = {
        _files()[0],
        _files(prompt="a red fox!")[0],
        _files(offer=_offer(model="gpt-image-1"))[0],
        _files(extras={"seed": 7})[0],
    }
    assert len(files) == 4


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("detail", [1, 5])
def test_it_draws_every_scene_in_any_form(scene: str, detail: int) -> None:
    for size in ((1, 1), (480, 64), (70, 300)):
        image = mock_painting.paint(scene, seed="any", size=size, detail=detail)
        assert (image.size, image.mode) == (size, "RGB")
    assert max(high - low for low, high in image.getextrema()) > 60  # type: ignore[misc]


def test_its_scenes_are_all_tested() -> None:
    drawn = {mock_painting.scene(word, seed="any", variation=0) for word in SCENES}
    cycled = {mock_painting.scene("a cat", seed="any", variation=number) for number in range(len(SCENES))}
    assert len(SCENES) == len(drawn) == len(cycled)


def test_it_follows_the_colour_words_of_the_prompt() -> None:
    red, _, blue_in_red = _mean(_image(prompt="red abstract paper"))
    red_in_blue, _, blue = _mean(_image(prompt="blue abstract paper"))
    assert red > blue_in_red + 30
    assert blue > red_in_blue + 30
    assert sum(_mean(_image(prompt="night mountains"))) < sum(_mean(_image(prompt="snowy mountains"))) - 150


@pytest.mark.parametrize("size", ["1024x1024", "1536x1024", "1024x1792", "257x333", "3840x2160", "2160x3840"])
def test_it_honours_the_size(size: str) -> None:
    answer = _run(size=size, output_format="jpeg")
    image = Image.open(io.BytesIO(answer.pictures[0].data or b""))
    assert f"{image.width}x{image.height}" == size == answer.effective["size"]


def test_it_takes_auto_for_a_square() -> None:
    answer = _run(size="auto", quality="auto", background="auto")
    assert Image.open(io.BytesIO(answer.pictures[0].data or b"")).size == (1024, 1024)
    assert answer.effective == {
        "size": "1024x1024", "quality": "medium", "background": "opaque", "output_format": "png",
    }  # fmt: skip


@pytest.mark.parametrize("size", ["0x10", "4097x16", "12", "x", "-5x5", "9999999999999x1", "1024x1024x3"])
def test_it_refuses_an_impossible_size(size: str) -> None:
    with pytest.raises(base.InvalidInput, match="WIDTHxHEIGHT with edges of 1 to 4096") as caught:
        _run(size=size)
    assert caught.value.param == "size"


@pytest.mark.parametrize("prompt", ["mountains", "forest", "silk"])
def test_it_puts_more_detail_into_a_higher_quality(prompt: str) -> None:
    files = [_files(prompt=prompt, size="512x512", quality=quality)[0] for quality in ("low", "medium", "high")]
    edges = [_mean(Image.open(io.BytesIO(file)).convert("L").filter(ImageFilter.FIND_EDGES))[0] for file in files]
    assert edges == sorted(edges)
    assert edges[2] > edges[0] * 1.2
    assert len(files[0]) < len(files[1]) < len(files[2])


def test_it_keeps_the_composition_from_sketch_to_finished_picture() -> None:
    sketch, finished = (_image(prompt="mountains", quality=quality).reduce(16) for quality in ("low", "high"))
    assert max(_mean(ImageChops.difference(sketch, finished))) < 12


@pytest.mark.parametrize("output_format", ["png", "webp"])
def test_it_cuts_out_a_transparent_picture(output_format: str) -> None:
    answer = _run(background="transparent", output_format=output_format)
    alpha = Image.open(io.BytesIO(answer.pictures[0].data or b"")).getchannel("A")
    assert [alpha.getpixel(corner) for corner in ((0, 0), (95, 0), (0, 95), (95, 95))] == [0, 0, 0, 0]
    assert alpha.getpixel((48, 48)) == 255
    assert answer.effective["background"] == "transparent"


@pytest.mark.parametrize("background", [None, "auto", "opaque"])
def test_it_has_no_alpha_otherwise(background: str | None) -> None:
    assert _image(background=background).mode == "RGB"


def test_it_refuses_a_transparent_jpeg() -> None:
    with pytest.raises(base.InvalidInput, match="png or webp") as caught:
        _run(background="transparent", output_format="jpeg")
    assert caught.value.param == "background"


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_it_honours_the_output_format(output_format: str) -> None:
    assert _image(output_format=output_format).format == output_format.upper()


@pytest.mark.parametrize("output_format", ["jpeg", "webp"])
def test_it_honours_the_compression(output_format: str) -> None:
    small, large = (_files(output_format=output_format, output_compression=level)[0] for level in (10, 95))
    assert len(small) < len(large) * 0.7


def test_it_honours_the_style() -> None:
    natural, vivid = (_image(style=style).convert("HSV").getchannel("S") for style in ("natural", "vivid"))
    assert ImageStat.Stat(natural).mean[0] < ImageStat.Stat(vivid).mean[0] - 20


def test_it_reports_no_usage_where_tokens_have_no_price() -> None:
    answer = _run()
    assert answer.usage is None
    assert answer.request_id == "mock-gen_1"
    assert answer.pictures[0].revised_prompt is None


def test_it_counts_tokens_for_the_provider_it_stands_in_for() -> None:
    offer = _offer(model="gpt-image-1", simulated=True, pricing={"output_tokens": GPT_IMAGE_1_TOKENS})
    answer = _run(offer=offer, prompt="twelve bytes", n=2, size="auto", quality="auto")
    assert answer.usage == Usage(text_input_tokens=3, image_input_tokens=0, image_output_tokens=2 * 1056)
    assert (answer.effective["quality"], answer.effective["size"]) == ("medium", "1024x1024")
    assert answer.evidence == {"simulated": True}


def test_it_counts_tokens_by_formula_and_an_absent_quality_as_medium() -> None:
    formula = {"quality_factor": {"medium": 48}, "constants": {"offset_pixels": 2_000_000, "divisor": 4_000_000}}
    offer = _offer(simulated=True, pricing={"output_tokens_formula": formula})
    answer = _run(offer=offer, size="1536x1024", quality=None)
    assert answer.usage is not None
    assert answer.usage.image_output_tokens == 1372


def test_it_reports_no_quality_where_the_model_has_none() -> None:
    offer = _offer(capabilities=Capabilities(max_n=1, prompt_max_chars=100))
    assert "quality" not in _run(offer=offer, quality=None).effective


def test_it_writes_a_body_that_extras_cannot_override() -> None:
    fitted = Fitted(
        prompt="p", n=2, size="auto", quality=None, background=None, output_format="png",
        extras={"mock_delay_ms": 5, "n": 10},
    )  # fmt: skip
    assert mock.build(fitted, _offer()) == {
        "model": "mock-image", "prompt": "p", "n": 2, "size": "auto", "output_format": "png", "mock_delay_ms": 5,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("refuse", base.Blocked),
        ("invalid", base.InvalidInput),
        ("account", base.OperatorTrouble),
        ("rate_limit", base.RateLimited),
        ("model_gone", base.ModelGone),
        ("unavailable", base.Unavailable),
        ("bad_answer", base.BadAnswer),
    ],
)
def test_it_fails_as_told_by_the_request_or_the_environment(word: str, error: type[base.ProviderError]) -> None:
    with pytest.raises(base.ProviderError) as by_request:
        _run(extras={"mock_fail": word})
    with pytest.raises(base.ProviderError) as by_environment:
        _run(offer=_offer(settings={"MOCK_FAIL": word}))
    assert type(by_request.value) is type(by_environment.value) is error


def test_a_request_outranks_the_environment() -> None:
    offer = _offer(settings={"MOCK_FAIL": "refuse", "MOCK_DELAY_MS": "120000"})
    assert _run(offer=offer, extras={"mock_fail": "", "mock_delay_ms": 0}).pictures


@pytest.mark.parametrize("source", ["request", "environment"])
def test_it_waits_as_told(source: str) -> None:
    offer = _offer(settings={"MOCK_DELAY_MS": "150"} if source == "environment" else {})
    started = time.monotonic()
    _run(offer=offer, extras={"mock_delay_ms": "150"} if source == "request" else {})
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize("extras", [{"mock_fail": "timeout"}, {"mock_delay_ms": 120_000}])
def test_it_times_out_at_the_deadline(extras: dict[str, Any]) -> None:
    started = time.monotonic()
    with pytest.raises(base.TimedOut):
        _run(extras=extras, deadline_s=0.2)
    assert 0.2 <= time.monotonic() - started < 2


@pytest.mark.parametrize("deadline_s", [-5, 0])
def test_it_times_out_at_once_when_the_deadline_has_passed(deadline_s: float) -> None:
    with pytest.raises(base.TimedOut):
        _run(deadline_s=deadline_s)


@pytest.mark.parametrize("value", [-1, 120_001, 1.5, True, None, "soon", "", [], {"ms": 5}, "9" * 5000, "٣"])
def test_it_says_which_delays_are_allowed(value: object) -> None:
    with pytest.raises(base.InvalidInput, match="from 0 to 120000") as caught:
        _run(extras={"mock_delay_ms": value}, deadline_s=0.2)
    assert caught.value.param == "mock_delay_ms"


@pytest.mark.parametrize("value", ["explode", 1, ["refuse"], None])
def test_it_says_which_failures_are_allowed(value: object) -> None:
    with pytest.raises(base.InvalidInput, match=r"one of refuse, .*timeout") as caught:
        _run(extras={"mock_fail": value})
    assert caught.value.param == "mock_fail"


@pytest.mark.parametrize("wrong", [{"MOCK_DELAY_MS": "soon"}, {"MOCK_FAIL": "explode"}])
def test_a_wrong_environment_is_the_operators_trouble(wrong: dict[str, str]) -> None:
    with pytest.raises(base.OperatorTrouble, match=next(iter(wrong))):
        _run(offer=_offer(settings=wrong))


@pytest.mark.parametrize("word", SCENES)
def test_it_draws_a_sketch_quickly(word: str) -> None:
    """Measured at under 120 ms of processor time on one quiet core; the limit here leaves room for a busy machine."""
    started = time.process_time()
    _files(prompt=word, size="1024x1024", quality="low")
    assert time.process_time() - started < 0.6
