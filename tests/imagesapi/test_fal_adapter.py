"""The fal adapter against the wire-level fake: what it asks, both families of errors, inline pictures and files."""

from __future__ import annotations

import io
import socket
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import _fal_answers, fal
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    Unavailable,
)
from imagesapi.values import Answer, Offer
from tests.fakes import misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters

GPT_IMAGE_1 = "fal-ai/gpt-image-1/text-to-image"
SCHNELL = "fal-ai/flux/schnell"
FLUX: dict[str, Any] = {
    "sizes": (),
    "size_style": "preset_or_pixels",
    "qualities": (),
    "backgrounds": (),
    "output_formats": ("jpeg", "png"),
}


def offer(fake: ProviderFake, wire_id: str = GPT_IMAGE_1, *, mode: str = "run", **able: Any) -> Offer:
    if "flux" in wire_id:
        able = {**FLUX, **able}
    return adapters.offer("fal", wire_id, adapters.settings_of(fake, FAL_MODE=mode), **able)


def run(fake: ProviderFake, wire_id: str = GPT_IMAGE_1, *, mode: str = "run", **asked: Any) -> Answer:
    if "flux" in wire_id:
        asked.setdefault("quality", None)
    return fal.run(adapters.call(fal, offer(fake, wire_id, mode=mode), **asked))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    told = repr((caught.value.message, caught.value.details))
    assert fake.fal_key not in told and fake.fal_key.split(":")[1] not in told
    return caught.value


def image_of(answer: Answer, index: int = 0) -> Image.Image:
    picture = answer.pictures[index]
    data = picture.data if picture.b64 is None else pybase64.b64decode(picture.b64, validate=True)
    assert data is not None
    return Image.open(io.BytesIO(data))


def by_file(fake: ProviderFake, **asked: Any) -> Answer:
    """A run whose pictures come as addresses, as models without sync_mode answer."""
    to = offer(fake)
    body = {**fal.build(adapters.fitted(**asked), to), "sync_mode": False}
    return fal.run(adapters.call(fal, to, body=body, **asked))


# Run


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_it_returns_inline_pictures_with_units_and_size(fake: ProviderFake, mode: str) -> None:
    answer = run(fake, SCHNELL, mode=mode, n=2, size="1536x1024", output_format="jpeg")
    assert [picture.data for picture in answer.pictures] == [None, None]
    assert (image_of(answer).format, image_of(answer, 1).size) == ("JPEG", (1536, 1024))
    assert answer.billable_units_micros == 4_000_000
    assert answer.usage is None
    assert answer.effective == {"size": "1536x1024", "output_format": "jpeg"}
    assert answer.request_id
    assert fake.billed == 2


def test_it_says_key_and_not_bearer(fake: ProviderFake) -> None:
    run(fake)
    assert fake.requests[0].headers["authorization"] == f"Key {fake.fal_key}"


def test_it_writes_sizes_as_words_where_the_model_has_words(fake: ProviderFake) -> None:
    run(fake, n=2, size="1536x1024", background="transparent", output_format="webp")
    assert fake.requests[0].path == f"/fal/run/{GPT_IMAGE_1}"
    assert fake.requests[0].json == {
        "prompt": "a fox in the snow",
        "image_size": "1536x1024",
        "num_images": 2,
        "quality": "low",
        "background": "transparent",
        "output_format": "webp",
        "sync_mode": True,
    }


def test_it_writes_sizes_as_pixels_elsewhere(fake: ProviderFake) -> None:
    to = offer(fake, SCHNELL)
    assert fal.build(adapters.fitted(size="512x768"), to)["image_size"] == {"width": 512, "height": 768}
    assert fal.build(adapters.fitted(size="auto"), to)["image_size"] == "auto"


def test_it_leaves_out_the_number_where_there_is_none(fake: ProviderFake) -> None:
    body = fal.build(adapters.fitted(quality=None), offer(fake, "fal-ai/flux-2-pro", max_n=1, output_formats=()))
    assert body == {
        "prompt": "a fox in the snow",
        "image_size": {"width": 1024, "height": 1024},
        "sync_mode": True,
    }


