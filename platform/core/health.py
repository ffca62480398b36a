"""`/healthz` and `/readyz`: what supervisors and load balancers ask, by whatever name or address they know us.

`/healthz` says that this process answers, and asks nobody else: whoever restarts processes must not do so because the
database is away. `/readyz` says whether it can do its work; while it cannot, requests are better sent elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import orjson
import structlog
from django.http import HttpRequest, HttpResponse

from core import errors, outages, sql

log = structlog.get_logger(__name__)

PATHS = ("/healthz", "/readyz")
_METHODS = ("GET", "HEAD")
# Anybody may ask, as often as they like: what was found serves all who ask within so long.
_FRESH_S = 1.0
_TIMEOUT_S = 2.0
# A server that takes a question and never answers holds up the one who asked it, and nobody else.
_PATIENCE_S = 3.0
_UNAVAILABLE = "unavailable"

Check = Callable[[], object]


class _Readiness:
    """What the checks said the last time. One caller at a time asks them, the others are told what was found before."""

    def __init__(self) -> None:
        self._checks: dict[str, Check] = {}
        self._found: dict[str, str] = {}
        self._looked_at_s = float("-inf")
        self._looking = threading.Lock()
        # Of the look that is going on.
        self._asked = ""
        self._began_at_s = float("inf")

    def register(self, name: str, check: Check) -> None:
        self._checks[name] = check
        self._looked_at_s = float("-inf")

    def look(self) -> dict[str, str]:
        """Each check's name with `ok` or `unavailable`."""
        if time.monotonic() - self._looked_at_s < _FRESH_S:
            return self._found
        if self._looking.acquire(timeout=0 if self._found else _PATIENCE_S):
            try:
                if time.monotonic() - self._looked_at_s >= _FRESH_S:
                    self._look_now()
            finally:
                self._looking.release()
        elif not self._found or time.monotonic() - self._began_at_s >= _PATIENCE_S:
            return {**self._found, self._asked: _UNAVAILABLE}
        return self._found

    def _look_now(self) -> None:
        self._began_at_s = time.monotonic()
        found = {}
        for name, check in self._checks.items():
            self._asked = name
            found[name] = _word(name, check)
        self._found = found
        self._looked_at_s, self._began_at_s = time.monotonic(), float("inf")


def _word(name: str, check: Check) -> str:
    try:
        check()
    except errors.PixelparError as error:
        log.error("not ready", check=name, reason=error.message)
        return _UNAVAILABLE
    except Exception as error:  # noqa: BLE001 - whatever it is, the answer is that we are not ready
        outages.tell(log, "not ready", error, check=name)
        return _UNAVAILABLE
    return "ok"


_readiness = _Readiness()
_readiness.register("database", lambda: sql.ask(timeout_s=_TIMEOUT_S))


def register(name: str, check: Check) -> None:
    """Let another room add what it cannot work without: `check` raises when that is not there, within a second."""
    _readiness.register(name, check)


def answer(request: HttpRequest) -> HttpResponse:
    """The answer to a request for one of PATHS; says nothing that a stranger should not know."""
    if request.method not in _METHODS:
        refusal = errors.MethodNotAllowed(f"{request.method} is not possible here; {' and '.join(_METHODS)} are.")
        return _json(405, refusal.envelope(), Allow=", ".join(_METHODS))
    if request.path_info == "/healthz":
        return _json(200, {"status": "ok"})
    found = _readiness.look()
    if _UNAVAILABLE in found.values():
        return _json(503, {"status": _UNAVAILABLE, "checks": found}, **{"Retry-After": str(outages.RETRY_AFTER_S)})
    return _json(200, {"status": "ok", "checks": found})


def _json(status: int, document: object, **headers: str) -> HttpResponse:
    body = orjson.dumps(document)
    told = {
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **headers,
    }
    return HttpResponse(body, status=status, content_type="application/json", headers=told)
