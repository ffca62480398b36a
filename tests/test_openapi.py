"""The OpenAPI document says what the product does: every operation, every error code, shapes and examples that hold."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import path
from drf_spectacular.validation import validate_schema
from jsonschema.validators import Draft202012Validator

from accounts.api import ApiView
from core import errors, openapi
from core.openapi import Fault
from imagesapi import inputs, request_schemas
from tests import sources, test_docs
from tests.sources import ROOT

SNAPSHOT = ROOT / "docs" / "openapi.json"
METHODS = ("get", "post", "put", "patch", "delete")
# Classes that are raised with another code.
NEVER_ALONE = {(410, "gone"), (403, "permission_denied")}
# What no operation answers by itself: the other methods of each path do, and the playground to visitors without a key.
ELSEWHERE = {
    Fault(errors.MethodNotAllowed, "method_not_allowed"),
    *Fault.of(errors.PlaygroundClosed),
    *Fault.of(errors.MalformedHttp),  # which no operation has seen
}


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    paths = openapi.document()["paths"]
    return [(path, method, paths[path][method]) for path in paths for method in METHODS if method in paths[path]]


def test_every_operation_is_described() -> None:
    assert openapi.undescribed() == []
    found = {(path, method.upper()) for path, method, _ in operations()}
    assert len(found) == len(list(openapi.endpoints())) > 40


def test_it_names_exactly_what_is_missing() -> None:
    class Leak(ApiView):
        def get(self, request: Any) -> None: ...

    assert path("v1/leak", Leak.as_view())
    assert openapi.described(Leak, "GET") is None
    complaint = openapi.complaint("/v1/leak", "GET", Leak)
    assert complaint.startswith("GET /v1/leak (tests.test_openapi.Leak) is not in the OpenAPI document: describe it in")
    assert "openapi.describe(Leak, get=openapi.Operation(...))" in complaint


def test_the_snapshot_is_what_is_served() -> None:
    assert SNAPSHOT.read_bytes() == openapi.pretty(), "run `make schema` and look at what changed"
    assert SNAPSHOT.stat().st_size < 400_000


def test_it_says_where_it_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"openapi\.json cannot be written: No such file or directory"):
        call_command("write_openapi", tmp_path / "missing" / "openapi.json")


def test_it_is_valid_openapi() -> None:
    document = openapi.document()
    assert document["openapi"].startswith("3.1.")
    validate_schema(document)
    for schema in document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))


def test_each_operation_names_the_scope_that_its_view_asks_for() -> None:
    views = {(path, method.lower()): view for path, method, view in openapi.endpoints()}
    by_outside = {
        openapi.Generator().coerce_path(path, method.upper(), view()): (path, method)
        for (path, method), view in views.items()
    }
    for outside, method, operation in operations():
        view = views[by_outside[outside][0], method]
        assert isinstance(view, type) and issubclass(view, ApiView)
        assert operation["security"][-1] == {"ApiKey": [view.scope] if view.scope else []}, outside


def codes_raised() -> set[tuple[int, str]]:
    """Every error that the product raises, as status and code, from its source."""
    kinds = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    found = {(kind.status, kind.code) for kind in kinds.values() if issubclass(kind, errors.PixelparError)}
    for module in sources.product():
        for call, name in sources.calls(module):
            kind = kinds.get(name.rpartition(".")[2])
            if kind is None or not issubclass(kind, errors.PixelparError):
                continue
            for keyword in call.keywords:
                if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                    found.add((kind.status, str(keyword.value.value)))
    return found - NEVER_ALONE


def codes_described() -> set[tuple[int, str]]:
    found = set(openapi.ANYWHERE)
    found |= set(Fault.of(errors.InvalidApiKey))
    found |= set(Fault.of(errors.PermissionDenied, "organization_suspended", "insufficient_scope"))
    for operation in openapi._operations.values():
        found |= set(operation.faults)
    return {(fault.kind.status, fault.code) for fault in found | ELSEWHERE}


def test_every_error_that_is_raised_is_in_the_document_and_no_other() -> None:
    openapi.document()
    described = codes_described() - {(400, openapi.OF_A_PROVIDER)}
    assert codes_raised() - described == set(), "name it among the faults of the operation that raises it"
    assert {code for _, code in described} <= test_docs.codes_raised()


def test_it_describes_every_parameter_that_is_read_and_no_other() -> None:
    schemas = openapi.document()["components"]["schemas"]
    takes = {name: set(schemas[name]["properties"]) for name in ("GenerationToMake", "EditToMake", "VariationToMake")}
    assert takes["GenerationToMake"] == inputs.KNOWN - set(inputs.EDIT_ONLY)
    assert takes["EditToMake"] == inputs.KNOWN - {"image[]"}
    assert takes["VariationToMake"] == inputs.VARIATION_ALLOWED | {"images", "image_url"}
    assert set(schemas["EditForm"]["properties"]) >= {"image", "mask", "markup", "prompt"}


def test_its_examples_fit_its_schemas() -> None:
    document = openapi.document()
    for _, _, operation in operations():
        for media in operation.get("requestBody", {}).get("content", {}).values():
            for shown in media.get("examples", {}).values():
                jsonschema.validate(shown["value"], {**media["schema"], "components": document["components"]})
        for status in ("200", "201"):
            for media in operation["responses"].get(status, {}).get("content", {}).values():
                if "example" in media:
                    jsonschema.validate(media["example"], {**media["schema"], "components": document["components"]})


def test_it_is_served_to_anybody_and_kept_by_caches(client: Client) -> None:
    """Without asking the database: a test that names none may not."""
    answer = client.get("/openapi.json", headers={"Origin": "https://editor.example"})
    assert answer.json() == openapi.document()
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/openapi.json", headers={"If-None-Match": '"another"'}).status_code == 200
    assert client.post("/openapi.json").status_code == 405


def test_its_page_needs_nothing_from_elsewhere(client: Client, db: None) -> None:
    answer = client.get("/docs/api")
    text = answer.content.decode()
    assert 'data-document="/openapi.json"' in text
    assert "'unsafe-inline'" not in answer.headers["Content-Security-Policy"]
    assert "<style" not in text and " style=" not in text and "<script>" not in text
    for name in ("drf_spectacular_sidecar/swagger-ui-dist/swagger-ui-bundle.js", "ui/api_reference.js"):
        assert f"/static/{name}" in text
        file = client.get(f"/static/{name}")
        assert file.status_code == 200
        file.close()


def test_a_multipart_body_is_described_beside_json() -> None:
    for route, method, operation in operations():
        if route.endswith(("/images/edits", "/images/variations")) and method == "post":
            assert set(operation["requestBody"]["content"]) == {request_schemas.FORM, openapi.JSON}
