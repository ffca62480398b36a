"""The openai adapter against the wire-level fake: what it asks, what it takes, and what every failure becomes."""

from __future__ import annotations

import io
import socket
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import openai
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
from imagesapi.values import Answer, Offer, Usage
from tests.fakes import misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters


def offer(fake: ProviderFake, wire_id: str = "gpt-image-1", **able: Any) -> Offer:
    settings = adapters.settings_of(fake)
    return adapters.offer("openai", wire_id, settings, compression=True, moderation=True, **able)


def run(
    fake: ProviderFake, wire_id: str = "gpt-image-1", *, able: dict[str, Any] | None = None, **asked: Any
) -> Answer:
    return openai.run(adapters.call(openai, offer(fake, wire_id, **(able or {})), **asked))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    assert fake.openai_key not in repr((caught.value.message, caught.value.details, str(caught.value)))
    return caught.value


def test_it_returns_a_picture_with_its_usage(fake: ProviderFake) -> None:
    answer = run(fake)
    (picture,) = answer.pictures
    assert picture.b64 is not None and picture.data is None
    image = Image.open(io.BytesIO(pybase64.b64decode(picture.b64, validate=True)))
    assert (image.format, image.size) == ("PNG", (1024, 1024))
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=0, image_output_tokens=272)
    assert answer.effective == {
        "size": "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "png",
    }
    assert answer.request_id is not None and answer.request_id.startswith("req_")
    assert answer.evidence["usage"]["output_tokens"] == 272
    assert answer.billable_units_micros is None


def test_it_hands_every_parameter_over(fake: ProviderFake) -> None:
    answer = run(
        fake,
        n=3,
        size="1536x1024",
        quality="medium",
        background="opaque",
        output_format="webp",
        output_compression=50,
        moderation="low",
        user="u-1",
    )
    assert fake.requests[0].json == {
        "model": "gpt-image-1",
        "prompt": "a fox in the snow",
        "n": 3,
        "size": "1536x1024",
        "quality": "medium",
        "background": "opaque",
        "output_format": "webp",
        "output_compression": 50,
        "moderation": "low",
        "user": "u-1",
    }
    assert len({picture.b64 for picture in answer.pictures}) == 3
    assert answer.usage is not None and answer.usage.image_output_tokens == 3 * 1568
    assert fake.billed == 3


def test_it_leaves_out_what_the_offer_does_not_have(fake: ProviderFake) -> None:
    bare = offer(fake, sizes=(), output_formats=())
    wanted = adapters.fitted(quality=None, size="auto")
    assert openai.build(wanted, bare) == {"model": "gpt-image-1", "prompt": "a fox in the snow", "n": 1}


def test_extras_never_override_what_the_adapter_writes(fake: ProviderFake) -> None:
    names = ("safety_identifier", "model", "n", "response_format", "stream", "partial_images", "prompt")
    wanted = adapters.fitted(extras={**dict.fromkeys(names, "evil"), "unlisted": 1})
    body = openai.build(wanted, offer(fake, extras=names))
    assert body["safety_identifier"] == "evil"
    assert (body["model"], body["n"], body["prompt"]) == ("gpt-image-1", 1, "a fox in the snow")
    assert not {"response_format", "stream", "partial_images", "unlisted"} & set(body)


def test_it_asks_newer_models_for_free_sizes(fake: ProviderFake) -> None:
    to = offer(fake, "gpt-image-2", sizes=(), size_style="pixels")
    answer = openai.run(adapters.call(openai, to, size="1024x768"))
    assert answer.effective["size"] == "1024x768"
    assert answer.usage is not None and answer.usage.image_output_tokens == 134


@pytest.mark.parametrize("status", [401, 402, 403])
def test_a_key_or_account_problem_is_the_operators(fake: ProviderFake, status: int) -> None:
    error = failure(fake, misbehaviour.status(status, {"error": {"message": f"bad key {fake.openai_key}"}}))
    assert isinstance(error, OperatorTrouble)
    assert error.may_fail_over and not error.possibly_billed


def test_a_wrong_key_is_not_echoed_even_masked(fake: ProviderFake) -> None:
    to = adapters.offer("openai", "gpt-image-1", adapters.settings_of(fake, OPENAI_API_KEY="sk-wrong-key-9876543210"))
    with pytest.raises(OperatorTrouble) as caught:
        openai.run(adapters.call(openai, to))
    assert "*" not in caught.value.message and "sk-" not in caught.value.message


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (429, "insufficient_quota", "insufficient_quota"),
        (429, "insufficient_quota", None),
        (400, "image_generation_user_error", "billing_hard_limit_reached"),
        (400, "invalid_request_error", "billing_not_active"),
    ],
)
def test_quota_and_billing_are_the_operators(fake: ProviderFake, status: int, kind: str, code: str | None) -> None:
    body = {"error": {"message": "You exceeded your quota.", "type": kind, "param": None, "code": code}}
    assert isinstance(failure(fake, misbehaviour.status(status, body)), OperatorTrouble)


