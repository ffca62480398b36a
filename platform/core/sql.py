"""Hand-written statements for the paths where every round trip counts: prepared once, one trip, connection given back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import psycopg
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper


def row(statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Run one statement and return its first row; outside a transaction the connection goes back to the pool at once.

    Values travel apart from the statement. Raises Django's database errors.
    """
    wrapper: BaseDatabaseWrapper = connection
    try:
        wrapper.ensure_connection()
        with wrapper.wrap_database_errors:
            # Django's own cursors write values into the text on our side; the plain one lets the server keep the plan.
            with psycopg.Cursor(wrapper.connection) as cursor:
                cursor.execute(statement, parameters, prepare=True)
                return cursor.fetchone() if cursor.description else None
    finally:
        give_back()


def give_back() -> None:
    """Return this thread's connection to the pool, unless a transaction is open on it."""
    if not transaction.get_connection().in_atomic_block:
        connection.close()
