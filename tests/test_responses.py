"""What a web process sends: one piece where it can, whole whatever the client takes, nothing beyond its length."""

from __future__ import annotations

import io
import logging
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi

from config.responses import Response

LARGE = bytes(range(256)) * 4096  # 1 MiB


class Wire:
    """A connection that counts what goes out in one piece, and what came to the other end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.pieces = 0

    def sendall(self, data: Any) -> None:
        self.pieces += 1
        self._sock.sendall(data)

    def sendmsg(self, buffers: Any) -> int:
        self.pieces += 1
        return self._sock.sendmsg(buffers)

    def sendfile(self, *args: Any, **kwargs: Any) -> int:
        self.pieces += 1
        return self._sock.sendfile(*args, **kwargs)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


class Exchange:
    """One response on its way to a client that reads all of it."""

    def __init__(self, ends: tuple[socket.socket, socket.socket], method: str = "GET") -> None:
        self.ours, self._theirs = ends
        self.wire = Wire(self.ours)
        request = SimpleNamespace(method=method, version=(1, 1), should_close=lambda: False)
        self.response = Response(request, self.wire, Config())
        self._came = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while piece := self._theirs.recv(10_000):
            self._came += piece

    def came(self) -> tuple[bytes, bytes]:
        """Close, and the head and body that the client has."""
        self.response.close()
        self.ours.shutdown(socket.SHUT_WR)
        self._reader.join(5)
        head, _, body = bytes(self._came).partition(b"\r\n\r\n")
        return head, body


def headers(length: int | None) -> list[tuple[str, str]]:
    return [("X-One", "1")] if length is None else [("Content-Length", str(length))]


def test_gunicorn_uses_it() -> None:
    import config.gunicorn  # noqa: F401 - it puts ours in place of gunicorn's

    assert wsgi.Response is Response


def test_it_sends_a_small_answer_in_one_piece(ends: tuple[socket.socket, socket.socket]) -> None:
    exchange = Exchange(ends)
    exchange.response.start_response("200 OK", headers(11))
    for piece in (b"hello", memoryview(b" wor"), b"ld"):
        exchange.response.write(piece)
    head, body = exchange.came()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Length: 11" in head
    assert body == b"hello world"
    assert exchange.wire.pieces == 1


@pytest.mark.parametrize("window_bytes", [None, 2_000])
def test_it_sends_a_large_piece_from_where_it_lies(
    ends: tuple[socket.socket, socket.socket], window_bytes: int | None
) -> None:
    if window_bytes:
        ends[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, window_bytes)
    ends[0].settimeout(5)
    exchange = Exchange(ends)
    exchange.response.start_response("200 OK", headers(len(LARGE) + 4))
    for piece in (b'{"', memoryview(LARGE), b'"}'):
        exchange.response.write(piece)
    _, body = exchange.came()
    assert body == b'{"' + LARGE + b'"}'
    assert exchange.wire.pieces <= 3


class Narrow(Wire):
    """Takes a few bytes of what it is given at once, less than a head."""

    def sendmsg(self, buffers: Any) -> int:
        return self._sock.send(b"".join(buffers)[:7])


def test_it_goes_on_where_the_client_takes_less_than_the_head(ends: tuple[socket.socket, socket.socket]) -> None:
    exchange = Exchange(ends)
    exchange.response.sock = Narrow(exchange.ours)
    exchange.response.start_response("200 OK", headers(len(LARGE)))
    exchange.response.write(memoryview(LARGE))
    head, body = exchange.came()
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert body == LARGE


def test_it_sends_no_more_than_it_declared(ends: tuple[socket.socket, socket.socket]) -> None:
    exchange = Exchange(ends)
    exchange.response.start_response("200 OK", headers(4))
    for piece in (memoryview(b"abcdefgh"), memoryview(b"ijkl"), b"mnop"):
        exchange.response.write(piece)
    assert exchange.came()[1] == b"abcd"


def test_it_sends_each_chunk_when_it_is_there(ends: tuple[socket.socket, socket.socket]) -> None:
    exchange = Exchange(ends)
    exchange.response.start_response("200 OK", headers(None))
    exchange.response.write(b"data: 1\n\n")
    assert exchange.wire.pieces == 2
    exchange.response.write(memoryview(b"data: 2\n\n"))
    head, body = exchange.came()
    assert b"\r\nTransfer-Encoding: chunked" in head
    assert body == b"9\r\ndata: 1\n\n\r\n9\r\ndata: 2\n\n\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Not Modified")]
)
def test_it_sends_the_head_alone_where_there_is_no_body(
    ends: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture, method: str, status: str
) -> None:
    exchange = Exchange(ends, method)
    exchange.response.start_response(status, headers(5))
    with caplog.at_level(logging.WARNING, logger="gunicorn"):
        exchange.response.write(memoryview(b"hello"))
        exchange.response.write(b"hello")
    head, body = exchange.came()
    assert caplog.messages == []  # whoever asks for heads would fill the operator's log
    assert head.startswith(f"HTTP/1.1 {status}\r\n".encode())
    assert body == b""


def test_it_sends_a_file_behind_its_head(ends: tuple[socket.socket, socket.socket], tmp_path: Any) -> None:
    path = tmp_path / "picture"
    path.write_bytes(LARGE)
    for source in (path.open("rb"), io.BytesIO(LARGE)):
        ours, theirs = socket.socketpair()
        with ours, theirs, source:
            exchange = Exchange((ours, theirs))
            exchange.response.start_response("200 OK", headers(len(LARGE)))
            exchange.response.write_file(wsgi.FileWrapper(source))
            head, body = exchange.came()
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert body == LARGE
