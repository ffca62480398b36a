"""Statements that wait at the same moment are sent together and committed together.

A commit is dear beside what it commits: a transaction to open and to close, a wait for the disk under locks that
others want, and two switches between programs. So one thread at a time runs what waits, and while the server has it,
what comes next gathers. Nobody waits in order to be joined: alone, a statement goes out at once.
"""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from psycopg_pool import PoolTimeout

from core.libpq import Bound, Row

# More would let the first wait long for the last.
_TOGETHER_MOST = 16
# What came behind a statement that waits for a lock does not wait with it: after so long it goes past on another line.
_PATIENCE_S = 0.02


@dataclass(frozen=True, slots=True)
class Locks:
    """What a statement locks for itself before all else, so that a transaction of several never waits in a circle.

    `statement` takes those locks for all of `%(owners)s::bigint[]` in one order. A statement that does not begin with
    them (`come_first` is False) is a transaction of its own, with `statement` before it.
    """

    statement: str
    owner: int
    come_first: bool = True


class Entry:
    """One statement on its way. Once `is_done`, either `error` says what went wrong or `found` is its row, if any."""

    __slots__ = ("_batch", "_called", "_is_taken", "bound", "error", "found", "is_done", "locks")

    def __init__(self, bound: Bound, locks: Locks | None = None) -> None:
        self.bound, self.locks = bound, locks
        self.found: Row | None = None
        self.error: BaseException | None = None
        self.is_done = False
        self._batch: Sequence[Entry] = ()
        self._is_taken = False
        self._called = threading.Lock()
        self._called.acquire()


class GroupCommit:
    """What waits is run by `run`, which says of each entry what came of it; at most `lines_most` times at once."""

    def __init__(self, run: Callable[[Sequence[Entry]], None], *, lines_most: int) -> None:
        self._run = run
        self._lines_most = lines_most
        self._lock = threading.Lock()
        self._lines = 0
        self._waiting: collections.deque[Entry] = collections.deque()
        # How many ever began to wait, and how many of these are no longer waiting.
        self._came = self._went = 0

    def do(self, entry: Entry, *, timeout_s: float) -> None:
        """Return when it is done. Raises PoolTimeout when it was not even begun in time."""
        batch: Sequence[Entry] = (entry,)
        place = 0
        with self._lock:
            if self._lines:
                self._waiting.append(entry)
                self._came += 1
                place, batch = self._came, ()
            else:
                self._lines = 1
        batch = batch or self._wait(entry, place, timeout_s)
        if batch:
            self._lead(entry, batch)

    def _wait(self, entry: Entry, place: int, timeout_s: float) -> Sequence[Entry]:
        """Until somebody else has run it, or called it to run what waits. Only the first in line need look often."""
        ends_at = time.monotonic() + timeout_s
        while not entry._called.acquire(timeout=_PATIENCE_S * (1 + max(place - self._went, 0) // _TOGETHER_MOST)):
            with self._lock:
                if entry._is_taken:
                    break
                if self._lines < self._lines_most and self._waiting[0] is entry:
                    self._lines += 1
                    return self._next()
                if time.monotonic() >= ends_at:
                    self._waiting.remove(entry)
                    self._went += 1
                    raise PoolTimeout(f"no connection was free for {timeout_s} s")
        else:
            return entry._batch
        entry._called.acquire()  # whoever took it is about to say so
        return entry._batch

    def _next(self) -> Sequence[Entry]:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _TOGETHER_MOST))]
        self._went += len(batch)
        for entry in batch:
            entry._is_taken = True
        return batch

    def _lead(self, leader: Entry, batch: Sequence[Entry]) -> None:
        try:
            self._run(batch)
        except BaseException as error:  # noqa: BLE001 - every one of them is told, in its own thread
            for entry in batch:
                if not entry.is_done:
                    entry.error, entry.is_done = error, True
        with self._lock:
            following = self._next() if self._waiting and self._lines == 1 else ()
            if not following:
                self._lines -= 1
        if following:  # first of all, so that the server has something to do
            following[0]._batch = following
            following[0]._called.release()
        for entry in batch:
            if entry is not leader:
                entry._called.release()
