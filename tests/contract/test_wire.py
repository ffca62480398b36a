"""Bytes on the real server's socket: what gunicorn, our bodies and Django refuse, each in OpenAI's shape as JSON."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import requests

from billing.models import Hold
from core import errors
from imagesapi.models import Generation
from tests.contract.conftest import Customer
from tests.envelope import assert_refused, error_of
from tests.fakes.providers import ProviderFake

ASKED = orjson.dumps({"model": "gpt-image-1", "prompt": "a red fox", "size": "1024x1024", "quality": "low"})
ROUTE = b"/openai/v1/images/generations"


@dataclass
class Answer:
    """An answer as it came over the socket."""

    status_code: int
    headers: Any
    content: bytes


class _Reading:
    """What http.client wants of a socket: one buffered reader for all answers of a connection, never closed by one."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def makefile(self, *args: object) -> _Reading:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def flush(self) -> None:
        """Nothing is written here."""

    def close(self) -> None:
        """The next answer is still to be read."""


class Line:
    """One connection to the server."""

    def __init__(self, customer: Customer) -> None:
        host, _, port = customer.server.url.removeprefix("http://").partition(":")
        self.customer = customer
        self.sock = socket.create_connection((host, int(port)), timeout=15)
        self._reading = _Reading(self.sock)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def pour(self, piece: bytes, *, most_bytes: int) -> int:
        """Send a piece over and over; returns how many bytes went before the server hung up."""
        sent_bytes = 0
        with contextlib.suppress(ConnectionError):
            while sent_bytes < most_bytes:
                self.sock.sendall(piece)
                sent_bytes += len(piece)
        return sent_bytes

    def post(self, *headers: bytes, body: bytes = b"", version: bytes = b"1.1") -> None:
        lines = [b"POST %s HTTP/%s" % (ROUTE, version), b"Host: 127.0.0.1", *headers]
        lines += [b"Authorization: Bearer " + self.customer.key.encode(), b"Content-Type: application/json"]
        self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def read(self) -> Answer:
        response = http.client.HTTPResponse(self._reading)  # type: ignore[arg-type]
        response.begin()
        return Answer(response.status, response.headers, response.read())

    def close(self) -> None:
        self._reading.detach().close()
        self.sock.close()

    def is_closed(self) -> bool:
        try:
            return bool(self._reading.read(1) == b"")
        except ConnectionResetError:
            return True


@pytest.fixture
def line(customer: Customer) -> Iterator[Line]:
    line = Line(customer)
    yield line
    line.close()


