"""The google adapter against the wire-level fake: ratios and tiers, inline pictures, blocks in a success, usage."""

from __future__ import annotations

import io
import socket
from typing import Any

import pybase64
import pytest
from PIL import Image

from imagesapi.providers import google
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
from imagesapi.values import Answer, InputImage, Offer, Usage
from tests.fakes import _google, _pictures, misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import GEMINI_KEY, ProviderFake
from tests.imagesapi import adapters
from tests.imagesapi.offers import catalogue

PRO = "gemini-3-pro-image"
OLD = "gemini-2.5-flash-image"
ABLE: dict[str, Any] = {
    "max_n": 1,
    "sizes": (),
    "size_style": "ratio",
    "ratio_sizes": {"1K": {"16:9": "1376x768"}, "2K": {"16:9": "2752x1536"}},
    "qualities": (),
    "backgrounds": (),
    "output_formats": ("png",),
    "extras": ("seed", "temperature", "responseModalities", "maxOutputTokens"),
}
SQUARE: dict[str, Any] = {"quality": None, "aspect_ratio": "1:1", "resolution": "1K"}


def offer(fake: ProviderFake, wire_id: str = PRO, **changed: str) -> Offer:
    return adapters.offer("google", wire_id, adapters.settings_of(fake, **changed), **ABLE)


def run(fake: ProviderFake, wire_id: str = PRO, **asked: Any) -> Answer:
    return google.run(adapters.call(google, offer(fake, wire_id), **{**SQUARE, **asked}))


def failure(fake: ProviderFake, behaviour: Behaviour | None = None, **asked: Any) -> ProviderError:
    if behaviour is not None:
        fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, **asked)
    assert GEMINI_KEY not in repr((caught.value.message, caught.value.details))
    return caught.value


def picture(width: int = 64, height: int = 48, kind: str = "png") -> InputImage:
    data = _pictures.draw(width, height, kind)
    return InputImage(f"image/{kind}", width, height, "0" * 64, data)


def image_of(answer: Answer) -> Image.Image:
    assert answer.pictures[0].b64 is not None
    return Image.open(io.BytesIO(pybase64.b64decode(answer.pictures[0].b64, validate=True)))


# What it asks, and what comes back


def test_it_asks_for_a_picture_of_a_ratio_and_tier(fake: ProviderFake) -> None:
    answer = run(fake, size="2752x1536", aspect_ratio="16:9", resolution="2K", extras={"seed": 7})
    (seen,) = fake.requests
    assert seen.path == f"/google/v1beta/models/{PRO}:generateContent"
    assert seen.headers["x-goog-api-key"] == GEMINI_KEY
    assert "authorization" not in seen.headers
    assert seen.json == {
        "contents": [{"role": "user", "parts": [{"text": "a fox in the snow"}]}],
        "generationConfig": {
            "seed": 7,
            "responseModalities": ["IMAGE"],
            "imageConfig": {"aspectRatio": "16:9", "imageSize": "2K"},
        },
    }
    assert image_of(answer).size == (2752, 1536)
    assert isinstance(answer.pictures[0].b64, memoryview)  # megabytes stay where they are
    assert answer.effective == {"output_format": "png"}
    assert answer.request_id
    assert (fake.calls, fake.billed) == (1, 1)


def test_a_model_with_one_tier_is_sent_no_word_for_it(fake: ProviderFake) -> None:
    to = catalogue()[f"google/{OLD}"]
    body = google.build(adapters.fitted(**SQUARE), to)
    assert body["generationConfig"]["imageConfig"] == {"aspectRatio": "1:1"}
    assert (
        "imageSize"
        in google.build(adapters.fitted(**SQUARE), catalogue()[f"google/{PRO}"])["generationConfig"]["imageConfig"]
    )


def test_the_model_may_write_no_more_than_the_hold_covers(fake: ProviderFake) -> None:
    for name, to in catalogue().items():
        if to.provider == "google":
            body = google.build(adapters.fitted(**SQUARE), to)
            assert body["generationConfig"]["maxOutputTokens"] == to.pricing["text_output_ceiling_tokens"], name


