"""A semaphore that serves in the order of arrival; Python's own lets newcomers pass those who wait."""

from __future__ import annotations

import collections
import threading


class Turns:
    """So many places; who finds none waits behind those who came before (`with`, or `take` and `give_back`)."""

    def __init__(self, places: int) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._waiting: collections.deque[threading.Lock] = collections.deque()

    def take(self, *, timeout_s: float = -1) -> bool:
        """Take a place, waiting for it without end or so long; False when there was none in time."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        if called.acquire(timeout=timeout_s):
            return True
        with self._lock:
            if called not in self._waiting:  # called in the same moment
                return True
            self._waiting.remove(called)
        return False

    def give_back(self) -> None:
        """Leave the place to who waits longest."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()  # the place goes over without ever being free
            else:
                self._free += 1

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, *error: object) -> None:
        self.give_back()
