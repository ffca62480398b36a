"""core.http against a server that keeps no promise: deadlines, sizes, and never an answer for the wrong request."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import orjson
import pytest

from core import http
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake

_MAX_BYTES = 1_000_000


@pytest.fixture
def fresh() -> Iterator[ProviderFake]:
    """A server of its own, where connections are counted."""
    with ProviderFake() as running:
        yield running


def ask(fake: ProviderFake, *, within_s: float = 5.0, max_bytes: int = _MAX_BYTES, prompt: str = "a fox") -> http.Reply:
    return http.call(
        "POST",
        f"{fake.openai_url}/images/generations",
        deadline=time.monotonic() + within_s,
        max_bytes=max_bytes,
        headers={"Authorization": f"Bearer {fake.openai_key}", "Content-Type": "application/json"},
        body=orjson.dumps({"model": "gpt-image-1", "prompt": prompt, "quality": "low"}),
    )


def test_it_returns_status_headers_and_body(fake: ProviderFake) -> None:
    reply = ask(fake)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert orjson.loads(reply.body)["usage"]["output_tokens"] == 272


def test_it_sends_only_its_own_headers(fake: ProviderFake) -> None:
    ask(fake)
    names = set(fake.requests[0].headers)
    assert names == {"host", "accept-encoding", "user-agent", "authorization", "content-type", "content-length"}
    assert fake.requests[0].headers["accept-encoding"] == "identity"


def test_it_uses_a_connection_again_after_a_rest(fresh: ProviderFake) -> None:
    for _ in range(4):
        assert ask(fresh).status == 200
        time.sleep(0.06)
    assert fresh.connections == 1


def test_it_needs_few_connections_for_many_calls_in_a_row(fake: ProviderFake) -> None:
    for _ in range(300):
        assert ask(fake).status == 200
        time.sleep(0.001)  # so that no more than 50 fit into the rest, however fast they are
    assert 1 < fake.connections < 60


def test_it_does_not_use_a_connection_the_peer_may_be_about_to_close(
    fake: ProviderFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core._lines._LONGEST_REST_S", 0.1)
    ask(fake)
    time.sleep(0.15)
    ask(fake)
    assert fake.connections == 2


def test_it_keeps_the_connection_after_an_empty_body(fresh: ProviderFake) -> None:
    fresh.script(misbehaviour.status(200, b""), misbehaviour.status(204, b""))
    for expected in (200, 204, 200):
        assert ask(fresh).status == expected
        time.sleep(0.06)
    assert fresh.connections == 1


def test_it_keeps_no_cookies(fake: ProviderFake) -> None:
    fake.script(misbehaviour.with_header("Set-Cookie", "session=1; Path=/"))
    ask(fake)
    ask(fake)
    assert "cookie" not in fake.requests[1].headers


def test_it_says_not_sent_for_a_refused_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(http.NotSent):
            http.call("GET", f"http://127.0.0.1:{port}/", deadline=time.monotonic() + 2, max_bytes=10)


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999/"])
def test_it_says_not_sent_for_an_address_it_cannot_call(url: str) -> None:
    with pytest.raises(http.NotSent):
        http.call("GET", url, deadline=time.monotonic() + 2, max_bytes=10)


def test_it_says_not_sent_when_no_time_is_left(fake: ProviderFake) -> None:
    with pytest.raises(http.NotSent):
        ask(fake, within_s=0)
    assert fake.calls == 0


def test_it_says_not_sent_for_a_certificate_it_does_not_trust(fake: ProviderFake) -> None:
    with pytest.raises(http.NotSent):
        http.call("GET", fake.url.replace("http:", "https:"), deadline=time.monotonic() + 2, max_bytes=10)


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.hang(),
        misbehaviour.drip_head(0.05),
        misbehaviour.drip_body(0.05),
        misbehaviour.drip_body(0.05, declared=False),
        misbehaviour.delayed(3),
    ],
    ids=["silence", "head", "body", "body until closed", "slow"],
)
def test_it_is_late_at_the_deadline_however_the_peer_drips(
    fake: ProviderFake, behaviour: misbehaviour.Behaviour
) -> None:
    fake.script(behaviour)
    begun = time.monotonic()
    with pytest.raises(http.Late):
        ask(fake, within_s=0.4)
    assert 0.35 < time.monotonic() - begun < 0.9


def test_it_is_late_for_every_one_of_many_drips_at_once(fake: ProviderFake) -> None:
    fake.behave(misbehaviour.drip_body(0.2))
    found: list[tuple[type[BaseException] | None, float]] = []

    def run() -> None:
        begun = time.monotonic()
        try:
            ask(fake, within_s=0.6)
            found.append((None, 0))
        except http.CallError as error:
            found.append((type(error), time.monotonic() - begun))

    threads = [threading.Thread(target=run) for _ in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {kind for kind, _ in found} == {http.Late}
    assert max(took_s for _, took_s in found) < 1.1


@pytest.mark.parametrize(
    "behaviour",
    [
        misbehaviour.drop(),
        misbehaviour.drop(reset=True),
        misbehaviour.drop_in_body(),
        misbehaviour.drop_in_body(reset=True),
        misbehaviour.wrong_length(+10),
        misbehaviour.interim(),
        misbehaviour.not_http(),
    ],
    ids=["drop", "reset", "drop in body", "reset in body", "declares more", "interim", "not http"],
)
def test_it_is_broken_when_no_complete_reply_came(fake: ProviderFake, behaviour: misbehaviour.Behaviour) -> None:
    fake.script(behaviour)
    with pytest.raises(http.Broken) as caught:
        ask(fake)
    assert caught.value.sent
    assert orjson.loads(ask(fake).body)["data"]


@pytest.mark.parametrize(
    "behaviour", [misbehaviour.huge_declared(), misbehaviour.endless_chunks()], ids=["declared", "chunked"]
)
def test_it_stops_reading_a_reply_that_is_too_large(fake: ProviderFake, behaviour: misbehaviour.Behaviour) -> None:
    fake.script(behaviour)
    begun = time.monotonic()
    with pytest.raises(http.TooLarge):
        ask(fake)
    assert time.monotonic() - begun < 2
    assert ask(fake).status == 200


def test_it_hands_over_a_compressed_body_unopened(fake: ProviderFake) -> None:
    fake.script(misbehaviour.gzip_bomb())
    reply = ask(fake)
    assert len(reply.body) < _MAX_BYTES
    assert reply.body[:2] == b"\x1f\x8b"


def test_it_reads_a_chunked_body_that_also_declares_a_length(fake: ProviderFake) -> None:
    fake.script(misbehaviour.both_lengths())
    assert orjson.loads(ask(fake).body)["data"]
    assert orjson.loads(ask(fake).body)["data"]


@pytest.mark.parametrize(("size_bytes", "places"), [(100, 0), (60_000, 0), (70_000, 1), (900_000, 1)])
def test_a_body_of_unknown_length_takes_a_place_only_when_it_is_large(
    fake: ProviderFake, monkeypatch: pytest.MonkeyPatch, size_bytes: int, places: int
) -> None:
    entered: list[int] = []
    monkeypatch.setattr("core.memory.enter", entered.append)
    fake.script(misbehaviour.chunked(b"x" * size_bytes))
    assert len(ask(fake).body) == size_bytes
    assert len(entered) == places


@pytest.mark.parametrize(
    "behaviour", [misbehaviour.twice(), misbehaviour.wrong_length(-10)], ids=["twice", "declares less"]
)
def test_it_never_serves_left_over_bytes_to_the_next_request(
    fake: ProviderFake, behaviour: misbehaviour.Behaviour
) -> None:
    for round_ in range(12):
        fake.script(behaviour)
        ask(fake, prompt="x" * 400)
        time.sleep(0.006 * round_)
        for length in (40, 4, 80):
            reply = ask(fake, prompt="x" * length)
            assert orjson.loads(reply.body)["usage"]["input_tokens"] == length // 4


def test_it_leaves_a_pooled_connection_alone_after_an_earlier_deadline(fresh: ProviderFake) -> None:
    ask(fresh, within_s=0.5)
    time.sleep(0.06)
    fresh.script(misbehaviour.delayed(0.8))
    assert ask(fresh, within_s=5).status == 200
    assert fresh.connections == 1


def test_it_follows_no_redirect(fake: ProviderFake) -> None:
    with ProviderFake() as stranger:
        fake.script(misbehaviour.redirect(f"{stranger.openai_url}/images/generations"))
        assert ask(fake).status == 307
        assert stranger.requests == []


def test_it_carries_two_hundred_calls_at_once(fresh: ProviderFake) -> None:
    fresh.behave(misbehaviour.delayed(0.5))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(ask(fresh, within_s=15).status)) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [200] * 200
    assert fresh.billed == 200
