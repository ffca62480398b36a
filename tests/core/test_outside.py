"""core.outside against every known trick with an address: a trap on loopback counts who was let through."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings
from pytest_socket import SocketConnectBlockedError

from core import http, outside
from tests.core.tricks import ADDRESSES, FORMS, NAMES, PUBLIC, PUBLIC_V6, REDIRECTS
from tests.sites import Site, certificate, drip, reply


def soon(within_s: float = 3.0) -> float:
    return time.monotonic() + within_s


class Trap:
    """Sockets that wait for whoever was let through; the kernel completes a connection before anybody accepts it."""

    def __init__(self) -> None:
        first = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = int(first.getsockname()[1])
        self.listeners = [first]
        with contextlib.suppress(OSError):
            self.listeners.append(socket.create_server(("::1", self.port), family=socket.AF_INET6, backlog=200))
        for listener in self.listeners:
            listener.setblocking(False)

    def count(self) -> int:
        found = 0
        for listener in self.listeners:
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    found += 1
        return found

    def close(self) -> None:
        for listener in self.listeners:
            listener.close()


@pytest.fixture
def trap(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Iterator[Trap]:
    """It waits where https goes, so that the only thing between it and a caller is the judging of addresses."""
    found = Trap()
    monkeypatch.setattr(outside, "_PORTS", {"https": found.port, "http": found.port})
    yield found
    found.close()


class Names:
    """The resolver: answers from a table, in turn where it holds several, and remembers who asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[list[str]]] = {name: [answer] for name, answer in NAMES.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answers = self.answers.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    found = Names()
    monkeypatch.setattr(outside, "resolve", found)
    return found


@pytest.fixture
def site(settings: Settings) -> Iterator[Site]:
    """A file server on loopback that the operator has named."""
    with Site() as found:
        settings.OUTSIDE_ALLOWED_HOSTS = [f"127.0.0.1:{found.port}"]
        yield found


# --- what is refused --------------------------------------------------------------------------------------------------


def test_its_tables_hold_many_tricks() -> None:
    assert len(FORMS) + len(ADDRESSES) + len(REDIRECTS) + len(NAMES) > 150


@pytest.mark.parametrize("host", FORMS, ids=ascii)
def test_it_refuses_every_spelling_of_a_host(trap: Trap, names: Names, host: str) -> None:
    for scheme in ("https", "HTTPS"):
        with pytest.raises(outside.Refused) as refused:
            outside.fetch(f"{scheme}://{host}/picture.png", deadline=soon(), max_bytes=100)
        assert "Allowed is https://host/path on port 443" in refused.value.message
    with pytest.raises(outside.Refused):
        outside.post(f"https://{host}/", deadline=soon(), max_bytes=100, headers={}, body=b"{}")
    assert (trap.count(), names.asked) == (0, [])


@pytest.mark.parametrize("url", ADDRESSES, ids=lambda url: ascii(url)[:60])
def test_it_refuses_every_address_that_is_none(trap: Trap, names: Names, url: str) -> None:
    with pytest.raises(outside.Refused):
        outside.check(url)
    with pytest.raises(outside.Refused):
        outside.fetch(url, deadline=soon(), max_bytes=100)
    assert (trap.count(), names.asked) == (0, [])


@pytest.mark.parametrize("name", NAMES)
def test_it_refuses_every_name_that_leads_inside(trap: Trap, names: Names, name: str) -> None:
    outside.check(f"https://{name}/")  # its form is fine
    with pytest.raises(outside.Refused) as refused:
        outside.fetch(f"https://{name}/", deadline=soon(), max_bytes=100)
    with pytest.raises(outside.Refused):
        outside.post(f"https://{name}/", deadline=soon(), max_bytes=100, headers={}, body=b"")
    assert trap.count() == 0
    assert not any(address in refused.value.message for address in NAMES[name]), "it says where a name leads"


@pytest.mark.parametrize("location", REDIRECTS, ids=ascii)
def test_it_follows_no_redirect_inside(trap: Trap, site: Site, location: str) -> None:
    site.answer = reply(302, Location=location)
    with pytest.raises(outside.Refused):
        outside.fetch(f"{site.url}/", deadline=soon(), max_bytes=100)
    assert trap.count() == 0


def test_it_follows_no_redirect_to_another_port_of_a_named_host(trap: Trap, site: Site) -> None:
    site.answer = reply(302, Location=f"http://127.0.0.1:{trap.port}/")
    with pytest.raises(outside.Refused):
        outside.fetch(f"{site.url}/", deadline=soon(), max_bytes=100)
    assert trap.count() == 0


def test_it_calls_the_address_it_judged_when_the_name_changes_its_mind(trap: Trap, names: Names) -> None:
    """The first answer is public: that one is called (and nothing is, beyond loopback, in tests)."""
    names.answers["rebinding.example"] = [[PUBLIC], ["127.0.0.1"]]
    with pytest.warns(UserWarning, match=PUBLIC), pytest.raises(SocketConnectBlockedError):
        outside.fetch("https://rebinding.example/", deadline=soon(), max_bytes=100)
    assert names.asked == ["rebinding.example"]
    with pytest.raises(outside.Refused):
        outside.fetch("https://rebinding.example/", deadline=soon(), max_bytes=100)
    assert trap.count() == 0


def test_its_trap_is_where_a_call_would_go(trap: Trap, settings: Settings) -> None:
    """Without this the tests above would be content with a trap that nobody can reach."""
    settings.OUTSIDE_ALLOWED_HOSTS = [f"inside.example:{trap.port}", f"127.0.0.1:{trap.port}"]
    for host in ("inside.example", "127.0.0.1"):
        with pytest.raises(http.CallError):
            outside.fetch(f"https://{host}/", deadline=soon(0.2), max_bytes=100)
    assert trap.count() == 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [(PUBLIC, True), (PUBLIC_V6, True), ("8.8.8.8", True), ("2001:4860:4860::8888", True), ("1.1.1.1", True)]
    + [("100.127.255.255", False), ("64:ff9b::808:808", False), ("2002:808:808::1", False), ("ff0e::1", False)],
)
def test_it_knows_a_public_address(address: str, expected: bool) -> None:
    assert outside.is_public(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize(
    "url",
    ["https://public.example", "https://public.example/@user/a%20b.png?x=%41&y=a@b#part", f"https://{PUBLIC}/"]
    + [
        f"https://[{PUBLIC_V6}]/",
        "HTTPS://Public.Example:443/",
        "https://my_bucket.s3.example/",
        "https://xn--bcher-kva.example/ü",
    ],
)
def test_it_takes_a_plain_public_address(url: str) -> None:
    outside.check(url)


def test_it_takes_http_only_where_the_operator_says_so(settings: Settings) -> None:
    settings.OUTSIDE_ALLOW_HTTP = True
    outside.check("http://public.example/")
    for url in ("http://public.example:8080/", "http://public.example:443/", "https://public.example:80/"):
        with pytest.raises(outside.Refused, match="or http://host/path on port 80"):
            outside.check(url)


# --- what is called ---------------------------------------------------------------------------------------------------


def test_it_fetches_with_nothing_of_ours(site: Site) -> None:
    site.answer = reply(200, b"picture", **{"Set-Cookie": "session=1"})
    for _ in range(2):
        found = outside.fetch(f"{site.url}/a%20b/ü?x=1#part", deadline=soon(), max_bytes=100)
        assert (found.status, found.body) == (200, b"picture")
    for method, path, headers, body in site.seen:
        assert (method, path, body) == ("GET", "/a%20b/%C3%BC?x=1", b"")
        assert set(headers) == {"host", "accept-encoding", "user-agent", "connection"}
        assert headers["host"] == f"127.0.0.1:{site.port}"


def test_it_never_uses_a_connection_twice(site: Site) -> None:
    for _ in range(5):
        outside.fetch(site.url, deadline=soon(), max_bytes=100)
        time.sleep(0.06)
    assert site.connections == 5


def test_it_calls_a_name_at_the_address_it_resolved_to(site: Site, names: Names, settings: Settings) -> None:
    settings.OUTSIDE_ALLOWED_HOSTS = [f"Files.Example:{site.port}"]
    names.answers["files.example"] = [["127.0.0.1"]]
    assert outside.fetch(f"http://FILES.example:{site.port}/", deadline=soon(), max_bytes=100).body == b"hello"
    assert site.seen[0][2]["host"] == f"files.example:{site.port}"
    assert names.asked == ["files.example"]


def test_it_tries_the_next_address_of_a_name(site: Site, names: Names, settings: Settings) -> None:
    settings.OUTSIDE_ALLOWED_HOSTS = [f"files.example:{site.port}"]
    names.answers["files.example"] = [["::1", "127.0.0.1"]]
    assert outside.fetch(f"http://files.example:{site.port}/", deadline=soon(), max_bytes=100).status == 200


def test_it_follows_two_redirects_and_no_third(site: Site) -> None:
    def hop(handler: BaseHTTPRequestHandler) -> None:
        left = int(handler.path.strip("/"))
        (reply(302, Location=f"/{left - 1}") if left else reply(200, b"there"))(handler)

    site.answer = hop
    assert outside.fetch(f"{site.url}/2", deadline=soon(), max_bytes=100).body == b"there"
    with pytest.raises(outside.Refused, match="more than 2 redirects"):
        outside.fetch(f"{site.url}/3", deadline=soon(), max_bytes=100)


def test_it_posts_what_it_is_given_and_follows_nothing(site: Site) -> None:
    site.answer = reply(307, Location="/elsewhere")
    found = outside.post(f"{site.url}/hook", deadline=soon(), max_bytes=100, headers={"X-A": "b"}, body=b"{}")
    assert found.status == 307
    ((method, path, headers, body),) = site.seen
    assert (method, path, headers["x-a"], body) == ("POST", "/hook", "b", b"{}")


def test_it_takes_no_more_than_it_was_told(site: Site) -> None:
    site.answer = reply(200, b"x" * 101)
    with pytest.raises(http.TooLarge):
        outside.fetch(site.url, deadline=soon(), max_bytes=100)


def test_it_ends_a_dripping_answer_at_the_deadline(site: Site) -> None:
    site.answer = drip(0.05)
    started_s = time.monotonic()
    with pytest.raises(http.Late):
        outside.fetch(site.url, deadline=soon(0.4), max_bytes=100_000)
    assert time.monotonic() - started_s < 1.5


def test_it_ends_a_name_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def hang(host: str, port: int) -> list[str]:
        answered.wait(10)
        return [PUBLIC]

    monkeypatch.setattr(outside, "resolve", hang)
    with pytest.raises(http.NotSent, match="in time"):
        outside.fetch("https://slow.example/", deadline=soon(0.1), max_bytes=100)
    answered.set()


def test_it_has_one_deadline_over_all_redirects(site: Site) -> None:
    def slowly(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.3)
        reply(302, Location="/again")(handler)

    site.answer = slowly
    with pytest.raises(http.Late):
        outside.fetch(site.url, deadline=soon(0.5), max_bytes=100)


def test_it_says_not_sent_for_a_name_that_is_not_found_and_for_a_closed_port(site: Site, settings: Settings) -> None:
    with pytest.raises(http.NotSent):
        outside.fetch("https://missing.example/", deadline=soon(), max_bytes=100)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        settings.OUTSIDE_ALLOWED_HOSTS = [f"127.0.0.1:{closed.getsockname()[1]}"]
        with pytest.raises(http.NotSent):
            outside.fetch(f"http://127.0.0.1:{closed.getsockname()[1]}/", deadline=soon(), max_bytes=100)


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_it_proves_the_name_it_was_given_at_the_address_it_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings, names: Names
) -> None:
    path = certificate(tmp_path, "files.example")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    asked_for: list[str | None] = []
    context.sni_callback = lambda sock, name, context: asked_for.append(name)
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(path))
    names.answers |= {"files.example": [["127.0.0.1"]], "other.example": [["127.0.0.1"]]}
    with Site(tls=context) as site:
        settings.OUTSIDE_ALLOWED_HOSTS = [f"{host}:{site.port}" for host in ("files.example", "other.example")]
        assert outside.fetch(f"https://files.example:{site.port}/", deadline=soon(), max_bytes=100).body == b"hello"
        with pytest.raises(http.NotSent):
            outside.fetch(f"https://other.example:{site.port}/", deadline=soon(), max_bytes=100)
        assert asked_for == ["files.example", "other.example"]
        assert len(site.seen) == 1
