"""core.sql: statements with locks that wait at the same time are one transaction; each still gets what is its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction

from core import group_commit, sql
from core.group_commit import Locks
from tests import databases

# The lock that the tests' statements begin with, and as an opening for all of them; it writes down for whom.
LOCK = "SELECT together_lock(%(owners)s::bigint[])"
WRITE = """
INSERT INTO together (id, owner, xact) SELECT %(id)s::bigint, %(owner)s::bigint, pg_current_xact_id()::text
WHERE together_lock(ARRAY[%(owner)s::bigint]) RETURNING id, 10 / (id - 3)
"""


@pytest.fixture
def name(committed: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A table that statements write to, each under its owner's lock; nobody goes past what waits for one."""
    monkeypatch.setattr(group_commit, "_PATIENCE_S", 5)
    sql.end_pool()
    name = str(connection.settings_dict["NAME"])
    connection.close()
    with databases.connect(name) as line:
        line.execute("CREATE TABLE together (id bigint PRIMARY KEY, owner bigint, xact text)")
        line.execute("CREATE TABLE together_opened (owners bigint[], xact text)")
        line.execute("GRANT ALL ON together, together_opened TO PUBLIC")
        line.execute(
            "CREATE FUNCTION together_lock(p_owners bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
            "  PERFORM pg_advisory_xact_lock(owner) FROM unnest(p_owners) AS owner;"
            "  INSERT INTO together_opened VALUES (p_owners, pg_current_xact_id()::text);"
            "  RETURN true;"
            "END $$"
        )
    yield name
    sql.end_pool()
    with databases.connect(name) as line:
        line.execute("DROP FUNCTION together_lock(bigint[])")
        line.execute("DROP TABLE together, together_opened")


