"""Ends calls whose deadline passed: a peer that drips one byte a second resets every timeout of a socket.

Sockets in use have no timeout of their own, which spares each read a system call: this thread is what ends them.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time

# Looking through all calls more often than this would cost more than being this much late.
_SHORTEST_PAUSE_S = 0.005
# What an event can wait has an end; nobody means a deadline beyond this one.
_LONGEST_PAUSE_S = 3_600.0


class Watched:
    """One call on one socket; `deadline` is on time.monotonic()'s clock."""

    __slots__ = ("deadline", "sock")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.sock: socket.socket | None = None


class _Reaper:
    """Whoever takes a call out of `_watched`, its own thread or the reaper's, settles what becomes of its socket."""

    def __init__(self) -> None:
        self._watched: dict[Watched, float] = {}
        self._ending = threading.Lock()
        self._starting = threading.Lock()
        self._started = False
        self._wake = threading.Event()
        self._looks_again_at = math.inf

    def watch(self, call: Watched) -> None:
        """From now until `unwatch`; raises OSError where no thread can be started to do so."""
        if not self._started:
            self._start()
        self._watched[call] = call.deadline
        # Rarely so: the reaper has mostly something earlier to look at, be it a call that is over by now.
        if call.deadline < self._looks_again_at:
            self._wake.set()

    def unwatch(self, call: Watched) -> bool:
        """Whether the socket is the caller's alone again; if not it was shut down, and that is over now."""
        if self._watched.pop(call, None) is not None:
            return True
        with self._ending:
            return False

    def _start(self) -> None:
        with self._starting:
            if self._started:
                return
            try:
                threading.Thread(target=self._run, name="http-deadlines", daemon=True).start()
            except RuntimeError as error:
                raise OSError("no thread to keep the deadline") from error
            self._started = True

    def _run(self) -> None:
        try:
            while True:
                # In this order: who comes after the look finds a time that makes him wake us.
                self._looks_again_at = math.inf
                self._wake.clear()
                self._looks_again_at = next_at = self._look()
                if next_at == math.inf:
                    self._wake.wait()
                else:
                    pause_s = next_at - time.monotonic()
                    self._wake.wait(min(max(pause_s, _SHORTEST_PAUSE_S), _LONGEST_PAUSE_S))
        finally:
            with self._starting:
                self._started = False  # out of memory, say: the next call starts another

    def _look(self) -> float:
        """End what is late; the earliest deadline among the others."""
        now, next_at = time.monotonic(), math.inf
        late: list[Watched] = []
        for call, deadline in self._watched.copy().items():
            if deadline <= now:
                late.append(call)
            elif deadline < next_at:
                next_at = deadline
        if late:
            with self._ending:
                for call in late:
                    self._end(call)
        return next_at

    def _end(self, call: Watched) -> None:
        if self._watched.pop(call, None) is None or call.sock is None:
            return
        # Not sock.shutdown(): on a TLS socket that first drops the encryption, under the reader's feet.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(call.sock, socket.SHUT_RDWR)


_reaper = _Reaper()


def _begin_anew() -> None:
    """Neither threads nor what their locks protect survive a fork."""
    global _reaper
    _reaper = _Reaper()


os.register_at_fork(after_in_child=_begin_anew)


def watch(call: Watched) -> None:
    """Shut the call's socket down once its deadline passes, whatever its thread waits for. Raises OSError."""
    _reaper.watch(call)


def unwatch(call: Watched) -> bool:
    """End the watch before the socket is closed or used for anything else; False where the deadline ended it."""
    return _reaper.unwatch(call)
