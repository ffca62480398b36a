"""Lanes: hand-written statements keep to few connections, and give the pool back what it is to end."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest
from django.conf import settings
from django.db import DatabaseError, OperationalError, connection
from django.db.backends.postgresql.base import DatabaseWrapper
from psycopg_pool import PoolTimeout

from core import lanes, sql
from core.lanes import Lanes
from tests import databases

PID = "SELECT pg_backend_pid()"


class Pool:
    """Hands out numbers instead of connections."""

    timeout: float = 0.05

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.given = 0
        self.returned: list[Any] = []
        self.waits_s: list[float] = []

    def getconn(self, *, timeout: float) -> int:
        self.waits_s.append(timeout)
        self.given += 1
        return self.given

    def putconn(self, raw: Any) -> None:
        self.returned.append(raw)


def test_the_connection_that_was_used_last_comes_first() -> None:
    pool = Pool(6)
    found = Lanes(pool)
    first, second = found.take(), found.take()
    found.give_back(first)
    found.give_back(second)
    for _ in range(5):
        lane = found.take()
        assert lane.raw == second.raw
        found.give_back(lane)
    assert (pool.given, pool.returned) == (2, [])


def test_who_finds_none_free_is_told_in_time() -> None:
    found = Lanes(Pool(4))
    lane, *_ = [found.take() for _ in range(lanes._PLACES)]
    with pytest.raises(PoolTimeout):
        found.take()
    found.give_back(lane)
    assert found.take() is lane


@pytest.mark.parametrize(("max_size", "places"), [(1, 1), (2, 1), (3, 2), (4, 3), (9, 3)])
def test_it_leaves_the_pool_something(max_size: int, places: int) -> None:
    found = Lanes(Pool(max_size))
    for _ in range(places):
        found.take()
    with pytest.raises(PoolTimeout):
        found.take()


@pytest.mark.parametrize(("max_size", "kept"), [(2, 0), (3, 1), (4, 1), (5, 2), (6, 2), (9, 2)])
def test_only_some_stay_out_of_the_pool(max_size: int, kept: int) -> None:
    pool = Pool(max_size)
    found = Lanes(pool)
    taken = [found.take() for _ in range(min(lanes._PLACES, max_size - 1))]
    for lane in taken:
        found.give_back(lane)
    assert len(pool.returned) == len(taken) - kept


def test_the_only_connection_of_a_pool_is_never_kept() -> None:
    pool = Pool(1)
    found = Lanes(pool)
    found.give_back(found.take())
    assert pool.returned == [1]


def test_after_an_error_and_after_its_time_a_connection_goes_to_the_pool() -> None:
    pool = Pool(4)
    found = Lanes(pool)
    found.drop(found.take())
    lane = found.take()
    lane.until_s = time.monotonic() - 1
    found.give_back(lane)
    assert pool.returned == [1, 2]
    assert [found.take().raw, found.take().raw] == [3, 4]


def test_what_is_given_back_after_the_end_goes_to_the_pool_too() -> None:
    pool = Pool(4)
    found = Lanes(pool)
    early, late = found.take(), found.take()
    found.give_back(early)
    found.close()
    assert pool.returned == [1]
    found.give_back(late)
    assert pool.returned == [1, 2]


def test_a_server_that_is_not_there_costs_no_place() -> None:
    pool = Pool(4)
    found = Lanes(pool)
    failing = pytest.MonkeyPatch()
    with failing.context() as patch:
        patch.setattr(pool, "getconn", lambda **_: (_ for _ in ()).throw(PoolTimeout("nobody")))
        for _ in range(5):
            with pytest.raises(PoolTimeout, match="nobody"):
                found.take()
    assert [found.take().raw, found.take().raw] == [1, 2]


def test_who_waited_for_a_place_waits_so_much_less_for_a_connection() -> None:
    pool = Pool(2)
    pool.timeout = 10
    found = Lanes(pool)
    lane = found.take()
    threading.Timer(0.2, found.drop, [lane]).start()
    found.take()
    first_s, second_s = pool.waits_s
    assert first_s == pytest.approx(10, abs=0.15)
    assert second_s == pytest.approx(9.8, abs=0.15)


def test_many_threads_share_few_connections(committed: None) -> None:
    sql.end_pool()
    seen: set[Any] = set()

    def ask() -> None:
        for _ in range(20):
            seen.add(sql.row(PID, {}))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    # While somebody waits for one the pool makes one more, and may then give them what came back meanwhile.
    assert 1 <= len(seen) <= lanes._PLACES + 1 < settings.DATABASE_POOL_SIZE


def test_a_connection_that_the_server_ended_is_replaced(committed: None) -> None:
    before = sql.row(PID, {})
    assert before is not None
    with databases.connect(str(connection.settings_dict["NAME"])) as line:
        line.execute("SELECT pg_terminate_backend(%s, 5000)", before)
    with pytest.raises(OperationalError):
        sql.row(PID, {})
    after = sql.row(PID, {})
    assert after is not None
    assert after != before


def test_a_statement_that_fails_leaves_nothing_open(committed: None) -> None:
    for _ in range(4 * lanes._PLACES):
        with pytest.raises(DatabaseError, match="division"):
            sql.row("SELECT 1 / 0", {})
    assert sql.row("SELECT txid_current_if_assigned()", {}) == (None,)


def test_ending_the_pool_ends_the_lanes(committed: None) -> None:
    before = sql.row(PID, {})
    assert before is not None
    sql.end_pool()
    with databases.connect(str(connection.settings_dict["NAME"])) as line:
        for _ in range(100):
            left = line.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", before).fetchone()
            if left == (0,):
                break
            time.sleep(0.02)
    assert left == (0,)
    assert sql.row("SELECT 1", {}) == (1,)
    assert cast(DatabaseWrapper, connection).pool is not None