@pytest.mark.parametrize(
    ("header", "wait_s"), [("7", 7), ("0.2", 1), ("junk", None), (None, None), ("999999999", 3600)]
)
def test_a_rate_limit_carries_its_wait(fake: ProviderFake, header: str | None, wait_s: int | None) -> None:
    error = failure(fake, misbehaviour.rate_limited(header))
    assert isinstance(error, RateLimited)
    assert (error.retry_after_s, error.possibly_billed) == (wait_s, False)


def test_a_block_carries_its_moderation_details(fake: ProviderFake) -> None:
    error = failure(fake, misbehaviour.blocked())
    assert isinstance(error, Blocked)
    assert error.error_code == "moderation_blocked"
    assert error.details == {"moderation_details": {"moderation_stage": "input", "categories": ["violence"]}}


@pytest.mark.parametrize(
    "details", [None, 5, [], {"moderation_stage": ["x"], "categories": 3}, {"categories": [{}, 1]}]
)
def test_odd_moderation_details_are_left_out(fake: ProviderFake, details: Any) -> None:
    body = {"error": {"message": "no", "code": "content_policy_violation", "moderation_details": details}}
    error = failure(fake, misbehaviour.status(400, body))
    assert isinstance(error, Blocked)
    assert error.details.get("moderation_details", {}).get("categories", []) == []


def test_a_refused_value_names_its_parameter(fake: ProviderFake) -> None:
    error = failure(fake, size="640x480")
    assert isinstance(error, InvalidInput)
    assert (error.param, error.error_code, error.http_status) == ("size", "invalid_value", 400)
    assert "1536x1024" in error.message


def test_a_message_is_one_bounded_line_without_keys(fake: ProviderFake) -> None:
    text = f"bad\r\nvalue sk-live_abcdef123456 and sk-ab****wxyz near {fake.openai_key}\x00 " + "y" * 5_000
    error = failure(fake, misbehaviour.status(400, {"error": {"message": text, "param": "size", "code": 5}}))
    assert isinstance(error, InvalidInput)
    assert len(error.message) <= 500 and error.message.isprintable()
    assert "abcdef" not in error.message and "wxyz" not in error.message


def test_a_retired_model_is_gone() -> None:
    with ProviderFake(retired=frozenset({"gpt-image-1"})) as fake:
        error = failure(fake)
    assert isinstance(error, ModelGone)
    assert not error.possibly_billed


@pytest.mark.parametrize("code", [500, 502, 503, 520])
def test_a_server_error_is_unavailable_and_unbilled(fake: ProviderFake, code: int) -> None:
    error = failure(fake, misbehaviour.html(code))
    assert isinstance(error, Unavailable)
    assert error.may_fail_over and not error.possibly_billed
    assert error.http_status == code


@pytest.mark.parametrize("code", [504, 524])
def test_a_proxy_that_stopped_waiting_leaves_the_outcome_unknown(fake: ProviderFake, code: int) -> None:
    assert isinstance(failure(fake, misbehaviour.html(code)), TimedOut)


def test_an_html_page_with_status_400_is_not_the_callers_fault(fake: ProviderFake) -> None:
    assert isinstance(failure(fake, misbehaviour.html(400)), Unavailable)


def test_a_redirect_is_not_followed(fake: ProviderFake) -> None:
    with ProviderFake() as stranger:
        error = failure(fake, misbehaviour.redirect(f"{stranger.openai_url}/images/generations"))
        assert isinstance(error, Unavailable)
        assert stranger.requests == []


