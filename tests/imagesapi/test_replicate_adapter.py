"""The replicate adapter against the wire-level fake: each model's fields, waiting, cancelling, resuming, files."""

from __future__ import annotations

import io
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import replicate
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Cancelled,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, EditCapabilities, InputImage, Offer
from tests.fakes import _pictures, misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import REPLICATE_TOKEN, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.offers import catalogue

SCHNELL = "black-forest-labs/flux-schnell"
KONTEXT = "black-forest-labs/flux-kontext-pro"
PAINTER = "someone/painter"
ABLE: dict[str, Any] = {
    "max_n": 4,
    "sizes": (),
    "size_style": "ratio",
    "ratio_sizes": {"1K": {"1:1": "1024x1024", "16:9": "1344x768"}},
    "qualities": (),
    "backgrounds": (),
    "output_formats": ("png", "jpeg", "webp"),
    "compression": True,
    "extras": ("seed", "go_fast"),
}
ONE: dict[str, Any] = {"max_n": 1}
PIXELS: dict[str, Any] = {"max_n": 1, "size_style": "pixels", "ratio_sizes": {}}


@pytest.fixture(scope="module")
def server() -> Iterator[ProviderFake]:
    with ProviderFake() as running:
        yield running


@pytest.fixture
def fake(server: ProviderFake) -> ProviderFake:
    server.reset()
    return server


def offer(fake: ProviderFake, wire_id: str = SCHNELL, settings: dict[str, str] | None = None, **able: Any) -> Offer:
    return adapters.offer("replicate", wire_id, adapters.settings_of(fake, **(settings or {})), **{**ABLE, **able})


def asked_for(**asked: Any) -> dict[str, Any]:
    return {"quality": None, "aspect_ratio": "1:1", "resolution": "1K", **asked}


def run(fake: ProviderFake, wire_id: str = SCHNELL, able: dict[str, Any] | None = None, **asked: Any) -> Answer:
    return replicate.run(adapters.call(replicate, offer(fake, wire_id, **(able or {})), **asked_for(**asked)))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    assert REPLICATE_TOKEN not in repr((caught.value.message, caught.value.details))
    return caught.value


def routes(fake: ProviderFake) -> list[str]:
    return [seen.route for seen in fake.requests]


def picture(kind: str = "png") -> InputImage:
    return InputImage(f"image/{kind}", 64, 48, "0" * 64, _pictures.draw(64, 48, kind))


def image_of(answer: Answer, index: int = 0) -> Image.Image:
    found = answer.pictures[index]
    data = found.data if found.b64 is None else pybase64.b64decode(found.b64, validate=True)
    assert data is not None
    return Image.open(io.BytesIO(data))


def ended(status: str, **fields: Any) -> Behaviour:
    """A prediction in this state, with fields changed."""
    return misbehaviour.altered(lambda body: body.update(status=status, **fields))


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


# Predictions that fail


@pytest.mark.parametrize(
    "text",
    [
        "NSFW content detected. Try running it again, or try a different prompt.",
        "All generated images contained NSFW content. Try running it again with a different prompt.",
        "The input or output was flagged as sensitive. Please try again with different inputs. (E005)",
        "Request Moderated",
        "Content blocked by our safety system",
    ],
)
def test_a_refusal_of_the_content_is_read_from_the_text(fake: ProviderFake, text: str) -> None:
    fake.replicate.failure = text
    error = failure(fake)
    assert isinstance(error, Blocked)
    assert error.message == text
    assert (error.may_fail_over, fake.billed) == (False, 0)


@pytest.mark.parametrize("text", ["CUDA out of memory", "Prediction interrupted; please retry (code: PA)", "", None, 7])
def test_another_failure_is_unbilled_and_may_fail_over(fake: ProviderFake, text: Any) -> None:
    fake.script(ended("failed", error=text, output=None))
    error = failure(fake)
    assert isinstance(error, Unavailable)
    assert error.may_fail_over and not error.possibly_billed


