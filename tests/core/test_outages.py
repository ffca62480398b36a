"""core.outages: what counts as a database that cannot serve, however it is wrapped, and what is said about it."""

from __future__ import annotations

import re
from typing import Any, cast

import psycopg
import pytest
from django.core.handlers.base import BaseHandler
from django.db import DatabaseError, IntegrityError, OperationalError, ProgrammingError
from django.test import Client
from procrastinate.exceptions import ConnectorException
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg_pool import PoolTimeout
from structlog.testing import capture_logs

from core import api, libpq, outages

FULL = psycopg.errors.DiskFull(
    'could not extend file "base/1/2": No space left on device\nHINT:  Check free disk space.'
)


def wrapped(outer: Exception, inner: Exception) -> Exception:
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("gone"),
        FULL,
        PoolTimeout("no connection"),
        wrapped(DatabaseError("read-only"), psycopg.errors.ReadOnlySqlTransaction("cannot execute INSERT")),
        wrapped(ConnectorException(), OperationalError("gone")),
        wrapped(ConnectorException(), wrapped(DatabaseError("full"), FULL)),
    ],
)
def test_it_is_told_as_a_503_with_one_line(error: Exception) -> None:
    with capture_logs() as lines:
        answer = api.exception_handler(error, {})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    (line,) = lines
    assert line["event"] == "the database cannot serve"
    assert "exc_info" not in line
    assert "\n" not in line["reason"]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a mistake"),
        ProgrammingError("no such table"),
        wrapped(IntegrityError("twice"), psycopg.errors.UniqueViolation("twice")),
        wrapped(DatabaseError("odd"), psycopg.errors.NoActiveSqlTransaction("odd")),
        ConnectorException(),
    ],
)
def test_mistakes_of_ours_stay_mistakes(error: Exception) -> None:
    with capture_logs() as lines:
        answer = api.exception_handler(error, {})
    assert answer.status_code == 500
    assert [line["exc_info"] for line in lines] == [error]


def test_the_reason_is_the_databases_own_first_line() -> None:
    assert (
        outages.reason(wrapped(ConnectorException(), FULL))
        == 'could not extend file "base/1/2": No space left on device'
    )
    assert len(outages.reason(OperationalError("x" * 1000))) == 200
    assert outages.reason(OperationalError()) == "OperationalError"


class Result:
    """What the driver makes up itself when a server dies under a statement: an error without a code."""

    status = ExecStatus.FATAL_ERROR

    def error_field(self, field: DiagnosticField) -> bytes | None:
        return None if field == DiagnosticField.SQLSTATE else b"server closed the connection unexpectedly"


def test_a_server_that_dies_under_a_statement_has_gone() -> None:
    server = cast(Any, type("Connection", (), {"status": ConnStatus.OK}))
    with pytest.raises(psycopg.OperationalError, match="closed the connection"):
        libpq.checked(Result(), server)


def test_what_django_itself_refuses_with_503_stays_one(
    client: Client, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that fails outside of a view, under the API's roots."""

    def refuse(*_: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(BaseHandler, "resolve_request", refuse)
    client.raise_request_exception = False
    with capture_logs():
        answer = client.get("/v1/balance")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "overloaded"
    assert re.fullmatch("[0-9]+", answer.headers["Retry-After"])
