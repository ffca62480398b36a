"""Connections: how they are made, and where those that may be used again rest meanwhile."""

from __future__ import annotations

import atexit
import collections
import contextlib
import functools
import os
import select
import socket
import ssl
import threading
import time

from requests import adapters

from core._targets import Place

CONNECT_TIMEOUT_S = 5.0
# To one place, as many as threads that may call at once.
_MOST_LINES = 2_000
_MOST_PLACES = 32
_SHORTEST_REST_S = 0.05
_LONGEST_REST_S = 30.0


@functools.cache
def tls_context() -> ssl.SSLContext:
    """One a process: the names and certificates that `requests` trusts, nothing older than TLS 1.2."""
    context = ssl.create_default_context(cafile=adapters.DEFAULT_CA_BUNDLE_PATH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_alpn_protocols(["http/1.1"])
    return context


def connect(place: Place, *, deadline: float) -> socket.socket:
    """A new connection, TLS and all, which waits without limit: whoever uses it has it watched. Raises OSError."""
    sock = socket.create_connection((place.host, place.port), _wait_s(deadline))
    try:
        # Where head and body go out one after the other, the second would wait for the first one's receipt.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.secure:
            sock.settimeout(_wait_s(deadline))
            sock = tls_context().wrap_socket(sock, server_hostname=place.host.rstrip(".").partition("%")[0])
        if time.monotonic() >= deadline:
            raise TimeoutError("connected too late")
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock


def _wait_s(deadline: float) -> float:
    return max(min(CONNECT_TIMEOUT_S, deadline - time.monotonic()), 0.001)


class Shelf:
    """Idle connections by the place they lead to, used again longest rested first and never at once.

    Bytes that a peer sends after its answer look like the answer to the next request. They come within moments; after
    the rest a connection that has something to say is closed. A rest that is too long ends in a race with the peer's
    own closing, so those are not used again either.
    """

    def __init__(self) -> None:
        # The place that was given something last stands last.
        self._kept: dict[Place, collections.deque[tuple[float, socket.socket]]] = {}
        self._lock = threading.Lock()
        self._abandoned = False

    def take(self, place: Place) -> socket.socket | None:
        """The connection to use next, now the caller's own, or None where a new one must be made."""
        now = time.monotonic()
        while (found := self._longest_rested(place, now)) is not None:
            since, sock = found
            if now - since < _LONGEST_REST_S and _is_silent(sock):
                return sock
            sock.close()
        return None

    def _longest_rested(self, place: Place, now: float) -> tuple[float, socket.socket] | None:
        with self._lock:
            kept = self._kept.get(place)
            if not kept or now - kept[0][0] < _SHORTEST_REST_S:
                return None
            return kept.popleft()

    def put(self, place: Place, sock: socket.socket) -> None:
        """Keep a connection whose last reply was read to its end, or close it where there is no room."""
        dropped: list[tuple[float, socket.socket]] = []
        entry = (time.monotonic(), sock)
        with self._lock:
            kept = self._kept.pop(place, None)
            if kept is None:
                kept = collections.deque()
            self._kept[place] = kept
            if self._abandoned or len(kept) >= _MOST_LINES or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
                dropped.append(entry)
            else:
                kept.append(entry)
            if len(self._kept) > _MOST_PLACES:
                dropped.extend(self._kept.pop(next(iter(self._kept))))
        for _, one in dropped:
            one.close()

    def abandon(self) -> None:
        """Close what is kept, and whatever is put here later. After a fork, so without the lock: its holder is gone."""
        self._abandoned = True
        for kept in list(self._kept.values()):
            with contextlib.suppress(IndexError):
                while True:
                    kept.popleft()[1].close()


def _is_silent(sock: socket.socket) -> bool:
    """Neither closed by the peer nor with anything to read; of a TLS socket too, below the encryption."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)


_shelf = Shelf()


def shelf() -> Shelf:
    """This process's own: two processes on one connection would read each other's answers."""
    return _shelf


def _begin_anew() -> None:
    global _shelf
    inherited, _shelf = _shelf, Shelf()
    inherited.abandon()


def _close_all() -> None:
    _shelf.abandon()


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(_close_all)