def test_our_token_is_taken_out_of_a_message(fake: ProviderFake) -> None:
    fake.replicate.failure = f"no access with {REPLICATE_TOKEN}"
    assert "[key]" in failure(fake).message


# Errors


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Unavailable),
        (400, InvalidInput),
        (401, OperatorTrouble),
        (402, OperatorTrouble),
        (403, OperatorTrouble),
        (404, ModelGone),
        (408, Unavailable),
        (409, Unavailable),
        (410, ModelGone),
        (413, InvalidInput),
        (422, InvalidInput),
        (429, RateLimited),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_every_error_status_has_its_meaning(fake: ProviderFake, status: int, expected: type[ProviderError]) -> None:
    body = {"title": "Trouble", "status": status, "detail": f"It went wrong for {REPLICATE_TOKEN}."}
    error = failure(fake, misbehaviour.status(status, body))
    assert type(error) is expected
    assert (error.http_status, error.possibly_billed) == (status, False)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(400, Unavailable), (422, Unavailable), (404, ModelGone), (502, Unavailable), (504, TimedOut), (524, TimedOut)],
)
@pytest.mark.parametrize("body", [b"<html>gateway</html>", [1], {"title": 7}])
def test_a_status_without_problem_details_is_judged_by_its_number(
    fake: ProviderFake, status: int, expected: type[ProviderError], body: Any
) -> None:
    assert type(failure(fake, misbehaviour.status(status, body))) is expected


def test_a_wrong_token_is_the_operators(fake: ProviderFake) -> None:
    to = offer(fake, settings={"REPLICATE_API_TOKEN": "r8_wrong"})
    with pytest.raises(OperatorTrouble):
        replicate.run(adapters.call(replicate, to, **asked_for()))


def test_an_unknown_model_is_gone(fake: ProviderFake) -> None:
    assert isinstance(failure(fake, wire_id="nobody/nothing"), ModelGone)


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"aspect_ratio": "5:1"}, "aspect_ratio"),
        ({"n": 5}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"extras": {"seed": 1, "go_fast": 1}, "wire_id": KONTEXT, "able": ONE}, "go_fast"),
    ],
)
def test_a_refused_field_bears_our_name(fake: ProviderFake, asked: dict[str, Any], param: str) -> None:
    error = failure(fake, **asked)
    assert isinstance(error, InvalidInput)
    assert (error.param, error.http_status) == (param, 422)


@pytest.mark.parametrize("field", ["width", "input_image_2", "mask"])
def test_names_of_fields_are_translated(fake: ProviderFake, field: str) -> None:
    body = {"title": "Input validation failed", "detail": f"- input.{field}: is wrong\n", "status": 422}
    wanted = {"width": "size", "input_image_2": "image", "mask": "mask"}[field]
    assert failure(fake, misbehaviour.status(422, body)).param == wanted


def test_a_rate_limit_carries_its_wait(fake: ProviderFake) -> None:
    error = failure(fake, misbehaviour.status(429, {"detail": "Request was throttled."}, headers={"Retry-After": "9"}))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 9


def test_a_refused_connection_is_unavailable(fake: ProviderFake) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        to = offer(fake, settings={"REPLICATE_BASE_URL": f"http://127.0.0.1:{closed.getsockname()[1]}/v1"})
        with pytest.raises(Unavailable):
            replicate.run(adapters.call(replicate, to, **asked_for()))


