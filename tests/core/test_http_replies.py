"""How core.http reads replies: every end of a body, and nothing that two readers could read differently."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from core import _lines, http
from tests.peers import HELLO, Answer, Peer, and_later, chunks, head, slowly, then_close

MAX_BYTES = 4_000_000
CHUNKED = "Transfer-Encoding: chunked"
LARGE = bytes(range(256)) * 6_000


def whole(peer: Peer, *, method: str = "GET", max_bytes: int = MAX_BYTES) -> http.Reply:
    return http.call(method, f"{peer.url}/", deadline=time.monotonic() + 3, max_bytes=max_bytes)


def streamed(peer: Peer, *, method: str = "GET", max_bytes: int = MAX_BYTES) -> http.Reply:
    with http.stream(method, f"{peer.url}/", deadline=time.monotonic() + 3, max_bytes=max_bytes) as stream:
        return http.Reply(stream.status, stream.headers, b"".join(stream.pieces))


both_ways = pytest.mark.parametrize("ask", [whole, streamed])
Ask = Callable[..., http.Reply]


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a connection is left alone for is for what comes late; here every question waits until all has come."""
    monkeypatch.setattr(_lines, "_SHORTEST_REST_S", 0)


def is_kept(peer: Peer) -> bool:
    """Whether the next call goes over the connection of the last one."""
    before = len(peer.connections)
    peer.rest()
    assert whole(peer).body == b"hello"
    return len(peer.connections) == before


# --- heads that say two things ----------------------------------------------------------------------------------------

TWOFOLD = {
    "two lengths": head("Content-Length: 5", "Content-Length: 6"),
    "one length twice": head("Content-Length: 5", "Content-Length: 5"),
    "a list of lengths": head("Content-Length: 5, 5"),
    "a negative length": head("Content-Length: -5"),
    "a signed length": head("Content-Length: +5"),
    "a length with a space in it": head("Content-Length: 0 5"),
    "a length of no digits": head("Content-Length:"),
    "a hexadecimal length": head("Content-Length: 0x5"),
    "a length beyond 64 bits": head("Content-Length: 36893488147419103237"),
    "a space before the colon": head("Content-Length : 5"),
    "chunks with a space before the colon": head("Transfer-Encoding : chunked"),
    "a coding nobody asked for": head("Transfer-Encoding: gzip"),
    "a coding before the chunks": head("Transfer-Encoding: gzip, chunked"),
    "chunks twice": head(CHUNKED, CHUNKED),
    "chunks that are not the last": head("Transfer-Encoding: chunked, identity"),
    "chunks behind a control character": head("Transfer-Encoding: \x0bchunked"),
    "a coding of that name almost": head("Transfer-Encoding: xchunked"),
    "a folded line": head("Content-Length: 5", "X-A: b", " Content-Length: 6"),
    "a folded first line": head(" Content-Length: 5"),
    "a line without a colon": head("Content-Length: 5", "Content-Length"),
    "a line without a name": head("Content-Length: 5", ": 6"),
    "a lone line feed": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello\r\n\r\n",
    "a lone line feed among others": b"HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 5\r\n\r\n",
    "a lone carriage return": head("X-A: b\rContent-Length: 5"),
    "a zero byte": head("X-A: b\x00", "Content-Length: 5"),
    "another version": head("Content-Length: 5", status="HTTP/2.0 200 OK"),
    "a version that is none": head("Content-Length: 5", status="HTTP/1.10 200 OK"),
    "another protocol": head("Content-Length: 5", status="ICY 200 OK"),
    "a status of two digits": head("Content-Length: 5", status="HTTP/1.1 20 OK"),
    "a status of four digits": head("Content-Length: 5", status="HTTP/1.1 2000 OK"),
    "a status that is none": head("Content-Length: 5", status="HTTP/1.1 2x0 OK"),
    "empty lines before it": b"\r\n\r\n" + head("Content-Length: 5"),
    "an interim reply": head(status="HTTP/1.1 100 Continue"),
    "another protocol from here on": head("Connection: upgrade", "Upgrade: h2c", status="HTTP/1.1 101 Switching"),
}


