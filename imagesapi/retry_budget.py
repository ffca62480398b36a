"""How many failovers this process may spend: when everything fails, calling everybody twice makes it worse.

Counted in fifths of an attempt, so that sums stay exact.
"""

from __future__ import annotations

import threading

_FIFTHS_PER_ATTEMPT = 5
_FIFTHS_PER_REQUEST = 1  # every request earns 0.2 attempts
_FIFTHS_MAX = 20 * _FIFTHS_PER_ATTEMPT
_FIFTHS_AT_START = 10 * _FIFTHS_PER_ATTEMPT


class Budget:
    """A bucket of attempts: requests fill it, failovers empty it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fifths = _FIFTHS_AT_START

    @property
    def attempts(self) -> float:
        """What is left, in attempts."""
        return self._fifths / _FIFTHS_PER_ATTEMPT

    def deposit(self) -> None:
        """A request came in."""
        with self._lock:
            self._fifths = min(self._fifths + _FIFTHS_PER_REQUEST, _FIFTHS_MAX)

    def withdraw(self) -> bool:
        """Whether one failover may be made; if so it is spent."""
        with self._lock:
            if self._fifths < _FIFTHS_PER_ATTEMPT:
                return False
            self._fifths -= _FIFTHS_PER_ATTEMPT
            return True


_of_this_process = Budget()
deposit = _of_this_process.deposit
withdraw = _of_this_process.withdraw
