"""What nobody reads: in the query our own routes refuse it, OpenAI's read past it as OpenAI does; and in `Prefer`."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from accounts import scopes
from accounts.models import Organization
from imagesapi import request_schemas
from tests import people
from tests.envelope import assert_refused
from tests.imagesapi.conftest import Caller

REQUEST = "/v1/requests/req_01arz3ndektsv4rrffq69g5fav"
OURS = [
    ("GET", REQUEST),
    ("HEAD", REQUEST),
    ("DELETE", REQUEST),
    ("GET", f"{REQUEST}/receipt"),
    ("DELETE", f"{REQUEST}/payloads"),
    ("GET", "/v1/images/img_01arz3ndektsv4rrffq69g5fav"),
    ("DELETE", "/v1/images/img_01arz3ndektsv4rrffq69g5fav"),
    ("GET", "/v1/balance"),
    ("GET", "/v1/usage"),
    ("GET", "/v1/statements"),
    ("POST", "/v1/keys"),
    ("GET", "/v1/keys/abcdefghijkl"),
    ("PATCH", "/v1/keys/abcdefghijkl"),
    ("DELETE", "/v1/keys/abcdefghijkl"),
    ("DELETE", "/v1/provider-keys/pky_01arz3ndektsv4rrffq69g5fav"),
    ("PATCH", "/v1/webhooks/whk_01arz3ndektsv4rrffq69g5fav"),
    ("POST", "/v1/webhooks/whk_01arz3ndektsv4rrffq69g5fav/secret"),
]
pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("method", "path"), OURS)
def test_our_own_routes_refuse_what_nobody_reads(organization: Organization, method: str, path: str) -> None:
    """Before anything is looked for: it is the same for what exists, what does not, and what is another's."""
    key = people.issue(organization, scopes=list(scopes.ALL))
    answer = Client(headers=key.headers).generic(method, f"{path}?expand=images", content_type="application/json")
    if method == "HEAD":
        assert (answer.status_code, answer.content) == (400, b"")
        return
    assert_refused(answer, 400, "unknown_parameter", param="expand", says="This route takes")


def test_who_asks_comes_first(client: Client) -> None:
    answer = client.get("/v1/balance?expand=held", headers={"Authorization": "Bearer pxp_abcdefghijkl.wrong"})
    assert_refused(answer, 401, "invalid_api_key")


def test_a_method_that_is_not_there_stays_that(caller: Caller) -> None:
    for method in ("PUT", "OPTIONS"):
        answer = caller.client.generic(method, "/v1/balance?expand=held")
        assert_refused(answer, 405, "method_not_allowed", says="GET")


@pytest.mark.parametrize("path", ["/openai/v1/models", "/openai/v1/models/mock-image", "/v1/models"])
def test_openais_routes_read_past_it(caller: Caller, path: str) -> None:
    assert caller.client.get(f"{path}?api-version=2025-04-01-preview").status_code == 200


def test_a_creating_route_reads_past_what_other_gateways_send(caller: Caller) -> None:
    path = "/openai/v1/images/generations?api-version=2025-04-01-preview"
    answer = caller.send({"model": "mock-image", "prompt": "a red fox", "size": "16x16"}, path=path)
    assert answer.status_code == 200, answer.content


@pytest.mark.parametrize("value", ["", "wait=5, handling=lenient", "0L\t&DH761", "gr\u00fcn", "respond-later"])
def test_it_passes_over_other_preferences(caller: Caller, value: str) -> None:
    """RFC 7240: whoever does not know a preference ignores it; and the document allows what is taken."""
    [prefer] = [parameter for parameter in request_schemas.PARAMETERS if parameter.name == "Prefer"]
    assert re.search(prefer.schema["pattern"], value)
    answer = caller.send({"model": "mock-image", "prompt": "a red fox", "size": "16x16"}, headers={"Prefer": value})
    assert answer.status_code == 200, answer.content
    assert "Preference-Applied" not in answer.headers
