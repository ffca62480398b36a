"""Outbound calls: kept connections with a deadline, a size limit, and a plain answer to "was it sent?"."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from core import _deadlines, _lines, _pinned, _targets
from core._lines import CONNECT_TIMEOUT_S
from core._outcomes import Broken, CallError, Late, NotSent, Reply, Stream, TooLarge
from core._replies import Incoming

__all__ = [
    "CONNECT_TIMEOUT_S",
    "Broken",
    "CallError",
    "Late",
    "NotSent",
    "Reply",
    "Stream",
    "TooLarge",
    "call",
    "stream",
]

# Up to here head and body are one piece of memory; beyond, the copy would cost more than a second system call.
_ONE_PIECE_BYTES = 64 * 1024
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class _Exchange(_deadlines.Watched):
    """One request and its reply: nothing counts as sent before the first byte is handed to the socket."""

    __slots__ = ("_incoming", "_place", "_sent", "_shelf", "_undisturbed")

    def __init__(self, deadline: float) -> None:
        if deadline <= time.monotonic():
            raise NotSent("no time left")
        super().__init__(deadline)
        self._sent, self._undisturbed = False, True
        self._incoming: Incoming | None = None

    def send(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Incoming:
        """The reply's head; its body is still on the line. Once, whatever happens: what was sent may be billed."""
        target = _targets.find(method, url)
        request = target.head(headers, len(body))
        self._place, self._shelf = target.place, _lines.shelf()
        sock = self._shelf.take(target.place)
        self.sock = sock = _lines.connect(target.place, deadline=self.deadline) if sock is None else sock
        _deadlines.watch(self)
        self._sent = True
        try:
            if len(body) <= _ONE_PIECE_BYTES:
                sock.sendall(request + body)
            else:
                sock.sendall(request)
                sock.sendall(body)
        except (BrokenPipeError, ConnectionResetError):
            # Some refuse a request before they have read it, and hang up; their answer is there to be read.
            self._undisturbed = False
        self._incoming = Incoming(sock, bodyless=target.method == "HEAD")
        return self._incoming

    def in_time(self) -> None:
        """A peer that ends a body by closing looks the same as the deadline's own closing. Raises Late."""
        if time.monotonic() >= self.deadline:
            raise Late("no complete reply in time")

    def failure(self) -> CallError:
        """What an error on the line means for the call."""
        if not self._sent:
            return NotSent("could not connect")
        if time.monotonic() >= self.deadline - 0.05:
            return Late("no complete reply in time")
        return Broken("the connection ended before a complete reply")

    def end(self) -> None:
        """Keep the connection if nothing of this exchange can be left on it, else hang up."""
        sock, incoming = self.sock, self._incoming
        if sock is None:
            return
        unharmed = _deadlines.unwatch(self) and self._undisturbed and time.monotonic() < self.deadline
        if unharmed and incoming is not None and incoming.whole and incoming.reusable:
            self._shelf.put(self._place, sock)
        else:
            sock.close()


def call(
    method: str,
    url: str,
    *,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    address: str | None = None,
) -> Reply:
    """Make one call, following no redirect. `deadline` is on time.monotonic()'s clock and covers the whole call.

    With an IP `address` the connection goes there, whatever the name in the URL resolves to, and is not used again.
    Raises NotSent, Broken, Late or TooLarge.
    """
    if address is not None:
        return _pinned.call(
            method,
            url,
            address=address,
            deadline=deadline,
            max_bytes=max_bytes,
            headers=headers or _NO_HEADERS,
            body=body,
        )
    exchange = _Exchange(deadline)
    try:
        incoming = exchange.send(method, url, headers or _NO_HEADERS, body or b"")
        content = incoming.read(max_bytes)
        exchange.in_time()
        return Reply(incoming.status, incoming.headers, content)
    except (OSError, ValueError) as error:
        raise exchange.failure() from error
    finally:
        exchange.end()


@contextlib.contextmanager
def stream(
    method: str,
    url: str,
    *,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Iterator[Stream]:
    """Make one call as `call` does, and hand its body over piece by piece. One not read to its end is hung up on."""
    exchange = _Exchange(deadline)
    try:
        try:
            incoming = exchange.send(method, url, headers or _NO_HEADERS, body or b"")
        except (OSError, ValueError) as error:
            raise exchange.failure() from error
        yield Stream(incoming.status, incoming.headers, _pieces(exchange, incoming, max_bytes))
    finally:
        exchange.end()


def _pieces(exchange: _Exchange, incoming: Incoming, max_bytes: int) -> Iterator[bytes]:
    pieces = incoming.pieces(max_bytes)
    while True:
        try:
            piece = next(pieces, None)
        except (OSError, ValueError) as error:
            raise exchange.failure() from error
        if piece is None:
            break
        yield piece
    exchange.in_time()