@both_ways
@pytest.mark.parametrize("said", TWOFOLD.values(), ids=TWOFOLD)
def test_it_takes_no_reply_that_can_be_read_in_two_ways(ask: Ask, said: bytes) -> None:
    with Peer(said + b"hello", HELLO) as peer:
        begun = time.monotonic()
        with pytest.raises(http.Broken):
            ask(peer)
        assert time.monotonic() - begun < 1, "it waited for more"
        assert not is_kept(peer)
        assert len(peer.requests) == 2


@both_ways
def test_chunks_count_where_a_length_stands_beside_them_and_the_connection_is_not_used_again(ask: Ask) -> None:
    for lines in (("Content-Length: 3", CHUNKED), (CHUNKED, "Content-Length: 3")):
        with Peer(head(*lines) + chunks(b"he", b"llo")) as peer:
            assert ask(peer).body == b"hello"
            assert not is_kept(peer)


# --- where a body ends ------------------------------------------------------------------------------------------------


@both_ways
@pytest.mark.parametrize("size_bytes", [0, 1, 5, 8_000, 8_192, 16_384, 30_000, 65_536, 65_537, len(LARGE)])
def test_it_reads_a_body_of_a_declared_length_and_keeps_the_connection(ask: Ask, size_bytes: int) -> None:
    body = LARGE[:size_bytes]
    with Peer(head(f"Content-Length: {size_bytes}") + body) as peer:
        reply = ask(peer)
        assert (reply.status, reply.headers) == (200, {"content-length": str(size_bytes)})
        assert type(reply.body) is bytes
        assert reply.body == body
        assert is_kept(peer)


CHUNKINGS = {
    "one": chunks(b"hello"),
    "several": chunks(b"he", b"l", b"lo"),
    "none": chunks(),
    "with extensions": b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n",
    "with a trailer": chunks(b"hello", trailer=b"X-Sum: 1\r\nContent-Length: 9\r\n"),
    "in capitals": b"00A\r\nhellohello\r\n000\r\n\r\n",
    "with line ends for a body": chunks(b"\r\n", b"\r\n\r\n", b"0\r\n\r\n"),
    "large": chunks(LARGE[:700_000], LARGE[700_000:]),
    "many": chunks(*(LARGE[at : at + 100] for at in range(0, 50_000, 100))),
}
BODIES = [b"hello", b"hello", b"", b"hello", b"hello", b"hellohello", b"\r\n\r\n\r\n0\r\n\r\n", LARGE, LARGE[:50_000]]


@both_ways
@pytest.mark.parametrize(("sent", "body"), [*zip(CHUNKINGS.values(), BODIES, strict=True)], ids=CHUNKINGS)
def test_it_reads_chunks_and_keeps_the_connection(ask: Ask, sent: bytes, body: bytes) -> None:
    with Peer(head(CHUNKED) + sent) as peer:
        reply = ask(peer)
        assert (reply.body, reply.headers) == (body, {"transfer-encoding": "chunked"})
        assert is_kept(peer)


@both_ways
@pytest.mark.parametrize("said", [head(CHUNKED) + CHUNKINGS["with a trailer"], HELLO], ids=["chunks", "length"])
def test_it_reads_a_reply_that_comes_byte_by_byte(ask: Ask, said: bytes) -> None:
    with Peer(slowly(said)) as peer:
        assert ask(peer).body == b"hello"
        assert is_kept(peer)


BAD_CHUNKS = {
    "a negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "a prefixed size": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a size that is none": b"hello\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "a space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "a size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "more than the size": b"5\r\nhello!\r\n0\r\n\r\n",
    "less than the size": b"6\r\nhello\r\n0\r\n\r\n",
    "no line end behind a chunk": b"5\r\nhello0\r\n\r\n",
    "lone line feeds": b"5\nhello\n0\n\n",
    "an empty line before a chunk": b"\r\n5\r\nhello\r\n0\r\n\r\n",
    "an extension without an end": b"5;" + b"x" * 200_000,
    "a trailer without an end": b"5\r\nhello\r\n0\r\n" + b"X-A: b\r\n" * 30_000,
}