def test_extras_never_override_what_the_adapter_writes(fake: ProviderFake) -> None:
    names = ("seed", "prompt", "num_images", "image_size", "sync_mode", "openai_api_key", "quality")
    wanted = adapters.fitted(extras={**dict.fromkeys(names, 77), "unlisted": 1})
    body = fal.build(wanted, offer(fake, extras=names))
    assert (body["seed"], body["num_images"], body["sync_mode"], body["quality"]) == (77, 1, True, "low")
    assert not {"unlisted", "openai_api_key"} & set(body)


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("1", 1_000_000),
        ("1.0", 1_000_000),
        ("1.048576", 1_048_576),
        ("0.0000005", 0),
        ("0.0000015", 2),
        (" 2.5 ", 2_500_000),
        ("0", 0),
        ("-1", None),
        ("+1", None),
        ("NaN", None),
        ("Infinity", None),
        ("1e3", None),
        ("1_000", None),
        ("0x10", None),
        ("", None),
        (".5", None),
        ("1,5", None),
        ("9999999", None),
        ("1" * 5_000, None),
        ("1 2", None),
    ],
)
def test_billable_units_are_read_as_plain_decimals_only(fake: ProviderFake, text: str, micros: int | None) -> None:
    fake.script(misbehaviour.with_header("x-fal-billable-units", text))
    answer = run(fake, SCHNELL)
    assert answer.billable_units_micros == micros
    assert len(answer.evidence["billable_units"]) <= 64


def test_a_single_image_object_is_an_answer(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: {"image": body["images"][0]}))
    assert len(run(fake).pictures) == 1


def test_a_flagged_picture_is_a_block(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body.update(has_nsfw_concepts=[True])))
    assert isinstance(failure(fake, wire_id=SCHNELL), Blocked)


def test_only_the_flagged_picture_of_several_is_withheld(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body.update(has_nsfw_concepts=[False, True, "yes"])))
    answer = run(fake, SCHNELL, n=3)
    assert len(answer.pictures) == 2
    assert answer.evidence["blocked"] == 1


@pytest.mark.parametrize("edges", [(None, None), (-5, 5), (10**9, 5), ("1024", "1024"), (True, True), (0, 0), ([], {})])
def test_odd_sizes_are_left_out(fake: ProviderFake, edges: tuple[Any, Any]) -> None:
    def change(body: dict[str, Any]) -> None:
        body["images"][0].update(width=edges[0], height=edges[1], content_type="image/png; x")

    fake.script(misbehaviour.altered(change))
    assert run(fake).effective == {}


# Errors


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"size": "640x480"}, "size"), ({"n": 5}, "n"), ({"quality": "ultra"}, "quality"), ({"prompt": ""}, "prompt")],
)
@pytest.mark.parametrize("mode", ["run", "queue"])
def test_a_refused_field_bears_openais_name(fake: ProviderFake, mode: str, asked: dict[str, Any], param: str) -> None:
    error = failure(fake, mode=mode, **asked)
    assert isinstance(error, InvalidInput)
    assert (error.param, error.http_status) == (param, 422)
    assert not error.possibly_billed


def test_a_field_the_caller_never_wrote_is_not_named(fake: ProviderFake) -> None:
    detail = [{"loc": ["body", "sync_mode"], "msg": "bad", "type": "bool_type"}]
    assert failure(fake, misbehaviour.status(422, {"detail": detail})).param is None


