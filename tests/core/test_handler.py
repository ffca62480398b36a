"""core.handler: requests whose head is odd are answered like any other."""

from __future__ import annotations

import io
from typing import Any

import pytest

from core import handler


def request(content_type: str) -> handler.Request:
    environ: dict[str, Any] = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/keys", "wsgi.input": io.BytesIO()}
    return handler.Request({**environ, "CONTENT_TYPE": content_type})


@pytest.mark.parametrize("parameter", ["charset*=sausages''utf-8", "boundary*=sausages''x", "x*=idna''%ff"])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data"])
def test_it_reads_a_type_without_the_parameters_that_nobody_can_read(kind: str, parameter: str) -> None:
    found = request(f"{kind}; {parameter}")
    assert (found.content_type, found.content_params) == (kind, {})
    assert found.META["CONTENT_TYPE"] == kind  # where forms look for their boundary once more


def test_it_keeps_the_parameters_that_can_be_read() -> None:
    found = request("multipart/form-data; boundary*=utf-8''a%20b")
    assert (found.content_type, found.content_params) == ("multipart/form-data", {"boundary": "a b"})