@both_ways
@pytest.mark.parametrize("sent", BAD_CHUNKS.values(), ids=BAD_CHUNKS)
def test_it_is_broken_where_chunks_are_not_in_order(ask: Ask, sent: bytes) -> None:
    with Peer(head(CHUNKED) + sent) as peer:
        begun = time.monotonic()
        with pytest.raises(http.Broken):
            ask(peer)
        assert time.monotonic() - begun < 1.5
        assert not is_kept(peer)


@both_ways
@pytest.mark.parametrize("said", [head(CHUNKED) + b"5\r\nhello\r\n0\r\n", head("Content-Length: 6") + b"hello"])
def test_it_is_broken_where_the_connection_ends_before_the_body(ask: Ask, said: bytes) -> None:
    with Peer(then_close(said)) as peer, pytest.raises(http.Broken):
        ask(peer)


@both_ways
@pytest.mark.parametrize("lines", [(), ("Connection: close",)])
def test_a_body_of_no_length_goes_on_until_the_connection_ends(ask: Ask, lines: tuple[str, ...]) -> None:
    with Peer(then_close(head(*lines) + LARGE)) as peer:
        assert ask(peer).body == LARGE
        assert not is_kept(peer)


@both_ways
@pytest.mark.parametrize(
    "said",
    [
        head("Content-Length: 5", "Connection: close") + b"hello",
        head("Content-Length: 5", "Connection: foo, Close") + b"hello",
        head("Content-Length: 5", "Connection: keep-alive", "Connection: close") + b"hello",
        head(CHUNKED, "Connection: close") + chunks(b"hello"),
        head("Content-Length: 5", status="HTTP/1.0 200 OK") + b"hello",
        head("Content-Length: 5", "Connection: keep-alive", status="HTTP/1.0 200 OK") + b"hello",
        head(CHUNKED, status="HTTP/1.0 200 OK") + chunks(b"hello"),
    ],
)
def test_a_connection_is_not_used_again_where_the_peer_will_close_it(ask: Ask, said: bytes) -> None:
    with Peer(said) as peer:
        assert ask(peer).body == b"hello"
        assert not is_kept(peer)


@both_ways
@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("HEAD", head("Content-Length: 5")),
        ("HEAD", head(CHUNKED)),
        ("HEAD", head()),
        ("GET", head(status="HTTP/1.1 204 No Content")),
        ("GET", head("Content-Length: 5", status="HTTP/1.1 304 Not Modified")),
        ("GET", head(CHUNKED, status="HTTP/1.1 304 Not Modified")),
    ],
)
def test_a_reply_that_can_have_no_body_is_not_waited_for(ask: Ask, method: str, said: bytes) -> None:
    with Peer(said) as peer:
        assert ask(peer, method=method).body == b""
        assert is_kept(peer)


@both_ways
def test_a_head_that_breaks_off_still_tells_its_status(ask: Ask) -> None:
    """The callers know what a success without a body is worth."""
    with Peer(then_close(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Le")) as peer:
        reply = ask(peer)
        assert (reply.status, reply.headers, reply.body) == (503, {"retry-after": "7"}, b"")
        assert not is_kept(peer)


@both_ways
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200 O",
        head("Content-Length: 5")[:-2],
        head("Content-Length: 5", "X-A: b")[:-3],
        head(CHUNKED)[:-1],
        head("Content-Length: 5", "Content-Length: 6")[:-2],
        head(status="HTTP/1.1 100 Continue")[:-2],
    ],
)
def test_a_head_that_breaks_off_and_promised_more_is_broken(ask: Ask, said: bytes) -> None:
    with Peer(then_close(said)) as peer:
        with pytest.raises(http.Broken):
            ask(peer)
        assert not is_kept(peer)


# --- more than was asked for ------------------------------------------------------------------------------------------

