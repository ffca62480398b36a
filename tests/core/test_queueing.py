"""The queue's statements give their connections back, whatever thread they run in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from procrastinate.contrib.django import app
from procrastinate.exceptions import ConnectorException

from core import sql
from tests import databases

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
def fresh_pool(committed: None) -> Iterator[None]:
    """No lane holds a connection, and none that the server ended is left to others."""
    sql.end_pool()
    yield
    sql.end_pool()


def _assert_all_are_back() -> None:
    """The pool opens and takes back some connections in threads of its own, so it has a moment."""
    pool: Any = connection.pool  # type: ignore[attr-defined]
    deadline_s = time.monotonic() + 5
    while (counts := pool.get_stats())["pool_available"] != counts["pool_size"]:
        assert time.monotonic() < deadline_s, counts
        time.sleep(0.01)


async def _ask() -> int:
    return int((await app.connector.execute_query_one_async(PID))["pid"])


def test_a_periodic_job_keeps_no_connection(fresh_pool: None) -> None:
    assert asyncio.run(_ask()) > 0
    _assert_all_are_back()


def test_it_goes_on_after_the_server_ended_its_connection(fresh_pool: None) -> None:
    """Each connection that was ended is noticed by whoever uses it next: by no more than the pool has."""

    async def work() -> int:
        ended = await _ask()
        with databases.connect() as server:
            server.execute("SELECT pg_terminate_backend(%s, 5000)", [ended])
        try:
            return await _ask()
        except ConnectorException:
            return await _ask()

    assert asyncio.run(work()) > 0
    _assert_all_are_back()


def _change_ones_mind() -> None:
    with transaction.atomic():
        inside = app.connector.get_sync_connector().execute_query_one(PID)["pid"]
        with connection.cursor() as cursor:
            cursor.execute(PID)
            assert cursor.fetchone() == (inside,)
        app.configure_task("core.tidy").defer(timestamp=0)
        raise RuntimeError


def test_what_is_queued_within_a_transaction_is_its_part(committed: None) -> None:
    with pytest.raises(RuntimeError):
        _change_ones_mind()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'core.tidy'")
        assert cursor.fetchone() == (0,)
