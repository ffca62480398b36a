"""Hand-written statements where every round trip counts: prepared once, one trip, connection given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.postgresql.base import DatabaseWrapper


def row(statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Run one statement and return its first row; outside a transaction the connection goes back to the pool at once.

    Values travel apart from the statement, so the server keeps its plan. Raises Django's database errors.
    """
    wrapper = cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])
    if wrapper.connection is not None:  # inside a transaction, or where the ORM has just been at work
        try:
            with wrapper.wrap_database_errors:
                return _run(wrapper.connection, statement, parameters)
        finally:
            give_back()
    with wrapper.wrap_database_errors:
        pool = wrapper.pool
        pool.open()
        # Straight from the pool: setting up Django's wrapper around it costs as much as a small statement.
        borrowed = pool.getconn()
        try:
            return _run(borrowed, statement, parameters)
        finally:
            pool.putconn(borrowed)


def _run(raw: Any, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    with psycopg.Cursor(raw) as cursor:
        cursor.execute(statement, parameters, prepare=True)
        return cursor.fetchone() if cursor.description else None


def end_pool() -> None:
    """Close this process's connections; the next use opens new ones."""
    connection.close()
    cast(DatabaseWrapper, connection).close_pool()


def give_back() -> None:
    """Return this thread's connection to the pool, unless a transaction is open on it."""
    if not connection.in_atomic_block:
        connection.close()
