"""A6: a request's Host is checked before anything, and no link, mail or answer ever takes it."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.test import Client

from accounts.models import Organization, User
from imagesapi.models import Generation
from tests.envelope import error_of
from tests.money import fund
from tests.people import PASSWORD, IssuedKey, sign_in
from tests.servers import LiveServer

EVIL = "evil.example"
JUNK = [
    EVIL, f"{EVIL}:8000", f"127.0.0.1@{EVIL}", f"{EVIL}@127.0.0.1", f"127.0.0.1:8000@{EVIL}", f"127.0.0.1.{EVIL}",
    f"127.0.0.1, {EVIL}", f"127.0.0.1 {EVIL}", f"127.0.0.1\t{EVIL}", f"127.0.0.1/{EVIL}", f"127.0.0.1#{EVIL}",
    f"127.0.0.1?{EVIL}", f"127.0.0.1\\{EVIL}", f"http://{EVIL}/", "http://127.0.0.1", f"//{EVIL}", f".{EVIL}",
    "127.0.0.1:junk", "127.0.0.1:", "127.0.0.1:80:80", "127.0.0.1:-1", "127.0.0.1:8000x", ":8000", "", " ", ".", "..",
    "[::1", "::1", f"[::1]{EVIL}", f"[{EVIL}]", "[::1]:junk", "127.0.0.1%00", "127.0.0.1\0", "127.0.0.1%0d%0aX: y",
    "127.0.0.1\u00a0", "①②⑦.⓪.⓪.①", "ｌocalhost", "localhosT\u0130", "0", "2130706433", "127.1", "*", "_", "a" * 5_000,
]  # fmt: skip
API = [
    ("get", "/v1/balance"), ("get", "/openai/v1/models"), ("post", "/openai/v1/images/generations"),
    ("get", "/v1/requests/req_0"), ("get", "/v1/nothing/here"), ("delete", "/openai/v1"),
]  # fmt: skip
PAGES = ["/", "/app", "/app/keys", "/accounts/login/", "/accounts/password/reset/", "/nothing/here"]
# Everything by which a proxy, or somebody who plays one, may name another host than Host.
FORWARDED = {
    "X-Forwarded-Host": EVIL, "X-Forwarded-Server": EVIL, "X-Host": EVIL, "X-Original-Host": EVIL,
    "X-HTTP-Host-Override": EVIL,
    "Forwarded": f"host={EVIL};proto=https", "X-Forwarded-Port": "666", "X-Forwarded-Prefix": f"//{EVIL}",
    "X-Rewrite-Url": f"http://{EVIL}/", "X-Original-Url": f"http://{EVIL}/",
}  # fmt: skip
PROMPT = {"model": "mock-image", "prompt": "a red fox", "size": "16x16"}


def test_it_refuses_a_host_it_does_not_serve_at_the_api(organization: Organization, api_key: IssuedKey) -> None:
    fund(organization, promo_nanos=1_000_000_000)
    for host in JUNK:
        client = Client(headers={**api_key.headers, "Host": host})
        for method, path in API:
            body = {"data": PROMPT, "content_type": "application/json"} if method == "post" else {}
            response = getattr(client, method)(path, **body)
            assert response.status_code == 400, (host, path)
            assert error_of(response)["code"] == "invalid_value"
    assert not Generation.objects.exists()


def test_it_refuses_a_host_it_does_not_serve_on_pages(alice: User) -> None:
    browser = sign_in(alice)
    for host in JUNK:
        for path in PAGES:
            response = browser.get(path, headers={"Host": host})
            assert response.status_code == 400, (host, path)
            assert response["Content-Type"].startswith("text/html")
            assert b"This request could not be read" in response.content
            assert EVIL.encode() not in response.content
            assert "Location" not in response


def test_it_takes_the_hosts_it_serves(db: None) -> None:
    for host in ("127.0.0.1:8000", "localhost", "localhost:1", "LOCALHOST", "localhost.", "[::1]:8000"):
        assert Client().get("/accounts/login/", headers={"Host": host}).status_code == 200, host
        assert Client().get("/v1/balance", headers={"Host": host}).status_code == 401, host


def test_it_does_not_let_a_forwarded_host_repair_a_wrong_one(db: None) -> None:
    good = {name: value.replace(EVIL, "localhost") for name, value in FORWARDED.items()}
    assert Client().get("/", headers={**good, "Host": EVIL}).status_code == 400
    assert Client().get("/v1/balance", headers={**good, "Host": EVIL}).status_code == 400


@pytest.fixture(params=["host", "forwarded"])
def poisoned(request: pytest.FixtureRequest, settings: Any) -> dict[str, str]:
    """Headers that name a foreign host, on a server careless enough to accept every Host."""
    settings.ALLOWED_HOSTS = ["*"]
    return {"Host": EVIL} if request.param == "host" else FORWARDED


def _links(text: str) -> list[str]:
    return re.findall(r"https?://[^\s\"'<>]+", text)


def test_its_image_links_never_take_the_host(
    poisoned: dict[str, str], organization: Organization, api_key: IssuedKey
) -> None:
    fund(organization, promo_nanos=1_000_000_000)
    headers = {**api_key.headers, **poisoned}
    made = Client().post("/v1/images/generations", PROMPT, content_type="application/json", headers=headers)
    shown = Client().get(f"/v1/requests/{made.json()['id']}", headers=headers)
    for url in (made.json()["data"][0]["url"], shown.json()["images"][0]["url"]):
        assert url.startswith(f"{django_settings.BASE_URL}/openai/v1/images/img_")
    for path in ("/v1/requests?limit=1", "/openai/v1/models", "/v1/nothing"):
        response = Client().get(path, headers=headers)
        assert EVIL not in response.content.decode() + str(response.headers), path


def test_its_mails_never_take_the_host(poisoned: dict[str, str], alice: User) -> None:
    browser = Client(headers=poisoned)
    browser.post("/accounts/signup/", {"email": "dora@example.com", "password1": PASSWORD})
    browser.post("/accounts/signup/", {"email": "alice@example.com", "password1": PASSWORD})
    browser.post("/accounts/password/reset/", {"email": "alice@example.com"})
    browser.post("/accounts/password/reset/", {"email": "nobody@example.com"})
    assert len(mail.outbox) == 4
    for message in mail.outbox:
        written = f"{message.subject}\n{message.body}\n{message.from_email}\n{message.message()}"
        assert EVIL not in written
        assert all(f"{link}/".startswith(f"{django_settings.BASE_URL}/") for link in _links(str(message.body))), (
            message.body
        )
    assert sum("/accounts/" in message.body for message in mail.outbox) >= 3


def test_its_pages_and_redirects_never_take_the_host(poisoned: dict[str, str], alice: User) -> None:
    for browser in (Client(headers=poisoned), sign_in(alice)):
        for path in PAGES:
            response = browser.get(path, headers=poisoned)
            assert EVIL not in response.content.decode() + str(response.headers), path


def test_it_sends_nobody_elsewhere_after_the_login(db: None, alice: User) -> None:
    alice.set_password(PASSWORD)
    alice.save()
    for target in (f"//{EVIL}", f"https://{EVIL}/", f"/\\{EVIL}", f"\\\\{EVIL}", f"http:{EVIL}", "javascript:alert(1)"):
        login = {"login": alice.email, "password": PASSWORD, "next": target}
        response = Client().post("/accounts/login/", login)
        assert (response.status_code, response["Location"]) == (302, "/app"), target


def _exchange(server: LiveServer, head: str) -> tuple[int, str, bytes]:
    """Write these header lines to a real server; status, content type and body of its answer."""
    with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])), timeout=10) as sock:
        sock.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        answer = b""
        while chunk := sock.recv(65_536):
            answer += chunk
    lines, _, body = answer.partition(b"\r\n\r\n")
    kind = re.search(rb"^content-type: (\S+)", lines, re.MULTILINE | re.IGNORECASE)
    # Between the braces, since the body may come in chunks.
    return int(lines.split()[1]), kind[1].decode() if kind else "", body[body.find(b"{") : body.rfind(b"}") + 1]


HEADS = [
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example",
    "GET {path} HTTP/1.1\r\nHost: evil.example\r\nHost: 127.0.0.1",
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: 127.0.0.1",
    "GET http://evil.example{path} HTTP/1.1\r\nHost: evil.example",
    "GET http://evil.example{path} HTTP/1.1\r\nHost: 127.0.0.1",
    "GET http://127.0.0.1{path} HTTP/1.1\r\nHost: evil.example",
    "GET http://127.0.0.1@evil.example{path} HTTP/1.1\r\nHost: 127.0.0.1",
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:junk",
    "GET {path} HTTP/1.1\r\nHost : 127.0.0.1",
    "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n evil.example",
    "GET {path} HTTP/1.1\r\nHost:",
    "GET {path} HTTP/1.1\r\nX-Forwarded-Host: 127.0.0.1\r\nHost: evil.example",
]


def test_the_real_server_refuses_what_no_client_library_sends(server: LiveServer) -> None:
    outcomes = {}
    for head in HEADS:
        for path in ("/v1/balance", "/accounts/login/"):
            status, kind, body = _exchange(server, head.format(path=path))
            outcomes[head.format(path=path)] = status
            if path.startswith("/v1/"):
                assert kind.startswith("application/json"), (head, body)
                assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
            assert EVIL.encode() not in body
    assert set(outcomes.values()) == {400}, outcomes
    same = "GET http://127.0.0.1{path} HTTP/1.1\r\nHost: 127.0.0.1"
    assert _exchange(server, same.format(path="/v1/balance"))[0] == 401
    assert _exchange(server, same.format(path="/accounts/login/"))[0] == 200
