"""Streams through the openai adapter: partial pictures at once, completed ones kept, and every way to end early."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import pytest

from imagesapi.providers import _openai_streams, openai
from imagesapi.providers.base import (
    BadAnswer,
    Blocked,
    Call,
    InvalidInput,
    OperatorTrouble,
    ProviderError,
    RateLimited,
    TimedOut,
    Unavailable,
)
from imagesapi.values import Answer, Partial, Picture, Usage
from tests.fakes import _openai_events, _pictures, misbehaviour, stream_misbehaviour
from tests.fakes.misbehaviour import Behaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import adapters


@dataclass
class Audience:
    """Takes partial pictures and remembers when."""

    partials: list[Partial] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __call__(self, partial: Partial) -> None:
        self.partials.append(partial)
        self.times.append(time.monotonic())


def call(fake: ProviderFake, audience: Audience | None = None, **asked: Any) -> Call:
    to = adapters.offer("openai", "gpt-image-1", adapters.settings_of(fake))
    asked = {"stream": True, "partial_images": 2, **asked}
    return adapters.call(openai, to, on_partial=audience or Audience(), **asked)


def run(fake: ProviderFake, audience: Audience | None = None, **asked: Any) -> Answer:
    return openai.run(call(fake, audience, **asked))


def failure(fake: ProviderFake, behaviour: Behaviour, audience: Audience | None = None, **asked: Any) -> ProviderError:
    fake.script(behaviour)
    with pytest.raises(ProviderError) as caught:
        run(fake, audience, **asked)
    assert fake.openai_key not in repr((caught.value.message, caught.value.details))
    return caught.value


def text(picture: Picture) -> str:
    assert isinstance(picture.b64, memoryview)
    return bytes(picture.b64).decode()


def edit(**asked: Any) -> dict[str, Any]:
    return {"operation": "edit", "images": (adapters.picture(),), **asked}


def test_it_hands_partials_on_and_keeps_the_completed_picture(fake: ProviderFake) -> None:
    audience = Audience()
    answer = run(fake, audience)
    assert fake.requests[0].json["stream"] is True
    assert fake.requests[0].json["partial_images"] == 2
    drawn = [_pictures.as_base64(1024, 1024, "png", number) for number in (1, 2)]
    assert [(one.index, one.b64) for one in audience.partials] == list(enumerate(drawn))
    state = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"}
    assert audience.partials[0].effective == answer.effective == state
    (picture,) = answer.pictures
    assert text(picture) == _pictures.as_base64(1024, 1024, "png", 0)
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=0, image_output_tokens=272 + 200)
    assert answer.request_id is not None and answer.request_id.startswith("req_")
    assert answer.evidence["partial_images"] == 2
    assert "stream_ended" not in answer.evidence


def test_it_streams_edits(fake: ProviderFake) -> None:
    audience = Audience()
    answer = run(fake, audience, **edit())
    assert fake.requests[0].form["stream"] == "true"
    assert fake.requests[0].form["partial_images"] == "2"
    assert (len(audience.partials), len(answer.pictures)) == (2, 1)
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=194, image_output_tokens=472)


def test_several_pictures_complete_one_after_the_other(fake: ProviderFake) -> None:
    audience = Audience()
    answer = run(fake, audience, n=3, partial_images=1)
    assert (len(audience.partials), len({text(one) for one in answer.pictures})) == (3, 3)
    assert answer.usage == Usage(text_input_tokens=5, image_input_tokens=0, image_output_tokens=3 * 372)
    assert "pictures_asked" not in answer.evidence


def test_it_hands_partials_on_while_the_rest_is_made() -> None:
    with ProviderFake(delay_s=0.9) as slow:
        audience = Audience()
        run(slow, audience)
        done = time.monotonic()
    assert done - audience.times[0] > 0.5 and done - audience.times[1] > 0.2


def test_it_streams_without_partials(fake: ProviderFake) -> None:
    audience = Audience()
    assert len(run(fake, audience, partial_images=0).pictures) == 1
    assert audience.partials == []


def test_it_does_not_wait_for_the_end_of_a_stream_that_told_everything(fake: ProviderFake) -> None:
    more = b": wait\n\n"
    fake.script(stream_misbehaviour.events(lambda honest: [*honest, *[more] * 20]))
    begun = time.monotonic()
    assert len(run(fake).pictures) == 1
    assert time.monotonic() - begun < 1


@pytest.mark.parametrize("tail", [b"data: [DONE]\n\n", b"data:[DONE]\r\n\r\n", b""])
def test_it_understands_any_form_of_events(fake: ProviderFake, tail: bytes) -> None:
    def rewritten(honest: list[bytes]) -> list[bytes]:
        unnamed = honest[0].partition(b"\n")[2]
        in_windows_style = honest[1].replace(b"\n", b"\r\n")
        nameless = honest[2].replace(b'"type":"image_generation.completed",', b"")
        return [b": hi\n\n", b"id: 1\nretry: 5\n" + unnamed, b"event: new.kind\ndata: {}\n\n", in_windows_style,
                nameless, tail or b": bye\n\n"]  # fmt: skip

    fake.script(stream_misbehaviour.events(rewritten))
    audience = Audience()
    assert len(run(fake, audience).pictures) == 1
    assert len(audience.partials) == 2


def test_it_understands_events_however_they_are_cut(fake: ProviderFake) -> None:
    def crumbled(honest: list[bytes]) -> list[bytes]:
        whole = b"".join(honest)
        return [whole[start : start + 997] for start in range(0, len(whole), 997)]

    fake.script(stream_misbehaviour.events(crumbled))
    audience = Audience()
    assert (len(run(fake, audience).pictures), len(audience.partials)) == (1, 2)


def test_a_plain_answer_is_taken_as_one(fake: ProviderFake) -> None:
    fake.script(stream_misbehaviour.unstreamed())
    audience = Audience()
    answer = run(fake, audience, n=2)
    assert (len(answer.pictures), audience.partials) == (2, [])
    assert answer.usage is not None and answer.usage.image_output_tokens == 544


def test_a_refusal_before_the_stream_is_an_ordinary_one(fake: ProviderFake) -> None:
    assert isinstance(failure(fake, misbehaviour.blocked()), Blocked)
    assert isinstance(failure(fake, misbehaviour.rate_limited()), RateLimited)
    assert isinstance(failure(fake, misbehaviour.html(502)), Unavailable)
    wrong = failure(fake, misbehaviour.honest(), size="640x480")
    assert isinstance(wrong, InvalidInput) and wrong.param == "size"


# Errors inside the stream


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("after", [0, 1])
def test_a_block_inside_the_stream_is_a_block(fake: ProviderFake, nested: bool, after: int) -> None:
    behaviour = stream_misbehaviour.error(stream_misbehaviour.MODERATION, nested=nested, after=after)
    error = failure(fake, behaviour)
    assert isinstance(error, Blocked)
    assert error.details["moderation_details"] == {"moderation_stage": "output", "categories": ["violence"]}
    assert "safety system" in error.message


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"type": "server_error", "message": "boom", "code": None}, Unavailable),
        ({"type": "requests", "message": "slow down", "code": "rate_limit_exceeded"}, RateLimited),
        ({"type": "insufficient_quota", "message": "pay", "code": "insufficient_quota"}, OperatorTrouble),
        ({"type": "invalid_request_error", "message": "no", "param": "image[]", "code": "invalid_value"}, InvalidInput),
    ],
)
def test_an_error_before_any_picture_is_what_it_says(
    fake: ProviderFake, told: dict[str, Any], kind: type[ProviderError]
) -> None:
    error = failure(fake, stream_misbehaviour.error(told))
    assert type(error) is kind
    assert not error.possibly_billed


def test_an_error_names_the_parameter_as_the_caller_knows_it(fake: ProviderFake) -> None:
    told = {"type": "invalid_request_error", "message": "no", "param": "image[]", "code": "invalid_value"}
    assert failure(fake, stream_misbehaviour.error(told)).param == "image"


def test_an_error_after_a_partial_is_likely_billed(fake: ProviderFake) -> None:
    error = failure(fake, stream_misbehaviour.error(after=1))
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed and not error.may_fail_over


def test_the_pictures_completed_before_an_error_are_delivered(fake: ProviderFake) -> None:
    fake.script(stream_misbehaviour.error(after=2))
    answer = run(fake, n=3, partial_images=0)
    assert len(answer.pictures) == 2
    assert answer.evidence["stream_ended"] == "provider_unavailable"
    assert (answer.evidence["pictures_asked"], answer.evidence["pictures_received"]) == (3, 2)
    assert answer.usage is not None and answer.usage.image_output_tokens == 2 * 272


# Ends that are none


@pytest.mark.parametrize(
    "behaviour",
    [
        stream_misbehaviour.cut(),
        stream_misbehaviour.cut(after=0),
        stream_misbehaviour.cut(after=2, reset=True),
        stream_misbehaviour.without_completed(),
        stream_misbehaviour.stalled(),
        stream_misbehaviour.keepalives(),
        stream_misbehaviour.odd(b"[DONE]"),
        misbehaviour.drip_body(),
        misbehaviour.drip_body(declared=False),
        misbehaviour.drip_head(),
        misbehaviour.drop_in_body(),
        misbehaviour.hang(),
        misbehaviour.bill_and_drop(),
    ],
)
def test_a_stream_that_ends_early_leaves_the_outcome_unknown(fake: ProviderFake, behaviour: Behaviour) -> None:
    begun = time.monotonic()
    error = failure(fake, behaviour, within_s=0.6)
    assert isinstance(error, TimedOut)
    assert error.possibly_billed and not error.may_fail_over
    assert time.monotonic() - begun < 1.1


@pytest.mark.parametrize(
    "behaviour",
    [
        stream_misbehaviour.broken_json(),
        stream_misbehaviour.broken_json(after=2),
        stream_misbehaviour.odd([1, 2]),
        stream_misbehaviour.odd(b"null"),
        stream_misbehaviour.odd(b"[" * 100_000),
        stream_misbehaviour.odd(b"\xff\xfe{}"),
        stream_misbehaviour.giant_event(),
        stream_misbehaviour.flood(),
        misbehaviour.html(200),
        misbehaviour.huge_declared(),
    ],
)
def test_a_stream_of_nonsense_is_bad_and_possibly_billed(fake: ProviderFake, behaviour: Behaviour) -> None:
    error = failure(fake, behaviour, within_s=10, size="1024x1024")
    assert isinstance(error, BadAnswer)
    assert error.possibly_billed and not error.may_fail_over


def test_what_came_before_the_cut_is_delivered(fake: ProviderFake) -> None:
    fake.script(stream_misbehaviour.cut(after=1))
    answer = run(fake, n=2, partial_images=0)
    assert len(answer.pictures) == 1
    assert answer.evidence["stream_ended"] == "provider_timeout"


# What it does not believe


@pytest.mark.parametrize("b64", [None, 5, "", "bm90IGEgcGljdHVyZQ==", ["iVBORw0KGg"]])
def test_pictures_that_are_none_are_not_taken(fake: ProviderFake, b64: Any) -> None:
    fakes = [
        _openai_events.event("image_generation.partial_image", {"b64_json": b64, "partial_image_index": 0}),
        _openai_events.event("image_generation.completed", {"b64_json": b64}),
    ]
    audience = Audience()
    error = failure(fake, stream_misbehaviour.events(lambda honest: fakes), audience)
    assert isinstance(error, BadAnswer)
    assert audience.partials == []


def test_no_more_partials_are_handed_on_than_were_asked_for(fake: ProviderFake) -> None:
    fake.script(stream_misbehaviour.events(lambda honest: [honest[0]] * 40 + honest))
    audience = Audience()
    run(fake, audience)
    assert len(audience.partials) == 2


@pytest.mark.parametrize("index", [-1, "0", None, 10**9, True])
def test_an_odd_index_is_replaced_by_the_count(fake: ProviderFake, index: Any) -> None:
    facts = {"b64_json": _pictures.as_base64(1024, 1024, "png", 1), "partial_image_index": index}
    partial = _openai_events.event("image_generation.partial_image", facts)
    fake.script(stream_misbehaviour.events(lambda honest: [partial, partial, honest[-1]]))
    audience = Audience()
    run(fake, audience)
    assert [one.index for one in audience.partials] == [0, 1]


def test_usage_that_one_picture_does_not_tell_makes_no_price(fake: ProviderFake) -> None:
    def silent(honest: list[bytes]) -> list[bytes]:
        return [honest[0], honest[1].replace(b'"usage"', b'"usages"')]

    fake.script(stream_misbehaviour.events(silent))
    answer = run(fake, n=2, partial_images=0)
    assert (len(answer.pictures), answer.usage) == (2, None)


def test_only_what_all_pictures_share_is_effective(fake: ProviderFake) -> None:
    def different(honest: list[bytes]) -> list[bytes]:
        return [honest[0], honest[1].replace(b'"quality":"low"', b'"quality":"high"')]

    fake.script(stream_misbehaviour.events(different))
    effective = run(fake, n=2, partial_images=0).effective
    assert "quality" not in effective and effective["size"] == "1024x1024"


def test_a_listener_that_fails_ends_the_call(fake: ProviderFake) -> None:
    def refuse(partial: Partial) -> None:
        raise ValueError("nobody listens")

    to = adapters.offer("openai", "gpt-image-1", adapters.settings_of(fake))
    with pytest.raises(ValueError, match="nobody listens"):
        openai.run(adapters.call(openai, to, stream=True, partial_images=1, on_partial=refuse))


def test_its_limit_leaves_room_for_each_partial(fake: ProviderFake) -> None:
    without, with_two = (_openai_streams.max_bytes(call(fake, partial_images=number)) for number in (0, 2))
    assert with_two == 3 * without
