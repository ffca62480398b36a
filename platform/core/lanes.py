"""Few connections of the pool for the statements that every paid request makes, always the one that was used last.

The server keeps for each connection what it knows about tables and statements, and so does the driver. Passed round
among four connections, as a pool does, little of it is in the processor's cache when it is needed: so the same
statements took the server a fifth more time. Slow lists keep to the pool's other connections.
"""

from __future__ import annotations

import time
from typing import Any

from psycopg_pool import PoolTimeout

from core.turns import Turns

# How many are used at once, and of these how many stay out of the pool meanwhile.
_PLACES = 3
_KEPT = 2
# Now and then a connection goes by way of the pool, which ends those that have become old.
_KEPT_S = 60


class Lane:
    """A connection out of the pool, and until when it stays out."""

    __slots__ = ("raw", "until_s")

    def __init__(self, raw: Any) -> None:
        self.raw, self.until_s = raw, time.monotonic() + _KEPT_S


class Lanes:
    """A pool's lanes. Whoever needs a connection for something else finds most of them, unless there is only one."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self._kept_most = min(_KEPT, (pool.max_size - 1) // 2)  # the larger half is everybody's
        self.places = max(min(_PLACES, pool.max_size - 1), 1)
        self._turns = Turns(self.places)
        self._kept: list[Lane] = []
        self._is_closed = False

    def take(self) -> Lane:
        """To be given back, or dropped. Raises PoolTimeout, or what the pool raises when there is no server."""
        until_s = time.monotonic() + self.pool.timeout
        if not self._turns.take(timeout_s=self.pool.timeout):
            raise PoolTimeout(f"no connection was free for {self.pool.timeout} s")
        try:
            return self._kept.pop()
        except IndexError:
            pass
        try:
            return Lane(self.pool.getconn(timeout=max(until_s - time.monotonic(), 0.0)))
        except BaseException:
            self._turns.give_back()
            raise

    def give_back(self, lane: Lane) -> None:
        """After a statement that went well."""
        if len(self._kept) >= self._kept_most or time.monotonic() >= lane.until_s:
            self.drop(lane)
            return
        self._kept.append(lane)
        self._turns.give_back()
        if self._is_closed:
            self.close()

    def drop(self, lane: Lane) -> None:
        """After an error: the pool looks at what state the connection is in."""
        try:
            self.pool.putconn(lane.raw)
        finally:
            self._turns.give_back()

    def close(self) -> None:
        """Give the pool back what it lent; before it is closed itself."""
        self._is_closed = True
        while True:
            try:
                lane = self._kept.pop()
            except IndexError:
                return
            self.pool.putconn(lane.raw)
