"""Statements as libpq takes them: prepared once for each connection, values apart from the words, rows as they come.

A cursor's conversions, generators and bookkeeping cost several times what a statement of a paid request costs the
server.
"""

from __future__ import annotations

import datetime as dt
import functools
import re
import select
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus

Row = tuple[Any, ...]

# A second request with an idempotency key waits for the first under the balance's lock, and the first, settling, waits
# for the balance. The server ends one of the two.
_DEADLOCKS_MAX = 3
_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
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


@functools.lru_cache(maxsize=256)
def _compiled(statement: str) -> tuple[bytes, bytes, tuple[str, ...]]:
    """A name for the statement, its text with numbered parameters, and their names in order."""
    names: dict[str, int] = {}

    def number(match: re.Match[str]) -> str:
        return f"${names.setdefault(match[1], len(names) + 1)}"

    text = _PARAMETER.sub(number, statement).encode()
    return b"px%x" % (hash(statement) & 0xFFFFFFFFFFFFFFFF), text, tuple(names)


class Bound(NamedTuple):
    """A statement with its values, as they travel."""

    name: bytes
    text: bytes
    values: list[bytes | None]


def bind(statement: str, parameters: Mapping[str, Any]) -> Bound:
    """`%(name)s` is a parameter. Raises KeyError for one that is missing, TypeError for one that cannot travel."""
    name, text, names = _compiled(statement)
    values = [
        # The two that most parameters are, without a call for each.
        None if value is None else value.encode() if type(value) is str else _WRITERS[type(value)](value)
        for value in map(parameters.__getitem__, names)
    ]
    return Bound(name, text, values)


def run(raw: Any, bound: Bound) -> Row | None:
    """The first row, if any. Where this is a transaction of its own, a deadlock's victim did nothing and runs again."""
    for _ in range(_DEADLOCKS_MAX):
        try:
            return _run_once(raw, bound)
        except psycopg.errors.DeadlockDetected:
            if raw.pgconn.transaction_status != TransactionStatus.IDLE:
                raise
    return _run_once(raw, bound)


def _run_once(raw: Any, bound: Bound) -> Row | None:
    server = raw.pgconn
    if not raw.autocommit and server.transaction_status == TransactionStatus.IDLE:
        # Inside atomic() the driver begins with the first statement it sees; it does not see ours.
        checked(server.exec_(b"BEGIN"), server)
    _prepare(raw, bound)
    return _row(checked(server.exec_prepared(bound.name, bound.values), server))


def _prepare(raw: Any, bound: Bound) -> None:
    known: set[bytes] = raw.__dict__.setdefault("_prepared_by_us", set())
    if bound.name not in known:
        checked(raw.pgconn.prepare(bound.name, bound.text), raw.pgconn)
        known.add(bound.name)


def run_together(raw: Any, several: Sequence[Bound]) -> list[Row | None] | None:
    """Run them in one transaction and one round trip; None when one of them failed, and so none was done.

    Raises a database error when nobody knows; then the connection is closed.
    """
    server = raw.pgconn
    for bound in several:
        _prepare(raw, bound)
    try:
        server.enter_pipeline_mode()
        for bound in several:
            server.send_query_prepared(bound.name, bound.values)
        server.pipeline_sync()
        results = _results(server)
        server.exit_pipeline_mode()
    except BaseException:
        raw.close()
        raise
    if any(result.status not in _DONE for result in results):
        return None
    return [_row(result) for result in results]


def _results(server: Any) -> list[Any]:
    """All up to the commit, which is itself among them when it failed. Waits without the interpreter's lock."""
    waiting = select.poll()
    waiting.register(server.socket, select.POLLIN)
    results: list[Any] = []
    while True:
        while server.is_busy():
            waiting.poll()
            server.consume_input()
        result = server.get_result()
        if server.status == ConnStatus.BAD:
            raise psycopg.OperationalError("the database closed the connection")
        if result is None:  # the end of one statement's results
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            return results
        results.append(result)


def checked(result: Any, server: Any) -> Any:
    """The result, unless it is an error, which is raised."""
    if result.status not in _DONE:
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


def _row(result: Any) -> Row | None:
    if result.status != ExecStatus.TUPLES_OK or result.ntuples == 0:
        return None
    return tuple([_read(result, column) for column in range(result.nfields)])


def _read(result: Any, column: int) -> Any:
    value = result.get_value(0, column)
    if value is None:
        return None
    text = value.decode()
    reader = _READERS.get(result.ftype(column))
    return reader(text) if reader else text
