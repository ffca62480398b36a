"""The bearer key is the only credential. Whatever else comes is a 401 in OpenAI's shape, and no part of a query."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from accounts import keys
from accounts.authentication import ApiKeyAuthentication, HasApiKey
from core import api
from tests.people import IssuedKey

_HOSTILE = (
    "'", '"', "' OR '1'='1", "'; DROP TABLE accounts_apikey; --", "\\", "\x00", "pxp_\x00", "%s", "%(secret_hash)s",
    "{}", "[]", "[1]", '{"key": 1}', "null", "true", "0", "-1", "1e309", "NaN", "é", "ключ", "鍵", "\u202e", "\ufeff",
    "\r\nX-Injected: 1", "\t", "\x7f", "\x1b[31m", "../../etc/passwd", "${jndi:ldap://x}", "<script>alert(1)</script>",
    "pxp_", "pxp_.", "pxp_x.y", "sk-proj-abcdef", "Bearer", "Bearer Bearer", "pxp_000000000000." + "a" * 42,
    "pxp_000000000000." + "a" * 44, "pxp_00000000000i." + "a" * 43, "PXP_000000000000." + "a" * 43,
    "pxp_000000000000." + "a" * 42 + "é", "pxp_000000000000." + "a" * 42 + "\n", "x" * 1_000_000, "pxp_" + "9" * 196,
)  # fmt: skip
_SCHEMES = ("Bearer ", "bearer ", "Basic ", "Token ", "", "Bearer\t", "Bearer  ", "Digest username=", "Bearer pxp_,")


class _Probe(APIView):
    """A view such as the API's own."""

    authentication_classes = (ApiKeyAuthentication,)
    permission_classes = (HasApiKey,)

    def get_exception_handler(self) -> Any:
        return api.exception_handler

    def get(self, request: Any) -> HttpResponse:
        return HttpResponse(request.auth.key_public_id)


def _ask(path: str = "/v1/probe", **extra: Any) -> HttpResponse:
    request: HttpRequest = APIRequestFactory().get(path, **extra)
    return _Probe.as_view()(request)


def _refusal(response: HttpResponse) -> str:
    """The message, once everything about a 401 is as it must be."""
    assert response.status_code == 401
    document = json.loads(response.content)
    assert list(document) == ["error"]
    assert list(document["error"]) == ["message", "type", "param", "code"]
    assert (document["error"]["type"], document["error"]["code"]) == ("invalid_request_error", "invalid_api_key")
    return document["error"]["message"]


def _hostile_values() -> list[str]:
    """A1: five hundred, the hand-made ones under every scheme and random bytes from a fixed seed."""
    values = [scheme + value for value in _HOSTILE for scheme in _SCHEMES]
    dice = random.Random(20261122)
    while len(values) < 500:
        body = "".join(chr(dice.randrange(1, 256)) for _ in range(dice.randrange(1, 300)))
        values.append(dice.choice(_SCHEMES) + body)
    return values


def test_it_lets_a_valid_key_in(api_key: IssuedKey) -> None:
    for value in (f"Bearer {api_key.raw}", f"bearer {api_key.raw}", f"Bearer   {api_key.raw} "):
        response = _ask(HTTP_AUTHORIZATION=value)
        assert (response.status_code, response.content.decode()) == (200, api_key.row.public_id)