def test_extras_never_override_what_the_adapter_writes(fake: ProviderFake) -> None:
    extras = {"seed": 7, "responseModalities": ["TEXT"], "maxOutputTokens": 1, "unlisted": 1, "temperature": None}
    config = google.build(adapters.fitted(**SQUARE, extras=extras), offer(fake))["generationConfig"]
    assert config["responseModalities"] == ["IMAGE"]
    assert not {"maxOutputTokens", "unlisted", "temperature"} & set(config)


def test_an_edit_sends_its_pictures_in_order_behind_the_prompt(fake: ProviderFake) -> None:
    images = (picture(kind="png"), picture(kind="jpeg"), picture(kind="webp"))
    to = offer(fake)
    call = adapters.call(google, to, **SQUARE, operation="edit", images=images)
    before = dict(call.body)
    answer = google.run(call)
    parts = fake.requests[0].json["contents"][0]["parts"]
    assert [part["inlineData"]["mimeType"] for part in parts[1:]] == ["image/png", "image/jpeg", "image/webp"]
    assert pybase64.b64decode(parts[2]["inlineData"]["data"]) == images[1].data
    assert call.body == before  # no copy of the pictures stays with the plan
    assert answer.usage == Usage(4, 3 * 258, 1120, 800)


def test_an_edit_goes_to_the_models_own_id_for_edits(fake: ProviderFake) -> None:
    to = adapters.offer("google", "no-such-model", adapters.settings_of(fake), **ABLE)
    object.__setattr__(to, "edit_wire_id", PRO)
    google.run(adapters.call(google, to, **SQUARE, operation="edit", images=(picture(),)))
    assert f"/{PRO}:" in fake.requests[0].path


def test_drafts_among_the_thoughts_are_no_pictures(fake: ProviderFake) -> None:
    def change(body: dict[str, Any]) -> None:
        parts = body["candidates"][0]["content"]["parts"]
        draft = {
            "thought": True,
            "inlineData": {"mimeType": "image/png", "data": _pictures.as_base64(32, 32, "png", 1)},
        }
        parts[:0] = [{"thought": True, "text": "thinking"}, draft, {"text": "Here it is."}]

    fake.script(misbehaviour.altered(change))
    answer = run(fake)
    assert image_of(answer).size == (1024, 1024)
    assert len(answer.pictures) == 1
    assert "pictures_received" not in answer.evidence


def test_more_pictures_than_asked_for_are_counted_and_left_out(fake: ProviderFake) -> None:
    def change(body: dict[str, Any]) -> None:
        parts = body["candidates"][0]["content"]["parts"]
        parts += parts * 2

    fake.script(misbehaviour.altered(change))
    answer = run(fake)
    assert len(answer.pictures) == 1
    assert answer.evidence["pictures_received"] == 3


# Usage


def test_usage_is_read_by_kind_and_thoughts_are_text(fake: ProviderFake) -> None:
    answer = run(fake)
    assert answer.usage == Usage(
        text_input_tokens=4, image_input_tokens=0, image_output_tokens=1120, text_output_tokens=800
    )
    assert answer.evidence["usage"]["candidatesTokensDetails"] == {"IMAGE": 1120}


@pytest.mark.parametrize(
    ("changed", "usage"),
    [
        ({"candidatesTokensDetails": None, "candidatesTokenCount": 1300}, Usage(4, 0, 1300, 800)),
        ({"candidatesTokenCount": 1300}, Usage(4, 0, 1120, 980)),
        ({"promptTokensDetails": None}, Usage(4, 0, 1120, 800)),
        ({"promptTokenCount": 262, "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 258}]},
         Usage(4, 258, 1120, 800)),
        ({"candidatesTokenCount": -1}, None),
        ({"candidatesTokenCount": 1.5}, None),
        ({"candidatesTokenCount": True}, None),
        ({"candidatesTokenCount": 10**30}, None),
        ({"promptTokenCount": None}, None),
        ({"thoughtsTokenCount": "many"}, None),
        ({"candidatesTokenCount": 1}, None),
        ({"candidatesTokensDetails": "IMAGE"}, None),
        ({"candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": -5}]}, None),
        ({"candidatesTokensDetails": [7]}, None),
    ],
)  # fmt: skip
def test_numbers_that_cannot_be_true_never_make_a_price(
    fake: ProviderFake, changed: dict[str, Any], usage: Usage | None
) -> None:
    fake.script(misbehaviour.altered(lambda body: body["usageMetadata"].update(changed)))
    assert run(fake).usage == usage


