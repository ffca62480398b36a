"""core.http over TLS: only to whom a trusted certificate names, once a process, and kept as other connections are."""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from core import _lines, http
from tests.sites import Site, certificate, drip, reply


def server(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A certificate for "localhost" that this process trusts."""
    path = certificate(tmp_path, "localhost")
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(path))
    _lines.tls_context.cache_clear()
    yield path
    _lines.tls_context.cache_clear()


@pytest.fixture
def site(trusted: Path) -> Iterator[Site]:
    with Site(tls=server(trusted)) as running:
        yield running


def ask(
    site: Site, *, host: str = "localhost", within_s: float = 3.0, body: bytes | None = None, max_bytes: int = 4_000_000
) -> http.Reply:
    url, method = f"https://{host}:{site.port}/x", "GET" if body is None else "POST"
    return http.call(method, url, deadline=time.monotonic() + within_s, max_bytes=max_bytes, body=body)


def test_it_calls_whom_a_trusted_certificate_names_and_keeps_the_connection(site: Site) -> None:
    for _ in range(3):
        assert ask(site).body == b"hello"
        time.sleep(0.06)
    assert site.connections == 1
    assert site.seen[0][2]["host"] == f"localhost:{site.port}"


@pytest.mark.parametrize("size_bytes", [0, 16_384, 16_385, 100_000, 1_500_000])
def test_it_reads_and_writes_bodies_of_any_size(site: Site, size_bytes: int) -> None:
    body = os.urandom(size_bytes)
    site.answer = reply(200, body)
    assert ask(site, body=body).body == body
    assert site.seen[0][3] == body
    with http.stream("GET", f"https://localhost:{site.port}/", deadline=time.monotonic() + 3, max_bytes=9**7) as stream:
        assert b"".join(stream.pieces) == body


def test_it_sends_nothing_to_another_name_than_the_certificates(site: Site) -> None:
    with pytest.raises(http.NotSent) as refused:
        ask(site, host="127.0.0.1", body=b"secret")
    assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
    assert site.seen == []


def test_it_sends_nothing_to_whom_nobody_vouches_for(tmp_path: Path) -> None:
    with Site(tls=server(certificate(tmp_path, "localhost"))) as site:
        with pytest.raises(http.NotSent) as refused:
            ask(site, body=b"secret")
        assert isinstance(refused.value.__cause__, ssl.SSLCertVerificationError)
        assert site.seen == []


def test_it_sends_nothing_over_what_is_older_than_tls_1_2(trusted: Path) -> None:
    context = server(trusted)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Site(tls=context) as site:
        with pytest.raises(http.NotSent):
            ask(site)
        assert site.seen == []


def test_it_trusts_what_requests_trusts_and_reads_that_once() -> None:
    context = _lines.tls_context()
    assert context is _lines.tls_context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) > 50


def test_a_drip_ends_at_the_deadline(site: Site) -> None:
    site.answer = drip(0.05)
    begun = time.monotonic()
    with pytest.raises(http.Late):
        ask(site, within_s=0.5)
    assert time.monotonic() - begun < 1.2


def test_a_handshake_that_nobody_answers_ends_at_the_deadline_and_nothing_is_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(http.NotSent):
            http.call("GET", f"https://127.0.0.1:{silent.getsockname()[1]}/", deadline=begun + 0.4, max_bytes=10)
        assert 0.35 < time.monotonic() - begun < 0.9


@pytest.mark.parametrize("size_bytes", [5, 100_000])
def test_more_than_the_reply_ends_the_connection(site: Site, size_bytes: int) -> None:
    """In the same record, where the kernel no longer shows that there is something to read."""
    body = b"x" * size_bytes

    def say_more(handler: BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size_bytes
        handler.wfile.write(head + body + b"HTTP/1.1 200 OK\r\n")

    site.answer = say_more
    for _ in range(2):
        assert ask(site).body == body
        time.sleep(0.06)
    assert site.connections == 2


def test_a_connection_closed_while_it_rested_is_not_used(site: Site) -> None:
    def answer_and_close(handler: BaseHTTPRequestHandler) -> None:
        reply(200, b"hello")(handler)
        handler.close_connection = True

    site.answer = answer_and_close
    for _ in range(2):
        assert ask(site).body == b"hello"
        time.sleep(0.06)
    assert site.connections == 2
