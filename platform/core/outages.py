"""Whether an error says that the database cannot do its work just now: full, read-only, restarting or gone."""

from __future__ import annotations

from typing import Any

import psycopg
from django.db import InterfaceError, OperationalError
from psycopg_pool import PoolTimeout, TooManyRequests

RETRY_AFTER_S = 5
_REASON_MAX_CHARS = 200
# A full disk is 53100 and thereby operational, like all of the classes 53, 57 and 58. A managed database may be made
# read-only before its disk is full, which the driver takes for the statement's own mistake.
_OUTAGES = (
    OperationalError,
    InterfaceError,
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.ReadOnlySqlTransaction,
    PoolTimeout,
    TooManyRequests,
)


def is_outage(error: BaseException) -> bool:
    """Also of an error that was raised from one, as libraries wrap them."""
    return _cause(error) is not None


def reason(error: BaseException) -> str:
    """What the database said, in one short line for our log; its first line names no value of any row."""
    lines = str(_cause(error) or error).splitlines()
    return lines[0][:_REASON_MAX_CHARS] if lines else type(error).__name__


def tell(log: Any, event: str, error: BaseException, **more: Any) -> None:
    """An error for our log. An outage gets one line without a traceback: while it lasts, every request is told of, and
    what the log is written to may itself be nearly full."""
    if is_outage(error):
        log.error(event, reason=reason(error), **more)
    else:
        log.error(event, exc_info=error, **more)


def _cause(error: BaseException) -> BaseException | None:
    found: BaseException | None = error
    while found is not None and not isinstance(found, _OUTAGES):
        found = found.__cause__
    return found