def test_a_number_that_is_none_is_no_answer(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body["usageMetadata"].update(promptTokenCount=float("nan"))))
    assert isinstance(failure(fake), BadAnswer)


def test_no_usage_is_no_usage(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body.pop("usageMetadata") and None))
    answer = run(fake)
    assert (answer.usage, answer.evidence) == (None, {"usage": {}})


# Refusals inside a success


@pytest.mark.parametrize("reason", ["SAFETY", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "IMAGE_SAFETY", "NEW_WORD"])
def test_a_refused_prompt_is_a_block(fake: ProviderFake, reason: str) -> None:
    error = failure(fake, _google.blocked_prompt(reason))
    assert isinstance(error, Blocked)
    assert error.error_code == "moderation_blocked"
    assert error.details == {"moderation_details": {"moderation_stage": "input", "categories": [reason.lower()]}}
    assert not error.may_fail_over


@pytest.mark.parametrize(
    "reason",
    [
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "IMAGE_OTHER",
        "NO_IMAGE",
    ],
)
def test_a_refused_picture_is_a_block(fake: ProviderFake, reason: str) -> None:
    error = failure(fake, _google.finished(reason, message=f"Unable to show it ({GEMINI_KEY})."))
    assert isinstance(error, Blocked)
    assert error.message == "Unable to show it ([key])."
    assert error.details["moderation_details"] == {"moderation_stage": "output", "categories": [reason.lower()]}


@pytest.mark.parametrize("reason", ["STOP", "MAX_TOKENS", "OTHER", "MALFORMED_FUNCTION_CALL", "", "x" * 500])
def test_a_success_without_a_picture_is_a_bad_answer(fake: ProviderFake, reason: str) -> None:
    error = failure(fake, _google.finished(reason, {"text": "I would rather talk about foxes."}))
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed


def test_a_picture_that_came_is_taken_whatever_the_reason(fake: ProviderFake) -> None:
    fake.script(misbehaviour.altered(lambda body: body["candidates"][0].update(finishReason="IMAGE_OTHER")))
    assert len(run(fake).pictures) == 1


# Errors


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("INVALID_ARGUMENT", InvalidInput),
        ("OUT_OF_RANGE", InvalidInput),
        ("FAILED_PRECONDITION", OperatorTrouble),
        ("UNAUTHENTICATED", OperatorTrouble),
        ("PERMISSION_DENIED", OperatorTrouble),
        ("NOT_FOUND", ModelGone),
        ("RESOURCE_EXHAUSTED", RateLimited),
        ("ABORTED", Unavailable),
        ("CANCELLED", Unavailable),
        ("INTERNAL", Unavailable),
        ("UNKNOWN", Unavailable),
        ("UNAVAILABLE", Unavailable),
        ("DEADLINE_EXCEEDED", TimedOut),
    ],
)
def test_every_error_is_judged_by_its_status_word(fake: ProviderFake, kind: str, expected: type[ProviderError]) -> None:
    error = failure(fake, _google.fails(kind, f"It failed for {GEMINI_KEY}."))
    assert type(error) is expected
    assert error.http_status == _google.error(kind, "").status
    assert error.possibly_billed == (expected is TimedOut)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, Unavailable),
        (400, Unavailable),
        (401, OperatorTrouble),
        (403, OperatorTrouble),
        (404, ModelGone),
        (408, Unavailable),
        (410, ModelGone),
        (413, Unavailable),
        (429, RateLimited),
        (500, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, TimedOut),
        (524, TimedOut),
        (599, Unavailable),
    ],
)
@pytest.mark.parametrize("body", [b"<html>gateway</html>", {"error": "text"}, {"error": {"status": ["x"]}}, [1]])
def test_a_status_without_googles_words_is_judged_by_its_number(
    fake: ProviderFake, status: int, expected: type[ProviderError], body: Any
) -> None:
    assert type(failure(fake, misbehaviour.status(status, body))) is expected