def test_a_refused_connection_is_unavailable(fake: ProviderFake) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/v1"
        to = adapters.offer("openai", "gpt-image-1", adapters.settings_of(fake, OPENAI_BASE_URL=address))
        with pytest.raises(Unavailable):
            openai.run(adapters.call(openai, to))


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.hang(),
        misbehaviour.bill_and_hang(),
        misbehaviour.drip_head(),
        misbehaviour.drip_body(),
        misbehaviour.drop(),
        misbehaviour.drop(reset=True),
        misbehaviour.bill_and_drop(),
        misbehaviour.drop_in_body(),
        misbehaviour.drop_in_body(reset=True),
        misbehaviour.wrong_length(+1),
        misbehaviour.interim(),
        misbehaviour.not_http(),
    ],
)
def test_no_complete_answer_leaves_the_outcome_unknown(fake: ProviderFake, behaviour: Behaviour) -> None:
    adapters.assert_left_unknown(lambda: failure(fake, behaviour, within_s=0.4))


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.garbage(),
        misbehaviour.wrong_types(),
        misbehaviour.empty_data(),
        misbehaviour.not_an_image(),
        misbehaviour.error_in_200(),
        misbehaviour.html(200),
        misbehaviour.status(204),
        misbehaviour.status(200, b""),
        misbehaviour.status(200, b"[1, 2]"),
        misbehaviour.status(200, b"[" * 100_000),
        misbehaviour.status(200, {"data": [None, 7, {"b64_json": None}, {"b64_json": 5}, {"b64_json": "iVBORw0KGgé"}]}),
        misbehaviour.gzip_bomb(),
        misbehaviour.huge_declared(),
        misbehaviour.endless_chunks(),
        misbehaviour.nan_usage(),
        misbehaviour.wrong_length(-100),
        misbehaviour.drop_in_head(),
    ],
)
def test_a_success_that_is_no_answer_is_bad_and_possibly_billed(fake: ProviderFake, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed and not error.may_fail_over


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.without_usage(),
        misbehaviour.odd_usage(output_tokens=-272),
        misbehaviour.odd_usage(input_tokens=-1),
        misbehaviour.odd_usage(output_tokens="272"),
        misbehaviour.odd_usage(output_tokens=True),
        misbehaviour.odd_usage(output_tokens=272.5),
        misbehaviour.odd_usage(output_tokens=10**12),
        misbehaviour.odd_usage(output_tokens=10**30),
        misbehaviour.odd_usage(output_tokens=None),
        misbehaviour.odd_usage(output_tokens=271),
        misbehaviour.odd_usage(output_tokens_details={"image_tokens": -5, "text_tokens": 277}),
        misbehaviour.odd_usage(output_tokens_details=[272]),
        misbehaviour.altered(lambda body: body.update(usage="free")),
    ],
)
def test_usage_that_cannot_be_true_makes_no_price(fake: ProviderFake, behaviour: Behaviour) -> None:
    fake.script(behaviour)
    answer = run(fake)
    assert answer.usage is None
    assert len(answer.pictures) == 1
    assert "usage" in answer.evidence


def test_usage_without_details_counts_output_as_image_tokens(fake: ProviderFake) -> None:
    fake.script(misbehaviour.odd_usage(input_tokens_details=None, output_tokens_details=None))
    assert run(fake).usage == Usage(text_input_tokens=5, image_input_tokens=0, image_output_tokens=272)


def test_evidence_stays_small(fake: ProviderFake) -> None:
    deep: Any = {}
    for _ in range(400):
        deep = {"x": deep}
    for note in ("x" * 100_000, deep):
        fake.script(misbehaviour.odd_usage(note=note))
        assert run(fake).evidence["usage"] == "too large to keep"
    fake.script(misbehaviour.odd_usage(note="short"))
    assert run(fake).evidence["usage"]["note"] == "short"


def test_more_pictures_than_asked_are_not_taken(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body.update(data=body["data"] * 5)))
    answer = run(fake)
    assert len(answer.pictures) == 1
    assert answer.evidence["pictures_received"] == 5


def test_the_usable_pictures_of_a_partly_broken_answer_are_kept(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body["data"].__setitem__(0, {"b64_json": "nonsense"})))
    answer = run(fake, n=2)
    assert len(answer.pictures) == 1
    assert answer.evidence["pictures_usable"] == 1


def test_odd_effective_values_are_left_out(fake: ProviderFake) -> None:
    odd = {"size": "1x1\r\nX: y", "quality": "HIGH!", "background": 7, "output_format": "../../etc"}
    fake.script(misbehaviour.altered(lambda body: body.update(odd)))
    assert run(fake).effective == {}


def test_an_odd_request_id_is_left_out(fake: ProviderFake) -> None:
    fake.script(misbehaviour.with_header("x-request-id", "a b<script>"))
    assert run(fake).request_id is None


def test_answers_sent_twice_do_not_reach_the_next_caller(fake: ProviderFake) -> None:
    fake.script(misbehaviour.twice())
    run(fake, prompt="x" * 400)
    usages = [run(fake, prompt="x" * length).usage for length in (40, 80)]
    assert [usage.text_input_tokens for usage in usages if usage] == [10, 20]
