"""core.bodies: chunked bodies that find no room on their way in."""

from __future__ import annotations

import errno
import io
import os
import tempfile
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from core import bodies

LARGE = b"x" * (bodies._IN_MEMORY_BYTES + 1)


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()]


def send(body: bytes) -> tuple[str, dict[str, str], bytes]:
    told: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        told.update(status=status, headers=dict(headers))

    environ = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input": io.BytesIO(body), "PATH_INFO": "/"}
    answer = b"".join(bodies.measured(echo, max_bytes=lambda _: 10**9)(environ, start_response))
    return told["status"], told["headers"], answer


def fill_up(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("body", [b"small", LARGE])
def test_it_hands_on_what_has_room(body: bytes) -> None:
    assert send(body) == ("200 OK", {}, body)


def test_a_body_without_room_is_refused_and_one_in_memory_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", fill_up)
    with capture_logs() as lines:
        status, headers, answer = send(LARGE)
    assert status == "503 Service Unavailable"
    assert (headers["Retry-After"], headers["Content-Type"]) == ("5", "application/json")
    assert orjson.loads(answer)["error"]["code"] == "storage_unavailable"
    assert [line["event"] for line in lines] == ["a body found no room in the folder for temporary files"]
    assert send(b"small") == ("200 OK", {}, b"small")
