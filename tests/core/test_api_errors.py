"""Under the API's two roots every error is JSON in OpenAI's shape, also what no view of ours has seen."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from core import errors
from tests.envelope import assert_refused
from tests.people import IssuedKey


@pytest.fixture
def caller(api_key: IssuedKey) -> Client:
    return Client(raise_request_exception=False, headers=api_key.headers)


@pytest.mark.parametrize("path", ["/v1/balance/", "/v1/keys/", "/v1/requests/"])
def test_it_redirects_nobody_for_a_slash(client: Client, path: str) -> None:
    assert_refused(client.get(path), 404, "not_found")
    assert_refused(client.post(path, {}, content_type="application/json"), 404, "not_found")


@pytest.mark.parametrize("path", ["//v1/models", "//openai/v1/models", "/openai//v1/models", "/openai/v1//models"])
def test_a_slash_too_much_is_a_missing_route_in_json(caller: Client, path: str) -> None:
    """As a base URL with a slash at its end makes it; programs read no pages."""
    assert_refused(caller.get("/", PATH_INFO=path), 404, "not_found", says="/openai/v1")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/images/generations", "POST"),
        ("PUT", "/openai/v1/images/edits", "POST"),
        ("DELETE", "/v1/models", "GET, HEAD"),
        ("OPTIONS", "/v1/models", "GET, HEAD"),
        ("TRACE", "/v1/balance", "GET, HEAD"),
        ("NONSENSE", "/v1/balance", "GET, HEAD"),
    ],
)
def test_it_says_which_methods_there_are(caller: Client, method: str, path: str, allowed: str) -> None:
    answer = caller.generic(method, path)
    assert_refused(answer, 405, "method_not_allowed", says=f"takes {allowed}, not {method}")
    assert answer.headers["Allow"] == allowed


def test_it_refuses_thousands_of_parameters(caller: Client) -> None:
    query = "&".join(f"p{number}=1" for number in range(2000))
    assert_refused(caller.get(f"/v1/requests?{query}"), 400, "invalid_value", says="too many parameters")


@pytest.mark.parametrize("kind", [errors.Overloaded, errors.NotConfigured, errors.TooManyRequests])
def test_it_always_says_when_to_come_again(kind: Any) -> None:
    assert 1 <= int(kind("Not just now.").headers()["Retry-After"]) < 60
    assert kind("Not just now.", retry_after_s=3).headers()["Retry-After"] == "3"
