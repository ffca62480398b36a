"""Hand-written statements where every round trip counts: prepared once, one trip, connection given back.

They go to libpq directly. A cursor's conversions, generators and bookkeeping cost several times what such a statement
costs the server, and these run three times for every paid request.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import psycopg
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, connections, transaction
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus

from core import errors
from core.lanes import Lanes

# A second request with an idempotency key waits for the first under the balance's lock, and the first, settling, waits
# for the balance. The server ends one of the two.
_DEADLOCKS_MAX = 3
_PARAMETER = re.compile(r"%\((\w+)\)s")
# Results come as text; what is not listed stays text. By the type's number in the server's catalogue.
_READERS: dict[int, Callable[[str], Any]] = {
    16: lambda text: text == "t",
    17: lambda text: bytes.fromhex(text.removeprefix("\\x")),
    20: int,
    21: int,
    23: int,
    1184: dt.datetime.fromisoformat,
    2950: uuid.UUID,
}


def row(statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Run one statement with `%(name)s` parameters and return its first row, if any.

    Outside a transaction it is on the disk when this returns, and the connection goes back to the pool at once. Values
    travel apart from the statement; where the server cannot infer a parameter's type, the statement says it. Raises
    Django's database errors; then it may have been committed, as with every commit whose answer is lost.
    """
    wrapper = cast(DatabaseWrapper, connections[DEFAULT_DB_ALIAS])
    if wrapper.connection is not None:  # inside a transaction, or where the ORM has just been at work
        try:
            with wrapper.wrap_database_errors:
                return _run(wrapper.connection, statement, parameters)
        finally:
            give_back()
    with wrapper.wrap_database_errors:
        # Past Django's wrapper: setting it up around a connection costs as much as a small statement.
        pool_lanes = _lanes_of(wrapper.pool)
        lane = pool_lanes.take()
        try:
            found = _run(lane.raw, statement, parameters)
        except BaseException:
            pool_lanes.drop(lane)
            raise
        pool_lanes.give_back(lane)
        return found


_lanes: Lanes | None = None
_lanes_lock = threading.Lock()


def _lanes_of(pool: Any) -> Lanes:
    global _lanes
    found = _lanes
    if found is None or found.pool is not pool:
        with _lanes_lock:
            found = _lanes
            if found is None or found.pool is not pool:
                if found is not None:
                    found.close()
                pool.open()
                found = _lanes = Lanes(pool)
    return found


@functools.lru_cache(maxsize=256)
def _compiled(statement: str) -> tuple[bytes, bytes, tuple[str, ...]]:
    """A name for the statement, its text with numbered parameters, and their names in order."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    text = _PARAMETER.sub(number, statement).encode()
    return b"px%x" % (hash(statement) & 0xFFFFFFFFFFFFFFFF), text, tuple(names)


def _run(raw: Any, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Where the statement is a transaction of its own, a deadlock's victim did nothing: it simply runs again."""
    for _ in range(_DEADLOCKS_MAX):
        try:
            return _run_once(raw, statement, parameters)
        except psycopg.errors.DeadlockDetected:
            if raw.pgconn.transaction_status != TransactionStatus.IDLE:
                raise
    return _run_once(raw, statement, parameters)


def _run_once(raw: Any, statement: str, parameters: Mapping[str, Any]) -> tuple[Any, ...] | None:
    name, text, names = _compiled(statement)
    server = raw.pgconn
    if not raw.autocommit and server.transaction_status == TransactionStatus.IDLE:
        # Inside atomic() the driver begins with the first statement it sees; it does not see ours.
        _checked(server.exec_(b"BEGIN"), server)
    known: set[bytes] = raw.__dict__.setdefault("_prepared_by_us", set())
    if name not in known:
        _checked(server.prepare(name, text), server)
        known.add(name)
    values = [
        # The two that most parameters are, without a call for each.
        None if value is None else value.encode() if type(value) is str else _WRITERS[type(value)](value)
        for value in map(parameters.__getitem__, names)
    ]
    result = _checked(server.exec_prepared(name, values), server)
    if result.status != ExecStatus.TUPLES_OK or result.ntuples == 0:
        return None
    return tuple([_read(result, column) for column in range(result.nfields)])


def _checked(result: Any, server: Any) -> Any:
    if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
        # No word of the server's own, only the driver's: it has gone.
        if server.status == ConnStatus.BAD or result.error_field(DiagnosticField.SQLSTATE) is None:
            raise psycopg.OperationalError("the database closed the connection")
        raise psycopg.errors.error_from_result(result, encoding="utf-8")
    return result


class _Writers(dict[type, Callable[[Any], bytes]]):
    """How a value travels, by its type: a statement has some twenty of them."""

    def __missing__(self, kind: type) -> Callable[[Any], bytes]:
        raise TypeError(f"{kind.__name__} is not a statement's parameter")


_WRITERS = _Writers({
    bool: lambda value: b"t" if value else b"f",
    int: lambda value: b"%d" % value,
    bytes: lambda value: b"\\x" + value.hex().encode(),
    dt.datetime: lambda value: value.isoformat().encode(),
    uuid.UUID: lambda value: value.hex.encode(),
})  # fmt: skip


def _read(result: Any, column: int) -> Any:
    value = result.get_value(0, column)
    if value is None:
        return None
    text = value.decode()
    reader = _READERS.get(result.ftype(column))
    return reader(text) if reader else text


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
    global _lanes
    with _lanes_lock:
        found, _lanes = _lanes, None
    if found is not None:
        found.close()
    connection.close()
    cast(DatabaseWrapper, connection).close_pool()


def give_back(**_: Any) -> None:
    """Return this thread's connection to the pool, unless a transaction is open on it. Also a signal's receiver."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    if wrapper.connection is not None and not wrapper.in_atomic_block:
        wrapper.close()
