"""core.http's streams: pieces as they come, under the same deadline, size limit and errors as whole replies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager

import orjson
import pytest

from core import http
from tests.fakes import misbehaviour, stream_misbehaviour
from tests.fakes.providers import ProviderFake


@pytest.fixture
def fake() -> Iterator[ProviderFake]:
    with ProviderFake() as running:
        yield running


def ask(
    fake: ProviderFake, *, within_s: float = 5.0, max_bytes: int = 1_000_000, stream: bool = True
) -> AbstractContextManager[http.Stream]:
    body = {"model": "gpt-image-1", "prompt": "a fox", "quality": "low", "n": 3, "stream": stream}
    return http.stream(
        "POST",
        f"{fake.openai_url}/images/generations",
        deadline=time.monotonic() + within_s,
        max_bytes=max_bytes,
        headers={"Authorization": f"Bearer {fake.openai_key}", "Content-Type": "application/json"},
        body=orjson.dumps(body),
    )


def drain(fake: ProviderFake, *, within_s: float = 5.0, max_bytes: int = 1_000_000) -> bytes:
    with ask(fake, within_s=within_s, max_bytes=max_bytes) as stream:
        return b"".join(stream.pieces)


def test_it_hands_pieces_over_as_they_come() -> None:
    with ProviderFake(delay_s=0.9) as slow, ask(slow) as stream:
        begun = time.monotonic()
        assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        times = [time.monotonic() - begun for _ in stream.pieces]
    assert times[0] < 0.5 and times[-1] > 0.7


def test_a_whole_body_comes_through_with_and_without_a_length(fake: ProviderFake) -> None:
    assert drain(fake).count(b"event: image_generation.completed") == 3
    with ask(fake, stream=False) as stream:
        assert len(orjson.loads(b"".join(stream.pieces))["data"]) == 3


def test_a_stream_read_to_its_end_gives_its_connection_back(fake: ProviderFake) -> None:
    for _ in range(3):
        drain(fake)
        time.sleep(0.06)
    assert fake.connections == 1


def test_a_stream_left_early_is_hung_up_on(fake: ProviderFake) -> None:
    fake.script(stream_misbehaviour.keepalives())
    with ask(fake) as stream:
        next(stream.pieces)
    begun = time.monotonic()
    drain(fake)
    assert time.monotonic() - begun < 1
    assert fake.connections == 2


@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [
        (stream_misbehaviour.keepalives(), http.Late),
        (stream_misbehaviour.stalled(), http.Late),
        (misbehaviour.hang(), http.Late),
        (misbehaviour.drip_head(), http.Late),
        (misbehaviour.drip_body(), http.Late),
        (misbehaviour.drip_body(declared=False), http.Late),
        (stream_misbehaviour.cut(), http.Broken),
        (stream_misbehaviour.cut(reset=True), http.Broken),
        (misbehaviour.drop_in_body(), http.Broken),
        (misbehaviour.wrong_length(+5), http.Broken),
        (misbehaviour.interim(), http.Broken),
        (misbehaviour.drop(), http.Broken),
        (misbehaviour.not_http(), http.Broken),
        (misbehaviour.huge_declared(), http.TooLarge),
        (misbehaviour.endless_chunks(), http.TooLarge),
        (stream_misbehaviour.giant_event(), http.TooLarge),
    ],
)
def test_it_tells_how_a_stream_failed(
    fake: ProviderFake, behaviour: misbehaviour.Behaviour, kind: type[http.CallError]
) -> None:
    fake.script(behaviour)
    begun = time.monotonic()
    with pytest.raises(http.CallError) as caught:
        drain(fake, within_s=0.6)
    assert type(caught.value) is kind
    assert caught.value.sent
    assert time.monotonic() - begun < 1.1


def test_nothing_is_sent_without_time_or_an_open_port(fake: ProviderFake) -> None:
    with pytest.raises(http.NotSent):
        drain(fake, within_s=0)
    fake.stop()
    with pytest.raises(http.NotSent):
        drain(fake)
    fake.start()


def test_a_readers_own_error_is_not_taken_for_one_of_the_line(fake: ProviderFake) -> None:
    def read_badly() -> None:
        with ask(fake) as stream:
            next(stream.pieces)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        read_badly()


def test_a_call_made_while_reading_does_not_disturb_the_stream() -> None:
    with ProviderFake(delay_s=0.6) as slow, ask(slow, within_s=3) as stream:
        first = next(stream.pieces)
        with ProviderFake() as other:
            assert drain(other)
        assert (first + b"".join(stream.pieces)).count(b".completed\n") == 3