def test_it_refuses_500_hostile_values_without_a_query(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a malformed key reached the database")

    monkeypatch.setattr(keys.sql, "row", refuse)
    values = _hostile_values()
    assert len(values) >= 500
    for value in values:
        message = _refusal(_ask(HTTP_AUTHORIZATION=value))
        assert len(message) < 300


def test_it_sends_the_database_nothing_of_the_key_but_its_hash(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(keys.sql, "row", lambda *call: sent.append(call))
    raw = "pxp_0123456789ab." + "S3cret-_" * 5 + "abc"
    _refusal(_ask(HTTP_AUTHORIZATION=f"Bearer {raw}"))
    [(statement, parameters)] = sent
    assert "%(secret_hash)s" in statement
    assert list(parameters) == ["secret_hash"]
    assert len(parameters["secret_hash"]) == 32
    assert "S3cret" not in repr(sent)


def test_it_never_repeats_what_was_sent(api_key: IssuedKey) -> None:
    keys.revoke(api_key.row)
    secret = api_key.raw.partition(".")[2]
    for value in (f"Bearer {api_key.raw}", f"Basic {api_key.raw}", f"Bearer {api_key.raw}x", f"Bearer pxp_{secret}"):
        assert secret not in _refusal(_ask(HTTP_AUTHORIZATION=value))


def test_it_says_what_is_wrong_in_openais_words(api_key: IssuedKey) -> None:
    """LiteLLM takes a 401 for a bad request unless its message says this."""
    unknown = "pxp_000000000000." + "A" * 43
    keys.revoke(api_key.row)
    for raw in (unknown, api_key.raw, "sk-proj-1234"):
        assert _refusal(_ask(HTTP_AUTHORIZATION=f"Bearer {raw}")).startswith("Incorrect API key provided")


def test_it_says_what_is_missing(db: None) -> None:
    assert "No API key" in _refusal(_ask())
    assert "Bearer" in _refusal(_ask())
    assert "holds no API key" in _refusal(_ask(HTTP_AUTHORIZATION="Bearer "))
    assert "Bearer scheme" in _refusal(_ask(HTTP_AUTHORIZATION="Basic YTpi"))


@pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "HTTP_API_KEY", "HTTP_X_AUTH_TOKEN"])
def test_it_reads_no_other_header(api_key: IssuedKey, header: str) -> None:
    assert "is not read" in _refusal(_ask(**{header: api_key.raw}))
    assert "is not read" in _refusal(_ask(**{header: ""}))


@pytest.mark.parametrize("header", ["HTTP_X_API_KEY", "HTTP_API_KEY"])
def test_it_refuses_two_credentials_even_when_both_are_good(api_key: IssuedKey, header: str) -> None:
    assert "Two credentials" in _refusal(_ask(HTTP_AUTHORIZATION=f"Bearer {api_key.raw}", **{header: api_key.raw}))
    doubled = f"Bearer {api_key.raw},Bearer {api_key.raw}"
    assert "Two credentials" in _refusal(_ask(HTTP_AUTHORIZATION=doubled))


@pytest.mark.parametrize("name", ["api_key", "api-key", "apikey", "API_KEY", "x-api-key", "access_token"])
def test_it_refuses_a_key_in_the_address(api_key: IssuedKey, name: str) -> None:
    for path in (f"/v1/probe?{name}={api_key.raw}", f"/v1/probe?a=1&{name}=x"):
        assert "logs" in _refusal(_ask(path))
        assert "logs" in _refusal(_ask(path, HTTP_AUTHORIZATION=f"Bearer {api_key.raw}"))


def test_it_leaves_other_query_parameters_alone(api_key: IssuedKey) -> None:
    response = _ask("/v1/probe?key_id=1&limit=2&q=api_key%3Dx", HTTP_AUTHORIZATION=f"Bearer {api_key.raw}")
    assert response.status_code == 200


def test_it_takes_no_cookie_for_a_key(api_key: IssuedKey) -> None:
    assert "No API key" in _refusal(_ask(HTTP_COOKIE=f"Authorization=Bearer {api_key.raw}; api_key={api_key.raw}"))


@pytest.mark.parametrize("path", ["/v1/balance", "/v1/requests", "/openai/v1/images/generations"])
def test_it_guards_the_real_routes(client: Any, db: None, path: str) -> None:
    for value in ("Bearer ' OR 1=1", "Basic x", "Bearer é", "Bearer " + "x" * 5_000):
        _refusal(client.generic("POST" if "images" in path else "GET", path, headers={"Authorization": value}))