COMPLETE = {
    "length": ("GET", HELLO),
    "no body": ("GET", head("Content-Length: 0")),
    "status": ("GET", head(status="HTTP/1.1 204 No Content")),
    "method": ("HEAD", head("Content-Length: 5")),
    "chunks": ("GET", head(CHUNKED) + chunks(b"hello")),
    "trailer": ("GET", head(CHUNKED) + chunks(b"hello", trailer=b"X-A: b\r\n")),
    "large": ("GET", head(f"Content-Length: {len(LARGE)}") + LARGE),
    "large chunk": ("GET", head(CHUNKED) + chunks(LARGE)),
}
MORE = {
    "a reply": head("Content-Length: 3") + b"not",
    "a reply without a body": head("Content-Length: 0"),
    "a line end": b"\r\n",
    "a line feed": b"\n",
    "a byte": b"x",
    "a line": b"x\r\n\r\n",
}


@both_ways
@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
@pytest.mark.parametrize(("method", "said"), COMPLETE.values(), ids=COMPLETE)
def test_a_connection_with_more_on_it_than_the_reply_is_not_used_again(
    ask: Ask, method: str, said: bytes, more: bytes, later: bool
) -> None:
    answer: Answer = and_later(said, more) if later else said + more
    with Peer(answer) as peer:
        reply = ask(peer, method=method)
        assert reply.body in (b"hello", b"", LARGE)
        assert not is_kept(peer)


# --- how much ---------------------------------------------------------------------------------------------------------


@both_ways
def test_a_head_may_have_a_hundred_lines_and_no_more(ask: Ask) -> None:
    lines = [f"X-{number}: y" for number in range(99)]
    with Peer(head("Content-Length: 5", *lines) + b"hello") as peer:
        assert ask(peer).headers["x-98"] == "y"
    with Peer(head("Content-Length: 5", *lines, "X-99: y") + b"hello") as peer:
        with pytest.raises(http.Broken):
            ask(peer)
        assert not is_kept(peer)


@both_ways
def test_a_head_may_have_64_kilobytes_and_no_more(ask: Ask) -> None:
    bare_bytes = len(head("Content-Length: 5", "X-Long: "))
    with Peer(head("Content-Length: 5", "X-Long: " + "x" * (65_536 - bare_bytes)) + b"hello") as peer:
        assert len(ask(peer).headers["x-long"]) > 65_000
    with Peer(head("Content-Length: 5", "X-Long: " + "x" * (65_537 - bare_bytes)) + b"hello") as peer:
        with pytest.raises(http.Broken):
            ask(peer)
        assert not is_kept(peer)


@both_ways
@pytest.mark.parametrize("begun", [b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 200 "])
def test_a_head_without_an_end_is_not_waited_for(ask: Ask, begun: bytes) -> None:
    with Peer(begun + b"x" * 200_000) as peer:
        started = time.monotonic()
        with pytest.raises(http.Broken):
            ask(peer)
        assert time.monotonic() - started < 1


@both_ways
@pytest.mark.parametrize(
    "said", [head("Content-Length: 101") + b"x" * 101, head(CHUNKED) + chunks(b"x" * 60, b"x" * 41), head() + LARGE]
)
def test_it_takes_no_more_than_the_caller_does(ask: Ask, said: bytes) -> None:
    with Peer(then_close(said)) as peer:
        with pytest.raises(http.TooLarge):
            ask(peer, max_bytes=100)
        assert not is_kept(peer)


@both_ways
def test_headers_come_by_their_names_in_lower_case_and_repeated_ones_as_a_list(ask: Ask) -> None:
    lines = ("Content-Length: 0", "X-A:  b ", "x-a: c\t", "X-Empty:", "X-Latin: caf\xe9", "X-Colon: a:b: c")
    with Peer(head(*lines)) as peer:
        assert ask(peer).headers == {
            "content-length": "0",
            "x-a": "b, c",
            "x-empty": "",
            "x-latin": "café",
            "x-colon": "a:b: c",
        }


def test_a_stream_asked_after_it_was_hung_up_on_is_broken_and_reads_nothing_of_others() -> None:
    with Peer(and_later(head("Content-Length: 10") + b"hello", b"world", after_s=0.1)) as peer:
        with http.stream("GET", peer.url, deadline=time.monotonic() + 3, max_bytes=100) as stream:
            assert next(stream.pieces) == b"hello"
        assert whole(peer).body == b"hello"
        with pytest.raises(http.Broken):
            next(stream.pieces)
