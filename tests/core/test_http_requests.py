"""What core.http writes: one request and no more, whatever its URL and headers hold."""

from __future__ import annotations

import base64
import time

import pytest

from core import _targets, http
from tests.peers import Peer

OURS = {"accept-encoding": "identity", "user-agent": "pixelpar"}


def ask(
    peer: Peer,
    path: str = "/",
    *,
    method: str = "POST",
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
) -> http.Reply:
    url = f"{peer.url}{path}"
    return http.call(method, url, deadline=time.monotonic() + 3, max_bytes=100, headers=headers, body=body)


def written(request: bytes) -> tuple[str, dict[str, str], bytes]:
    """First line, headers by lower-case name (each of which may stand there once), body."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    pairs = [line.split(": ", 1) for line in lines]
    headers = {name.lower(): value for name, value in pairs}
    assert len(headers) == len(pairs)
    return first, headers, body


def headers_of(url: str, **given: str) -> dict[str, str]:
    return written(_targets.find("GET", url).head(given, 0))[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "b\r\nX-C: d"},
        {"X-A": "b\nX-C: d"},
        {"X-A": "b\rX-C: d"},
        {"X-A": "b\r\n"},
        {"X-A": "b\r\n c"},
        {"X-A": "b\r\n\r\nGET / HTTP/1.1\r\n\r\n"},
        {"X-A": "b\x00"},
        {"X-A": "b\x0b"},
        {"X-A": "b\x7f"},
        {"X-A": "\u560a\u560d"},  # whose lower bytes are a line end
        {"X-A": "€"},
        {"X-A\r\nX-C": "d"},
        {"X-A: b\r\nX-C": "d"},
        {"X-A:": "b"},
        {"X A": "b"},
        {"X-A ": "b"},
        {" X-A": "b"},
        {"": "b"},
        {"Transfer-Encoding": "chunked"},
        {"transfer-encoding": "identity"},
    ],
)
def test_it_says_not_sent_for_a_header_that_would_be_something_else(headers: dict[str, str]) -> None:
    headers = {name: f"sk-secret{value}" for name, value in headers.items()}
    with Peer() as peer:
        with pytest.raises(http.NotSent) as refused:
            ask(peer, headers=headers, body=b"{}")
        with (
            pytest.raises(http.NotSent),
            http.stream("POST", peer.url, deadline=time.monotonic() + 3, max_bytes=9, headers=headers),
        ):
            pytest.fail("it was sent")
        assert peer.connections == []
        assert "sk-secret" not in f"{refused.value} {refused.value.__cause__}"


@pytest.mark.parametrize("method", ["", "GET / HTTP/1.1\r\nX-A:", "G T", "GET\r\n", "G\x00T"])
def test_it_says_not_sent_for_a_method_that_is_none(method: str) -> None:
    with Peer() as peer:
        with pytest.raises(http.NotSent):
            ask(peer, method=method)
        assert peer.connections == []


@pytest.mark.parametrize(
    "path", ["/a\r\nX-A: b", "/a\nX-A: b", "/a b", "/a HTTP/1.1\r\nX-A: b\r\n\r\n", "/\x00", "/ü?ö=\r\n"]
)
def test_a_path_stays_one_whatever_it_holds(path: str) -> None:
    with Peer() as peer:
        assert ask(peer, path, headers={"X-B": "c"}).status == 200
        first, headers, body = written(peer.requests[0])
        assert first.startswith("POST /") and first.endswith(" HTTP/1.1") and first.count(" ") == 2
        assert set(headers) == {"host", *OURS, "content-length", "x-b"}
        assert body == b""


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/a%20b/%41?x=%2f&y=a@b#part", "/a%20b/A?x=%2F&y=a@b"),
        ("//other.example/x", "/other.example/x"),
        ("/ü", "/%C3%BC"),
    ],
)
def test_it_asks_for_the_path_of_the_url(path: str, target: str) -> None:
    with Peer() as peer:
        ask(peer, path, method="get")
        assert written(peer.requests[0])[0] == f"GET {target} HTTP/1.1"


@pytest.mark.parametrize(
    ("url", "place", "host"),
    [
        ("http://a.example/x", (False, "a.example", 80), "a.example"),
        ("http://a.example:80/x", (False, "a.example", 80), "a.example"),
        ("http://a.example:443/x", (False, "a.example", 443), "a.example:443"),
        ("https://a.example/x", (True, "a.example", 443), "a.example"),
        ("https://a.example:443/x", (True, "a.example", 443), "a.example"),
        ("https://a.example:8443/x", (True, "a.example", 8443), "a.example:8443"),
        ("HTTPS://A.Example/x", (True, "a.example", 443), "a.example"),
        ("http://a.example./x", (False, "a.example.", 80), "a.example"),
        ("http://[::1]/x", (False, "::1", 80), "[::1]"),
        ("http://[::1]:8080/x", (False, "::1", 8080), "[::1]:8080"),
        ("http://bücher.example/x", (False, "xn--bcher-kva.example", 80), "xn--bcher-kva.example"),
        ("http://user:pass@a.example:81/x", (False, "a.example", 81), "a.example:81"),
    ],
)
def test_it_calls_the_host_of_the_url_by_its_name(url: str, place: tuple[bool, str, int], host: str) -> None:
    assert _targets.find("GET", url).place == place
    assert headers_of(url)["host"] == host


@pytest.mark.parametrize(
    "url",
    [
        *("", "a.example", "//a.example/", "ftp://a.example/", "file:///etc/passwd", "http:/a.example", "http:///x"),
        *("http://", "http://:80/", "httpx://a.example/", "unix:///x", "http://[::1", "http://a.example:-1/"),
        *("http://a.example:99999/", "http://a.example:x/", "http://a b.example/", "http://a\r\n.example/"),
        *("http://*.example/", "http://\x00/"),
    ],
)
def test_it_refuses_an_address_it_cannot_call(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        _targets.find("GET", url)
    with pytest.raises(http.NotSent):
        http.call("GET", url, deadline=time.monotonic() + 1, max_bytes=1)


def test_a_name_and_password_in_a_url_are_a_header_unless_the_caller_has_one() -> None:
    url = "http://user:p%40ss@a.example/x"
    told = f"Basic {base64.b64encode(b'user:p@ss').decode()}"
    assert headers_of(url) == {"host": "a.example", **OURS, "authorization": told}
    assert headers_of(url, Authorization="Bearer key")["authorization"] == "Bearer key"
    assert headers_of("http://a.example/x") == {"host": "a.example", **OURS}


def test_the_last_of_two_spellings_of_a_header_counts_and_goes_before_ours() -> None:
    with Peer() as peer:
        given = {
            "Content-Type": "a/a",
            "content-type": "b/b",
            "user-agent": "mine",
            "X-Latin": "caf\xe9",
            "X-Empty": "",
        }
        ask(peer, headers=given, body=b"{}")
        headers = written(peer.requests[0])[1]
    assert headers["content-type"] == "b/b"
    assert headers["user-agent"] == "mine"
    assert headers["x-latin"] == "caf\xe9"
    assert headers["x-empty"] == ""


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        *(("POST", b"12345", "5"), ("POST", b"", "0"), ("POST", None, "0"), ("PUT", None, "0")),
        *(("DELETE", None, "0"), ("GET", None, None), ("GET", b"", None), ("GET", b"123", "3"), ("HEAD", None, None)),
    ],
)
def test_a_body_goes_out_with_its_own_length(method: str, body: bytes | None, length: str | None) -> None:
    with Peer() as peer:
        ask(peer, method=method, body=body, headers={"Content-Length": "77"})
        _, headers, came = written(peer.requests[0])
    assert (headers.get("content-length"), came) == (length, body or b"")