class Writers:
    """Threads that write a row each: the first waits for its owner's lock, so the others gather behind it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.came_of: dict[int, object] = {}
        self._threads: list[threading.Thread] = []

    def write(self, number: int, *, owner: int = 1, come_first: bool = True) -> None:
        locks = Locks(LOCK, owner, come_first=come_first)

        def work() -> None:
            try:
                self.came_of[number] = sql.row(WRITE, {"id": number, "owner": owner}, locks=locks)
            except DatabaseError as error:
                self.came_of[number] = error

        self._threads.append(threading.Thread(target=work))
        self._threads[-1].start()

    def behind_a_lock(self, *writes: tuple[int, int], meanwhile: Callable[[Any], object] = lambda line: None) -> None:
        """Row 0 waits; meanwhile the others, given as (number, owner), line up behind it."""
        with databases.connect(self.name) as line:
            line.execute("SELECT pg_advisory_lock(1)")
            self.write(0)
            _wait_until(lambda: _waiting_for_locks(line) == 1)
            for count, (number, owner) in enumerate(writes, 1):
                self.write(number, owner=owner)
                _wait_until(lambda count=count: len(_gathered()) == count)  # type: ignore[misc]
            meanwhile(line)
            line.execute("SELECT pg_advisory_unlock(1)")
            self.leave()

    def leave(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def rows(self, question: str) -> list[Any]:
        with databases.connect(self.name) as line:
            return line.execute(question.encode()).fetchall()


def _gathered() -> list[object]:
    assert sql._ways is not None
    return list(sql._ways._commits._waiting)


def _waiting_for_locks(line: Any) -> int:
    (count,) = line.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    ).fetchone()
    return int(count)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_what_waits_is_one_transaction_begun_with_the_locks_of_all(name: str) -> None:
    writers = Writers(name)
    writers.behind_a_lock((1, 7), (2, 1), (4, 5), (5, 7))
    assert writers.came_of == {number: (number, int(10 / (number - 3))) for number in (0, 1, 2, 4, 5)}
    transactions = writers.rows("SELECT array_agg(id ORDER BY id) FROM together GROUP BY xact ORDER BY min(id)")
    assert transactions == [([0],), ([1, 2, 4, 5],)]
    openings = writers.rows("SELECT owners FROM together_opened WHERE cardinality(owners) > 1")
    assert openings == [([1, 5, 7],)]
    # The first was alone: it took its own lock and nothing else before.
    assert writers.rows("SELECT count(*) FROM together_opened") == [(6,)]


@pytest.mark.parametrize("failing", [1, 2])
def test_one_that_fails_fails_alone(name: str, failing: int) -> None:
    writers = Writers(name)
    with databases.connect(name) as line:
        line.execute("INSERT INTO together VALUES (%s, 0, '')", [failing])
    writers.behind_a_lock((1, 1), (2, 1), (3, 1), (4, 1))
    assert isinstance(writers.came_of.pop(failing), IntegrityError)
    by_zero = writers.came_of.pop(3)
    assert isinstance(by_zero, DatabaseError)
    assert "division by zero" in str(by_zero)
    others = {0, 1, 2, 4} - {failing}
    assert writers.came_of == {number: (number, int(10 / (number - 3))) for number in others}
    # Each by itself, once.
    assert writers.rows("SELECT count(*), count(DISTINCT xact) FROM together WHERE owner = 1") == [(3, 3)]


def test_one_that_fails_only_at_the_commit_fails_alone(name: str) -> None:
    with databases.connect(name) as line:
        line.execute("ALTER TABLE together ADD CONSTRAINT late UNIQUE (owner) DEFERRABLE INITIALLY DEFERRED")
    writers = Writers(name)
    writers.behind_a_lock((1, 1), (2, 2), (4, 3))
    assert isinstance(writers.came_of.pop(1), IntegrityError)  # row 0 has its owner
    assert writers.came_of == {0: (0, -3), 2: (2, -10), 4: (4, 10)}
    assert writers.rows("SELECT id FROM together ORDER BY id") == [(0,), (2,), (4,)]


def test_when_the_server_ends_the_connection_everybody_in_it_is_told_and_nothing_is_done(name: str) -> None:
    writers = Writers(name)

    def end_the_second(line: Any) -> None:
        line.execute("SELECT pg_advisory_lock(2)")
        line.execute("SELECT pg_advisory_unlock(1)")
        _wait_until(lambda: 0 in writers.came_of and _waiting_for_locks(line) == 1)
        line.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        line.execute("SELECT pg_advisory_lock(1)")

    writers.behind_a_lock((1, 1), (2, 2), (4, 2), meanwhile=end_the_second)
    assert writers.came_of.pop(0) == (0, -3)
    assert [type(error) for error in writers.came_of.values()] == [OperationalError] * 3
    assert writers.rows("SELECT id FROM together") == [(0,)]
    assert sql.row(WRITE, {"id": 8, "owner": 2}, locks=Locks(LOCK, 2)) == (8, 2)


def test_one_that_begins_without_its_locks_goes_alone_with_them_before_it(name: str) -> None:
    writers = Writers(name)
    with databases.connect(name) as line:
        line.execute("SELECT pg_advisory_lock(1)")
        writers.write(0)
        _wait_until(lambda: _waiting_for_locks(line) == 1)
        writers.write(1, owner=2, come_first=False)
        _wait_until(lambda: 1 in writers.came_of)
        assert 0 not in writers.came_of
        line.execute("SELECT pg_advisory_unlock(1)")
        writers.leave()
    assert writers.rows("SELECT xact, count(*) FROM together_opened WHERE owners = '{2}' GROUP BY 1") == [
        (writers.rows("SELECT xact FROM together WHERE id = 1")[0][0], 2)
    ]


def test_its_error_is_its_own_too(name: str) -> None:
    writers = Writers(name)
    writers.write(3, come_first=False)
    writers.leave()
    assert "division by zero" in str(writers.came_of[3])
    assert writers.rows("SELECT FROM together") == []


def test_what_cannot_travel_is_said_before_anybody_is_joined(name: str) -> None:
    with pytest.raises(TypeError, match="list is not a statement's parameter"):
        sql.row(WRITE, {"id": [], "owner": 1}, locks=Locks(LOCK, 1))


def test_within_a_transaction_it_stays_within(name: str) -> None:
    with transaction.atomic():
        connection.cursor().execute("SELECT 1")
        assert sql.row(WRITE, {"id": 5, "owner": 1}, locks=Locks(LOCK, 1)) == (5, 5)
        transaction.set_rollback(True)
    assert Writers(name).rows("SELECT FROM together") == []
