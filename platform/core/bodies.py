"""Bodies sent in chunks: read whole, with a limit, before Django, which only knows bodies of a declared length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import orjson
import structlog

from core import errors

log = structlog.get_logger(__name__)

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

_IN_MEMORY_BYTES = 256 * 1024
_STEP_BYTES = 64 * 1024


def measured(application: Application, *, max_bytes: Callable[[str], int]) -> Application:
    """The same application, to which a chunked body looks like any other.

    `max_bytes` says for a path how much is read. Of a body above it one byte more is handed on, so that whoever reads
    it refuses it as too large.
    """

    def wrapped(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "chunked" not in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
            return application(environ, start_response)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as body:
            try:
                size_bytes = _copy(environ["wsgi.input"], body, max_bytes(environ.get("PATH_INFO", "")) + 1)
            except _NoRoom as error:
                log.error("a body found no room in the folder for temporary files", reason=str(error))
                return _refused(start_response)
            body.seek(0)
            del environ["HTTP_TRANSFER_ENCODING"]
            environ.update({"wsgi.input": body, "CONTENT_LENGTH": str(size_bytes)})
            return application(environ, start_response)

    return wrapped


class _NoRoom(Exception):
    """What arrives can be kept no longer. An OSError of its source is another matter: the caller has gone."""


def _refused(start_response: Any) -> Iterable[bytes]:
    error = errors.StorageUnavailable("The body cannot be taken in just now. Try again shortly.")
    body = orjson.dumps(error.envelope())
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        **error.headers(),
    }
    start_response(f"{error.status} Service Unavailable", list(headers.items()))
    return [body]


def _copy(source: Any, target: BinaryIO | Any, most_bytes: int) -> int:
    size_bytes = 0
    while size_bytes < most_bytes and (part := source.read(min(_STEP_BYTES, most_bytes - size_bytes))):
        try:
            target.write(part)
        except OSError as error:
            raise _NoRoom(str(error)) from error
        size_bytes += len(part)
    return size_bytes
