"""Whoever pastes an example from the OpenAPI document gets an answer, not an error."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts import scopes
from accounts.models import Organization
from tests.people import issue
from tests.test_openapi import operations


def _examples() -> list[Any]:
    return [
        pytest.param(path, method, body["value"], id=f"{operation['operationId']}-{name}")
        for path, method, operation in operations()
        for name, body in operation.get("requestBody", {})
        .get("content", {})
        .get("application/json", {})
        .get("examples", {})
        .items()
    ]


@pytest.mark.parametrize(("path", "method", "body"), _examples())
def test_its_examples_work_as_pasted(
    organization: Organization, no_provider_keys: None, credit: int, path: str, method: str, body: Any
) -> None:
    key = issue(organization, scopes=scopes.ALL)
    sender = Client(headers=key.headers)
    if "{id}" in path:
        path = path.replace("{id}", _id_of(sender, path))
    answer = getattr(sender, method)(path, body, content_type="application/json")
    assert 200 <= answer.status_code < 300, answer.content[:500]


def _id_of(sender: Client, path: str) -> str:
    """An object under that path, made for the example."""
    made = {
        "/v1/keys/{id}": {"name": "example", "scopes": ["keys"]},
        "/v1/budgets/keys/{id}": {"name": "example", "scopes": ["images"]},
        "/v1/webhooks/{id}": {"url": "https://example.com/"},
    }
    home = "/v1/keys" if "/keys/" in path else path.removesuffix("/{id}")
    answer = sender.post(home, made[path], content_type="application/json")
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])