# Hostile answers


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.hang(),
        misbehaviour.bill_and_hang(),
        misbehaviour.drip_head(),
        misbehaviour.drip_body(),
        misbehaviour.drop(),
        misbehaviour.drop_in_body(reset=True),
        misbehaviour.bill_and_drop(),
    ],
)
def test_no_complete_answer_leaves_the_outcome_unknown(fake: ProviderFake, behaviour: Behaviour) -> None:
    begun = time.monotonic()
    error = failure(fake, behaviour, within_s=0.4)
    assert isinstance(error, TimedOut)
    assert error.possibly_billed and not error.may_fail_over
    assert time.monotonic() - begun < 0.9


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.garbage(),
        misbehaviour.html(200),
        misbehaviour.status(201, b""),
        misbehaviour.status(200, [1, 2]),
        misbehaviour.error_in_200(),
        misbehaviour.gzip_bomb(),
        misbehaviour.huge_declared(),
        misbehaviour.endless_chunks(),
        ended("succeeded", output=None),
        ended("succeeded", output=[]),
        ended("succeeded", output={"image": "x"}),
        ended("succeeded", output=[None, 7, ["x"], {}]),
        ended("succeeded", output="data:image/png;base64,PGh0bWw+"),
        ended("succeeded", output="data:text/html;base64,iVBORw0KGgo="),
        ended("starting", urls=None),
        ended("starting", urls={"get": 7, "cancel": []}),
        ended("starting", urls={}),
        ended("starting", urls={"get": "https://api.replicate.com.evil.example/v1", "cancel": "https://evil.example"}),
        misbehaviour.status(200, b'{"output":' + b"[" * 100_000),
    ],
)
def test_a_success_that_is_no_answer_is_a_bad_answer(fake: ProviderFake, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed
    assert set(routes(fake)) == {"predict"}


def test_the_key_is_never_sent_off_the_services_host(fake: ProviderFake) -> None:
    with ProviderFake() as stranger:
        elsewhere = {"get": f"{stranger.replicate_url}/predictions/x", "cancel": f"{stranger.replicate_url}/y"}
        assert isinstance(failure(fake, ended("starting", output=None, urls=elsewhere)), BadAnswer)
        assert stranger.connections == 0


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:1/x.png",
        "http://169.254.169.254/latest/meta-data",
        "https://replicate.delivery.evil.example/x.png",
        "https://evilreplicate.delivery/x.png",
        "http://replicate.delivery/x.png",
        "https://replicate.delivery:8443/x.png",
        "https://user@replicate.delivery/x.png",
        "https://replicate.delivery\\@evil.example/x.png",
        "file:///etc/passwd",
        "ftp://replicate.delivery/x.png",
        "//replicate.delivery/x.png",
        "https://replicate.delivery/" + "x" * 3_000,
    ],
)
def test_output_elsewhere_is_not_fetched(fake: ProviderFake, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr("imagesapi.providers._shared.download", lambda url, **_: fetched.append(url))
    assert isinstance(failure(fake, ended("succeeded", output=[address])), BadAnswer)
    assert fetched == []


@pytest.mark.parametrize("host", ["replicate.delivery", "pbxt.replicate.delivery", "XEZQ.Replicate.Delivery"])
def test_output_on_the_services_file_hosts_is_fetched(
    fake: ProviderFake, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def download(address: str, *, deadline: float) -> bytes:
        fetched.append(address)
        return _pictures.draw(8, 8, "png")

    monkeypatch.setattr("imagesapi.providers._shared.download", download)
    fake.script(ended("succeeded", output=f"https://{host}/x/out.png"))
    assert len(run(fake).pictures) == 1
    assert fetched == [f"https://{host}/x/out.png"]


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.status(404),
        misbehaviour.status(200, b"<svg/>"),
        misbehaviour.drop_in_body(),
        misbehaviour.huge_declared(),
        misbehaviour.redirect("http://169.254.169.254/"),
    ],
)
def test_a_file_that_cannot_be_had_is_a_bad_answer(fake: ProviderFake, behaviour: Behaviour) -> None:
    fake.behave(behaviour, on="predict-file")
    error = failure(fake, within_s=3.0)
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed
    fake.behave(None, on="predict-file")


@pytest.mark.parametrize("value", [-1, 1e300, True, "0.5", None, 10**9, [1]])
def test_an_odd_time_is_no_evidence(fake: ProviderFake, value: Any) -> None:
    fake.script(misbehaviour.altered(lambda body: body.update(metrics={"predict_time": value})))
    assert run(fake).evidence["predict_time_s"] is None


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