def test_a_wrong_key_is_the_operators_though_it_is_called_an_invalid_argument(fake: ProviderFake) -> None:
    with pytest.raises(OperatorTrouble) as caught:
        google.run(adapters.call(google, offer(fake, GEMINI_API_KEY="AIzaWrongKey"), **SQUARE))
    assert caught.value.http_status == 400
    assert "AIza" not in caught.value.message


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"aspect_ratio": "5:1"}, "aspect_ratio"),
        ({"resolution": "8K"}, "resolution"),
        ({"prompt": ""}, "prompt"),
        ({"extras": {"seed": "x"}}, "seed"),
        ({"operation": "edit", "images": (InputImage("image/png", 1, 1, "", b"not a picture"),)}, "image"),
    ],
)
def test_a_refused_field_bears_our_name(fake: ProviderFake, asked: dict[str, Any], param: str) -> None:
    error = failure(fake, **asked)
    assert isinstance(error, InvalidInput)
    assert error.param == param


@pytest.mark.parametrize(
    ("header", "delay", "wait_s"),
    [(None, "34.07s", 35), ("7", "34s", 7), (None, "soon", None), (None, "9999999s", None), (None, "99999s", 3_600)],
)
def test_a_rate_limit_carries_its_wait(fake: ProviderFake, header: str | None, delay: str, wait_s: int | None) -> None:
    reply = _google.error("RESOURCE_EXHAUSTED", "Quota exceeded.", {"retryDelay": delay})
    headers = {"Retry-After": header} if header else {}
    error = failure(fake, misbehaviour.status(429, reply.body, headers=headers))
    assert isinstance(error, RateLimited)
    assert error.retry_after_s == wait_s


def test_a_refused_connection_is_unavailable(fake: ProviderFake) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(Unavailable):
            google.run(adapters.call(google, offer(fake, GEMINI_BASE_URL=address), **SQUARE))


# Hostile answers


@pytest.mark.parametrize("behaviour", adapters.CUT_SHORT)
def test_no_complete_answer_leaves_the_outcome_unknown(fake: ProviderFake, behaviour: Behaviour) -> None:
    adapters.assert_left_unknown(lambda: failure(fake, behaviour, within_s=0.4))


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.garbage(),
        misbehaviour.html(200),
        misbehaviour.status(200, b""),
        misbehaviour.status(200, [1, 2]),
        misbehaviour.error_in_200(),
        misbehaviour.gzip_bomb(),
        misbehaviour.huge_declared(),
        misbehaviour.endless_chunks(),
        misbehaviour.status(200, {"promptFeedback": [1], "candidates": {"content": 7}}),
        misbehaviour.status(200, {"candidates": [None, 5, {}, {"content": []}, {"content": {"parts": "x"}}]}),
        misbehaviour.status(200, {"candidates": [{"content": {"parts": [None, 7, {"inlineData": "x"}]}}]}),
        misbehaviour.status(200, {"candidates": [{"content": {"parts": [{"inlineData": {"data": 7}}]}}]}),
        misbehaviour.status(200, {"candidates": [{"content": {"parts": [{"inlineData": {"data": "PGh0bWw+"}}]}}]}),
        misbehaviour.status(200, {"candidates": [{"finishReason": {"a": 1}, "finishMessage": 5}]}),
        misbehaviour.status(200, b'{"candidates":' + b"[" * 100_000),
    ],
)
def test_a_success_that_is_no_answer_is_a_bad_answer(fake: ProviderFake, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour)
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed


def test_a_redirect_is_not_followed(fake: ProviderFake) -> None:
    assert isinstance(failure(fake, misbehaviour.redirect(f"{fake.url}/elsewhere")), Unavailable)
    assert len(fake.requests) == 1
