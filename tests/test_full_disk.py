"""The programs that keep the platform alive go on while a disk is full, and say why nothing works."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from procrastinate.exceptions import ConnectorException
from structlog.testing import capture_logs

from config import supervisor
from config.management.commands import serve, worker
from core import database
from core.database import Server

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
TAIL = """PostgreSQL did not start:
2026-11-28 05:36:14 UTC [7] LOG:  redo starts at 0/16ED4A0
2026-11-28 05:36:14 UTC [7] FATAL:  could not write to file "pg_wal/xlogtemp.7": No space left on device
2026-11-28 05:36:14 UTC [1] LOG:  database system is shut down
"""


class Enough(Exception):
    """The end of an endless loop."""


def one_after_the_other(*steps: Exception | None) -> Callable[..., Any]:
    left: Iterator[Exception | None] = iter([*steps, Enough()])

    def step(*_: Any, **__: Any) -> None:
        error = next(left)
        if error is not None:
            raise error

    return step


def server_in(folder: Path) -> Server:
    return Server(data=folder, sockets=folder / "socket", account=None, moved_because="")


def test_a_database_that_cannot_be_started_is_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_POLL_S", 0.0)
    monkeypatch.setattr(supervisor, "_DATABASE_CHECK_S", 0.0)
    monkeypatch.setattr(database, "running", lambda _: False)
    monkeypatch.setattr(database, "start", one_after_the_other(FULL, database.DatabaseError(TAIL), None))
    said: list[str] = []
    with pytest.raises(Enough):
        supervisor._watch([], server_in(tmp_path), said.append)
    assert said.count("PostgreSQL does not answer; starting it again") == 4
    first, second = [line for line in said if "could not be started" in line]
    assert first.endswith("No space left on device")
    assert 'FATAL:  could not write to file "pg_wal/xlogtemp.7"' in second


def test_what_it_says_may_find_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    command = serve.Command()
    monkeypatch.setattr(command.stdout, "write", one_after_the_other(FULL))
    command._say("PostgreSQL does not answer; starting it again")
    with pytest.raises(Enough):
        command._say("this one is written")


def test_the_databases_settings_are_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "pixelpar.conf"
    database._write(path, "jit = off\n")
    real = Path.write_text

    def fill_up(self: Path, text: str) -> int:
        real(self, text[: len(text) // 2])
        raise FULL

    monkeypatch.setattr(Path, "write_text", fill_up)
    database._write(path, "jit = off\n")  # nothing to write
    with pytest.raises(database.DatabaseError, match="could not be written: No space left"):
        database._write(path, "jit = on\n")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("pixelpar.conf", "jit = off\n")]


def lost() -> ConnectorException:
    error = ConnectorException()
    error.__cause__ = psycopg.OperationalError("the database system is in recovery mode")
    return error


def test_the_worker_waits_for_its_database(monkeypatch: pytest.MonkeyPatch) -> None:
    step = one_after_the_other(lost(), None, lost())

    async def take_tasks(_: int) -> None:
        step()

    monkeypatch.setattr(worker, "_PAUSE_S", 0)
    monkeypatch.setattr(worker, "_take_tasks", take_tasks)
    with capture_logs() as lines, pytest.raises(Enough):
        asyncio.run(worker._work())
    assert [line["event"].partition(";")[0] for line in lines] == [
        "the queue cannot be read",
        "the queue's worker stopped",
        "the queue cannot be read",
    ]
    assert {line.get("reason") for line in lines} == {None, "the database system is in recovery mode"}


@pytest.mark.parametrize("waits", [True, False], ids=["while it works", "while it waits for its database"])
def test_the_worker_stops_when_it_is_told_to(monkeypatch: pytest.MonkeyPatch, waits: bool) -> None:
    async def take_tasks(_: int) -> None:
        asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGTERM)
        if not waits:
            raise lost()
        await asyncio.sleep(30)

    monkeypatch.setattr(worker, "_take_tasks", take_tasks)
    with capture_logs():
        asyncio.run(asyncio.wait_for(worker._work(), timeout=3))