def chunks(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


def assert_nothing_happened(fake: ProviderFake) -> None:
    assert fake.calls == 0
    assert not Hold.objects.exists()
    assert not Generation.objects.exists()


def test_a_chunked_body_works_like_any_other(line: Line, fake: ProviderFake) -> None:
    for _ in range(2):  # and leaves the connection clean for the next one
        line.post(b"Transfer-Encoding: chunked", body=chunks(ASKED[:10], ASKED[10:11], ASKED[11:]) + b"0\r\n\r\n")
        answer = line.read()
        assert answer.status_code == 200, answer.content
        assert orjson.loads(answer.content)["metadata"]["cost"] == pytest.approx(0.0109, abs=0.0001)
    assert [seen.json["prompt"] for seen in fake.requests] == ["a red fox"] * 2
    assert list(Generation.objects.values_list("request_size_bytes", flat=True)) == [len(ASKED)] * 2


def test_a_chunked_body_that_comes_slowly_works(line: Line, fake: ProviderFake) -> None:
    line.post(b"Transfer-Encoding: chunked", b"Expect: 100-continue")
    assert line.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    for byte in ASKED:
        line.send(chunks(bytes([byte])))
    line.send(b"0\r\nX-Trailer: 1\r\n\r\n")
    assert line.read().status_code == 200


def test_a_chunked_body_of_nothing_is_no_json(line: Line, fake: ProviderFake) -> None:
    line.post(b"Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    assert_refused(line.read(), 400, "invalid_json")
    assert_nothing_happened(fake)


def test_a_chunked_body_without_an_end_is_refused_at_the_limit(line: Line, fake: ProviderFake) -> None:
    line.post(b"Transfer-Encoding: chunked", body=chunks(b'{"prompt": "'))
    sent_bytes = line.pour(chunks(b"x" * 65_536), most_bytes=64 * 1024 * 1024)
    assert sent_bytes < 32 * 1024 * 1024
    assert_nothing_happened(fake)


def test_a_chunked_body_above_the_limit_is_too_large(line: Line, fake: ProviderFake) -> None:
    line.post(b"Transfer-Encoding: chunked", body=chunks(b"[" + b"1," * 600_000 + b"1]") + b"0\r\n\r\n")
    assert_refused(line.read(), 413, "request_too_large", says="1048576")
    assert_nothing_happened(fake)


@pytest.mark.parametrize(
    "body",
    [b"zz\r\nabc\r\n0\r\n\r\n", b"-5\r\nabc\r\n", b"5\r\nabcdefgh\r\n0\r\n\r\n", b"3;\r\x00\r\nabc\r\n", b"\r\n\r\n"],
    ids=["no number", "negative", "too long", "bad extension", "empty line"],
)
def test_malformed_chunks_are_refused(line: Line, fake: ProviderFake, body: bytes) -> None:
    line.post(b"Transfer-Encoding: chunked", body=body)
    assert error_of(line.read())["type"] == "invalid_request_error"
    assert line.is_closed()
    assert_nothing_happened(fake)


def test_a_body_declared_too_large_is_refused_before_it_is_sent(line: Line, fake: ProviderFake) -> None:
    line.post(b"Content-Length: 99999999999")
    assert_refused(line.read(), 413, "request_too_large", says="1048576")
    assert_nothing_happened(fake)


def test_a_client_that_sends_all_of_a_large_body_reads_the_refusal(customer: Customer, fake: ProviderFake) -> None:
    body = b'{"prompt": "' + b"x" * 3_000_000 + b'"}'
    answer = requests.post(
        f"{customer.base_url}/images/generations",
        data=body,
        headers={**customer.headers, "Content-Type": "application/json"},
        timeout=15,
    )
    assert_refused(answer, 413, "request_too_large", says="1048576")
    assert_nothing_happened(fake)


def test_a_body_shorter_than_declared_is_refused_once_the_caller_is_done(line: Line, fake: ProviderFake) -> None:
    line.post(b"Content-Length: 5000", body=ASKED)
    line.sock.shutdown(socket.SHUT_WR)
    answer = line.read()
    assert answer.status_code == 400
    assert error_of(answer)["code"] == "invalid_json"
    assert_nothing_happened(fake)


def test_what_follows_a_declared_body_is_another_request(line: Line, fake: ProviderFake) -> None:
    line.post(b"Content-Length: %d" % (len(ASKED) - 10), body=ASKED + b"\r\n\r\n")
    assert_refused(line.read(), 400, "invalid_json")
    assert error_of(line.read())["type"] == "invalid_request_error"
    assert line.is_closed()
    assert_nothing_happened(fake)


HTTP_TROUBLES = {
    "garbage": b"\x00\x01\x02\x03 garbage\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "no version": b"POST /openai/v1/images/generations\r\nHost: 127.0.0.1\r\n\r\n",
    "HTTP/9": b"POST /openai/v1/images/generations HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    "a long address": b"GET /openai/v1/models/" + b"x" * 9_000 + b" HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    "a huge header": b"GET /openai/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
    "many headers": b"GET /v1/balance HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"X: x\r\n" * 200 + b"\r\n",
    "a header without a name": b"GET /v1/balance HTTP/1.1\r\n: x\r\n\r\n",
    "a space before the colon": b"GET /v1/balance HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n",
    "a folded header": b"GET /v1/balance HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET /v1/balance HTTP/1.1\r\nHost: 127.0.0.1\r\nX: a\x00b\r\n\r\n",
    "two lengths": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a negative length": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "a length in words": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    "length and chunks": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: sausages\r\n\r\n",
    "gzip without chunks": b"POST /v1/balance HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /v1/balance HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
}


def test_what_is_not_http_is_refused_in_json(customer: Customer, fake: ProviderFake) -> None:
    for name, data in HTTP_TROUBLES.items():
        line = Line(customer)
        line.send(data)
        answer = line.read()
        assert 400 <= answer.status_code < 500, (name, answer)
        error = error_of(answer)
        assert (error["type"], error["code"]) == ("invalid_request_error", errors.MalformedHttp.code), name
        assert b"<html" not in answer.content.lower()
        line.close()
    assert_nothing_happened(fake)


@pytest.mark.parametrize(
    "host", [b"evil.example", b"127.0.0.1, evil.example", b"127.0.0.1@evil.example", b"", b"127.0.0.1:x"]
)
def test_a_foreign_host_is_refused_in_json(line: Line, fake: ProviderFake, host: bytes) -> None:
    line.send(b"GET /openai/v1/models HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
    answer = line.read()
    assert answer.status_code == 400
    error_of(answer)


def test_it_speaks_http_1_0(line: Line, fake: ProviderFake) -> None:
    line.post(b"Content-Length: %d" % len(ASKED), body=ASKED, version=b"1.0")
    assert line.read().status_code == 200
    assert line.is_closed()


def test_requests_in_a_row_are_answered_in_order(line: Line, fake: ProviderFake) -> None:
    line.post(b"Content-Length: 1", body=b"{")
    line.post(b"Content-Length: %d" % len(ASKED), body=ASKED)
    assert [line.read().status_code, line.read().status_code] == [400, 200]


def test_a_caller_that_hangs_up_while_sending_leaves_nothing(customer: Customer, fake: ProviderFake) -> None:
    for headers in ([b"Content-Length: 5000"], [b"Transfer-Encoding: chunked"]):
        line = Line(customer)
        line.post(*headers, body=b"5\r\n{")
        time.sleep(0.05)
        line.close()
    answer = requests.get(f"{customer.base_url}/models", headers=customer.headers, timeout=10)
    assert answer.status_code == 200
    assert_nothing_happened(fake)


def test_an_encoded_slash_is_a_slash(customer: Customer, fake: ProviderFake) -> None:
    for word in ("openai/gpt-image-1", "openai%2Fgpt-image-1", "openai%2fgpt-image-1"):
        answer = requests.get(f"{customer.base_url}/models/{word}", headers=customer.headers, timeout=10)
        assert answer.json()["id"] == "gpt-image-1"
