"""core.sql: statements that the server ends to untie a deadlock, and such that wait for the disk under no lock."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connection, transaction

from core import sql
from tests import databases

_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
BOTH = "UPDATE deadlock SET seen = seen + 1 WHERE id = 1 AND (SELECT locked(2) IS NOT NULL) RETURNING seen"


@pytest.fixture
def rows(committed: None) -> Iterator[str]:
    """A table of two rows, and a function that takes one of them."""
    name = str(connection.settings_dict["NAME"])
    with databases.connect(name) as line:
        line.execute("CREATE TABLE deadlock AS SELECT id, 0 AS seen FROM generate_series(1, 2) id")
        line.execute("GRANT ALL ON deadlock TO PUBLIC")
        line.execute(
            "CREATE FUNCTION locked(p_id int) RETURNS int LANGUAGE sql AS"
            " 'SELECT id FROM deadlock WHERE id = p_id FOR UPDATE'"
        )
    yield name
    with databases.connect(name) as line:
        line.execute("DROP FUNCTION locked(int)")
        line.execute("DROP TABLE deadlock")


def _in_each_others_way(name: str, mine: list[object]) -> None:
    """Take row 1, let the statement take row 2 and wait for row 1, and then ask for row 2 oneself."""
    with databases.connect(name) as line:
        line.execute("SET deadlock_timeout = '20s'")  # the other one notices first
        line.execute("BEGIN")
        line.execute("SELECT FROM deadlock WHERE id = 1 FOR UPDATE")

        def ask() -> None:
            try:
                mine.append(sql.row(BOTH, {}))
            except OperationalError as error:
                mine.append(error)
            finally:
                sql.end_pool()

        other = threading.Thread(target=ask)
        other.start()
        _wait_for_a_waiter(name)
        line.execute("SELECT FROM deadlock WHERE id = 2 FOR UPDATE")
        line.execute("COMMIT")
        other.join(10)


def _wait_for_a_waiter(name: str) -> None:
    with databases.connect(name) as line:
        for _ in range(500):
            found = line.execute(_WAITING).fetchone()
            if found and found[0]:
                return
            time.sleep(0.01)
    pytest.fail("nobody waits for the row")


def test_a_deadlocks_victim_runs_again(rows: str) -> None:
    mine: list[object] = []
    _in_each_others_way(rows, mine)
    assert mine == [(1,)]


def test_within_a_transaction_it_is_the_callers_to_decide(rows: str) -> None:
    with databases.connect(rows) as line:
        line.execute("BEGIN")
        line.execute("SELECT FROM deadlock WHERE id = 1 FOR UPDATE")
        line.execute("SET LOCAL deadlock_timeout = '20s'")
        found: list[object] = []

        def ask() -> None:
            try:
                with transaction.atomic():
                    found.append(sql.row(BOTH, {}))
            except OperationalError as error:
                found.append(type(error.__cause__).__name__)
            finally:
                sql.end_pool()

        other = threading.Thread(target=ask)
        other.start()
        _wait_for_a_waiter(rows)
        line.execute("SELECT FROM deadlock WHERE id = 2 FOR UPDATE")
        line.execute("COMMIT")
        other.join(10)
    assert found == ["DeadlockDetected"]


def test_it_is_part_of_the_transaction_it_is_called_in(rows: str) -> None:
    """Also as its first statement, which the driver does not see."""
    with transaction.atomic():
        sql.row("UPDATE deadlock SET seen = 7 WHERE id = 1 RETURNING seen", {})
        transaction.set_rollback(True)
    assert sql.row("SELECT seen FROM deadlock WHERE id = 1", {}) == (0,)


def test_what_it_returns_is_on_the_disk(rows: str) -> None:
    """Test databases do not wait for the disk: so this one does, as every other."""
    with databases.connect(rows) as line:
        line.execute(f'ALTER DATABASE "{rows}" SET synchronous_commit = on')
    sql.end_pool()
    try:
        for _ in range(20):
            found = sql.row("UPDATE deadlock SET seen = 7 RETURNING pg_current_wal_insert_lsn() AS at", {})
            assert found is not None
            assert sql.row("SELECT pg_current_wal_flush_lsn() >= %(at)s::pg_lsn", {"at": found[0]}) == (True,)
    finally:
        with databases.connect(rows) as line:
            line.execute(f'ALTER DATABASE "{rows}" SET synchronous_commit = off')
        sql.end_pool()