@pytest.mark.parametrize("kind", ["content_policy_violation", "no_media_generated"])
@pytest.mark.parametrize("mode", ["run", "queue"])
def test_a_block_is_judged_by_its_type(fake: ProviderFake, mode: str, kind: str) -> None:
    body = {"detail": [{"loc": ["body", "prompt"], "msg": "anything", "type": kind}]}
    fake.script(misbehaviour.status(422, body), on="run" if mode == "run" else "result")
    error = failure(fake, mode=mode)
    assert isinstance(error, Blocked)
    assert error.error_code == "moderation_blocked"


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_or_balance_problem_is_the_operators(fake: ProviderFake, status: int) -> None:
    error = failure(fake, misbehaviour.status(status, {"detail": f"Exhausted balance of {fake.fal_key}"}))
    assert isinstance(error, OperatorTrouble)


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_a_wrong_key_is_not_echoed(fake: ProviderFake, mode: str) -> None:
    to = adapters.offer("fal", GPT_IMAGE_1, adapters.settings_of(fake, FAL_KEY="wrong-id:wrong-secret", FAL_MODE=mode))
    with pytest.raises(OperatorTrouble) as caught:
        fal.run(adapters.call(fal, to))
    assert "wrong" not in caught.value.message


def test_our_key_is_taken_out_of_a_message(fake: ProviderFake) -> None:
    error = failure(fake, misbehaviour.status(422, {"detail": f"cannot {fake.fal_key} or fal-secret-4567"}))
    assert isinstance(error, InvalidInput)
    assert error.message == "cannot [key] or [key]"


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_an_unknown_model_is_gone(fake: ProviderFake, mode: str) -> None:
    assert isinstance(failure(fake, wire_id="fal-ai/no-such-model", mode=mode), ModelGone)


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_a_rate_limit_carries_its_wait(fake: ProviderFake, mode: str) -> None:
    error = failure(fake, misbehaviour.rate_limited("3"), mode=mode)
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == 3


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.html(502),
        misbehaviour.html(504),
        misbehaviour.status(500, {"detail": [{"loc": [], "msg": "x", "type": "internal_server_error"}]}),
        misbehaviour.status(504, {"detail": [{"loc": ["body"], "msg": "x", "type": "generation_timeout"}]}),
        misbehaviour.status(503, {"detail": "no runner", "error_type": "runner_scheduling_failure"}),
        misbehaviour.status(422, {"detail": "x"}, headers={"x-fal-error-type": "startup_timeout"}),
        misbehaviour.html(400),
        misbehaviour.status(500, {"detail": [None, 5, {"type": ["x"]}]}),
    ],
)
def test_platform_failures_are_unavailable_and_unbilled(fake: ProviderFake, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, Unavailable)
    assert error.may_fail_over and not error.possibly_billed


@pytest.mark.parametrize("mode", ["run", "queue"])
def test_a_refused_connection_is_unavailable(fake: ProviderFake, mode: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        settings = adapters.settings_of(fake, FAL_RUN_URL=address, FAL_QUEUE_URL=address, FAL_MODE=mode)
        with pytest.raises(Unavailable):
            fal.run(adapters.call(fal, adapters.offer("fal", GPT_IMAGE_1, settings)))


@pytest.mark.parametrize("behaviour", adapters.CUT_SHORT)
@pytest.mark.parametrize("mode", ["run", "queue"])
def test_no_complete_answer_leaves_the_outcome_unknown(fake: ProviderFake, mode: str, behaviour: Behaviour) -> None:
    adapters.assert_left_unknown(lambda: failure(fake, behaviour, mode=mode, within_s=0.4))


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.garbage(),
        misbehaviour.wrong_types(),
        misbehaviour.empty_data(),
        misbehaviour.not_an_image(),
        misbehaviour.error_in_200(),
        misbehaviour.html(200),
        misbehaviour.status(200, b""),
        misbehaviour.gzip_bomb(),
        misbehaviour.huge_declared(),
        misbehaviour.endless_chunks(),
        misbehaviour.status(200, {"images": [None, 5, {"url": None}, {"url": "data:image/png;base64"}, {"url": ","}]}),
        misbehaviour.status(200, {"images": [{"url": "data:text/html;base64,iVBORw0KGgo="}]}),
        misbehaviour.status(200, {"image": "https://v3.fal.media/x.png"}),
    ],
)
@pytest.mark.parametrize("route", ["run", "result"])
def test_a_success_that_is_no_answer_is_bad_and_possibly_billed(
    fake: ProviderFake, route: str, behaviour: Behaviour
) -> None:
    fake.script(behaviour, on=route)
    error = failure(fake, mode="run" if route == "run" else "queue")
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed and not error.may_fail_over


