"""Hand-written statements where every round trip counts: prepared once, one trip, connection given back.

They go to libpq directly (core/libpq.py), and two of them for every paid request go together with those of others.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper

from core import errors, libpq
from core.group_commit import Entry, GroupCommit, Locks
from core.lanes import Lanes


def row(statement: str, parameters: Mapping[str, Any], *, locks: Locks | None = None) -> libpq.Row | None:
    """Run one statement with `%(name)s` parameters and return its first row, if any.

    Outside a transaction it is on the disk when this returns, and the connection goes back to the pool at once. With
    `locks` it may be committed together with others that wait at the same time; when one of those fails, each runs by
    itself. Values travel apart from the statement; where the server cannot infer a parameter's type, the statement says
    it. Raises Django's database errors; then it may have been committed, as with every commit whose answer is lost.
    """
    wrapper = cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])
    bound = libpq.bind(statement, parameters)
    if wrapper.connection is not None:  # inside a transaction, or where the ORM has just been at work
        try:
            with wrapper.wrap_database_errors:
                return libpq.run(wrapper.connection, bound)
        finally:
            give_back()
    with wrapper.wrap_database_errors:
        # Past Django's wrapper: setting it up around a connection costs as much as a small statement.
        return _ways_of(wrapper.pool).row(bound, locks)


def ask(*, timeout_s: float) -> None:
    """Have the server answer. Raises a database error, or PoolTimeout when no connection was free or made in time."""
    wrapper = cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])
    with wrapper.wrap_database_errors:
        pool = _ways_of(wrapper.pool).pool
        raw = pool.getconn(timeout=timeout_s)
        try:
            libpq.run(raw, libpq.bind("SELECT 1", {}))
        finally:
            pool.putconn(raw)


class _Ways:
    """How statements get to a pool's connections."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.lanes = Lanes(pool)
        self._commits = GroupCommit(self._run, lines_most=max(self.lanes.places - 1, 1))

    def row(self, bound: libpq.Bound, locks: Locks | None) -> libpq.Row | None:
        entry = Entry(bound, locks)
        if locks is not None and locks.come_first:
            self._commits.do(entry, timeout_s=self.pool.timeout)
        else:
            self._run([entry])
        if entry.error is not None:
            raise entry.error
        return entry.found

    def _run(self, batch: Sequence[Entry]) -> None:
        lane = self.lanes.take()
        try:
            _run_all(lane.raw, batch)
        except BaseException:
            self.lanes.drop(lane)
            raise
        if any(entry.error for entry in batch):
            self.lanes.drop(lane)
        else:
            self.lanes.give_back(lane)


def _run_all(raw: Any, batch: Sequence[Entry]) -> None:
    opening = _opening(batch)
    rows = libpq.run_together(raw, [*opening, *(entry.bound for entry in batch)]) if opening else None
    if rows is not None:
        for entry, found in zip(batch, rows[len(opening) :], strict=True):
            entry.found, entry.is_done = found, True
        return
    for entry in batch:  # one alone, or one of them failed: each gets what is its own
        try:
            entry.found = libpq.run(raw, entry.bound)
        except psycopg.Error as error:
            entry.error = error
        entry.is_done = True


def _opening(batch: Sequence[Entry]) -> list[libpq.Bound]:
    """What is locked before a transaction of several statements, or of one that does not begin with its locks."""
    owners: dict[str, set[int]] = {}
    for entry in batch:
        if entry.locks is not None and not (len(batch) == 1 and entry.locks.come_first):
            owners.setdefault(entry.locks.statement, set()).add(entry.locks.owner)
    return [
        libpq.bind(statement, {"owners": "{" + ",".join(map(str, sorted(numbers))) + "}"})
        for statement, numbers in sorted(owners.items())
    ]


_ways: _Ways | None = None
_ways_lock = threading.Lock()


def _ways_of(pool: Any) -> _Ways:
    global _ways
    found = _ways
    if found is None or found.pool is not pool:
        with _ways_lock:
            found = _ways
            if found is None or found.pool is not pool:
                if found is not None:
                    found.lanes.close()
                pool.open()
                found = _ways = _Ways(pool)
    return found


@contextlib.contextmanager
def reading(*, timeout_s: int = 2) -> Iterator[None]:
    """For lists and sums through the ORM or a cursor: what takes the server longer is cut off. Raises Overloaded.

    Whoever may choose what is looked for can otherwise choose a question that keeps the database busy for minutes.
    """
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT set_config('statement_timeout', %s, true)", [f"{timeout_s * 1000}"])
            yield
            if len(connection.savepoint_ids):  # within a longer transaction, which goes on without this limit
                cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
    except OperationalError as error:
        if isinstance(error.__cause__, psycopg.errors.QueryCanceled):
            raise errors.Overloaded(
                f"This would take the database longer than {timeout_s} seconds. Ask for less: a shorter time, "
                "a smaller limit, fewer filters.",
                retry_after_s=5,
            ) from error
        raise


def end_pool() -> None:
    """Close this process's connections; the next use opens new ones."""
    global _ways
    with _ways_lock:
        found, _ways = _ways, None
    if found is not None:
        found.lanes.close()
    connection.close()
    cast(DatabaseWrapper, connection).close_pool()


def give_back(**_: Any) -> None:
    """Return this thread's connection to the pool, unless a transaction is open on it. Also a signal's receiver."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is not None and not wrapper.in_atomic_block:
        wrapper.close()
