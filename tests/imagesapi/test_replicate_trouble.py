"""Trouble with replicate: predictions that fail, errors, hostile answers, and files that cannot be had."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from imagesapi.providers import replicate
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    InvalidInput,
    ModelGone,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from tests.fakes import _pictures, misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import REPLICATE_TOKEN, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.predictions import KONTEXT, ONE, asked_for, ended, failure, offer, routes, run

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


@pytest.mark.parametrize("behaviour", adapters.CUT_SHORT)
def test_no_complete_answer_leaves_the_outcome_unknown(fake: ProviderFake, behaviour: Behaviour) -> None:
    adapters.assert_left_unknown(lambda: failure(fake, behaviour, within_s=0.4))


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