# Files


def test_it_fetches_a_file_without_its_key(fake: ProviderFake) -> None:
    answer = by_file(fake, n=2)
    assert [picture.b64 for picture in answer.pictures] == [None, None]
    assert image_of(answer, 1).size == (1024, 1024)
    fetched = [seen for seen in fake.requests if seen.route == "file"]
    assert len(fetched) == 2
    assert all("authorization" not in seen.headers for seen in fetched)


def test_it_tries_a_broken_download_once_more(fake: ProviderFake) -> None:
    fake.script(misbehaviour.drop_in_body(), on="file")
    assert len(by_file(fake).pictures) == 1


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.status(404, {"detail": "Not Found"}),
        misbehaviour.html(200),
        misbehaviour.redirect("http://127.0.0.1:1/"),
        misbehaviour.huge_declared(),
        misbehaviour.drop(),
    ],
)
def test_a_file_that_cannot_be_had_is_a_bad_answer(fake: ProviderFake, behaviour: Behaviour) -> None:
    fake.behave(behaviour, on="file")
    with pytest.raises(BadAnswer):
        by_file(fake)


@pytest.mark.parametrize(
    "address",
    [
        "{stranger}/fal/files/x.png",
        "http://user@{home}/fal/files/x.png",
        "http://{home}\\@{other}/fal/files/x.png",
        "http://{other}#@{home}/x.png",
        "http://{home}@{other}/x.png",
        "http://localhost:80/x.png",
        "http://v3.fal.media/x.png",
        "https://v3.fal.media:8443/x.png",
        "https://fal.media.evil.example/x.png",
        "https://evilfal.media/x.png",
        "https://v3.fal.media@{other}/x.png",
        "https:///v3.fal.media/x.png",
        "https://①②⑦.⓪.⓪.①/x.png",
        "https://[::1]/x.png",
        "https://127.0.0.1/x.png",
        "http://{home}\t/x.png",
        "http://{home}/x.png\r\nX-Evil: 1",
        "file:///etc/passwd",
        "//v3.fal.media/x.png",
        "ftp://v3.fal.media/x.png",
    ],
)
def test_it_fetches_from_nowhere_else(fake: ProviderFake, address: str) -> None:
    with ProviderFake() as stranger:
        home, other = fake.url.removeprefix("http://"), stranger.url.removeprefix("http://")
        url = address.format(stranger=stranger.url, home=home, other=other)
        assert isinstance(failure(fake, misbehaviour.status(200, {"images": [{"url": url}]})), BadAnswer)
        assert stranger.requests == []
        assert [seen.route for seen in fake.requests] == ["run"]


def test_fals_own_file_hosts_are_allowed_and_its_run_host_is_not() -> None:
    public = {"FAL_KEY": "k", "FAL_RUN_URL": "https://fal.run", "FAL_QUEUE_URL": "https://queue.fal.run"}
    allowed = {
        address: _fal_answers._may_fetch(public)(address)
        for address in ("https://fal.media/a", "https://v3b.fal.media/files/b/x.png?sig=1", "https://fal.run/a")
    }
    assert list(allowed.values()) == [True, True, False]
    own = {**public, "FAL_RUN_URL": "https://images.example:444/fal"}
    assert _fal_answers._may_fetch(own)("https://images.example:444/x.png")
    assert not _fal_answers._may_fetch(own)("http://images.example:444/x.png")
    plain = {**public, "FAL_RUN_URL": "http://images.example"}
    assert not _fal_answers._may_fetch(plain)("http://images.example/x.png")
