"""Outbound calls: pooled `requests` connections with a deadline, a size limit, and a plain answer to "was it sent?"."""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import itertools
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from core import memory

CONNECT_TIMEOUT_S = 5.0
_CHUNK_BYTES = 256 * 1024
# A pool as large as the threads that may call at once: requests' default of 10 makes the others wait unseen.
_POOL_CONNECTIONS = 2_000
_SHORTEST_REST_S = 0.05
_LONGEST_REST_S = 30.0


class CallError(Exception):
    """An outbound call without a usable reply. `sent` is False only when no byte can have reached the other side."""

    sent = True


class NotSent(CallError):
    sent = False


class Broken(CallError):
    """The connection ended after the request went out."""


class Late(CallError):
    """The deadline passed after the request went out."""


class TooLarge(CallError):
    """The reply is larger than we take."""


@dataclass(slots=True)
class Reply:
    """A complete reply: status, headers by lower-case name, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class Stream:
    """A reply whose body is read while it comes; reading raises Broken, Late or TooLarge."""

    status: int
    headers: Mapping[str, str]
    pieces: Iterator[bytes]


class _Reaper:
    """Closes sockets whose deadline passed: a peer that drips one byte a second resets every read timeout."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._heap: list[tuple[float, int, socket.socket]] = []
        self._live: set[int] = set()
        self._numbers = itertools.count()
        self._owner_pid: int | None = None

    def start(self, sock: socket.socket, deadline: float, *, instead_of: int | None) -> int:
        """Watch a socket until `stop`; an earlier watch of the same socket ends here."""
        with self._lock:
            if self._owner_pid != os.getpid():  # threads do not survive a fork
                self._owner_pid, self._heap, self._live = os.getpid(), [], set()
                threading.Thread(target=self._run, name="http-deadlines", daemon=True).start()
            if instead_of is not None:
                self._live.discard(instead_of)
            number = next(self._numbers)
            self._live.add(number)
            heapq.heappush(self._heap, (deadline, number, sock))
            if self._heap[0][1] == number:
                self._lock.notify()
        return number

    def stop(self, number: int) -> None:
        with self._lock:
            self._live.discard(number)

    def _run(self) -> None:
        while True:
            with self._lock:
                while self._heap and self._heap[0][1] not in self._live:
                    heapq.heappop(self._heap)
                wait_s = self._heap[0][0] - time.monotonic() if self._heap else None
                if wait_s is None or wait_s > 0:
                    self._lock.wait(wait_s)
                    continue
                _, number, sock = heapq.heappop(self._heap)
                if number in self._live:
                    # Not sock.shutdown(): on a TLS socket that first drops the encryption, under the reader's feet.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(sock, socket.SHUT_RDWR)


_reaper = _Reaper()
_current = threading.local()


class _Progress:
    """How far the call of this thread is: nothing counts as sent before the first byte is handed to the socket."""

    __slots__ = ("address", "deadline", "sent", "watch")

    def __init__(self, deadline: float, address: str | None = None) -> None:
        self.deadline, self.sent, self.address = deadline, False, address
        self.watch: int | None = None

    def finish(self) -> None:
        if self.watch is not None:
            _reaper.stop(self.watch)


class _Watched:
    """Mixed into urllib3's connections: from the first byte sent to the last one read, one watch on the socket."""

    sock: Any
    _watch: int | None = None

    def _new_conn(self) -> socket.socket:
        """Where the call names an address, to that one and no other; its watch then begins before the handshake."""
        progress: _Progress | None = getattr(_current, "progress", None)
        if progress is None or progress.address is None:
            return super()._new_conn()  # type: ignore[misc,no-any-return]
        wait_s = max(min(CONNECT_TIMEOUT_S, progress.deadline - time.monotonic()), 0.001)
        sock = socket.create_connection((progress.address, self.port), wait_s)  # type: ignore[attr-defined]
        self._watch = progress.watch = _reaper.start(sock, progress.deadline, instead_of=self._watch)
        return sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        progress: _Progress | None = getattr(_current, "progress", None)
        if progress is not None and not progress.sent:
            progress.sent = True
            self.sock.settimeout(max(progress.deadline - time.monotonic(), 0.001))
            self._watch = _reaper.start(self.sock, progress.deadline, instead_of=self._watch)
            progress.watch = self._watch
        super().send(data)  # type: ignore[misc]


class _PlainConnection(_Watched, HTTPConnection):
    pass


class _SecureConnection(_Watched, HTTPSConnection):
    pass


_CLOSING = object()


class _Shelf:
    """A pool's idle connections, used again longest rested first and never at once.

    Bytes that a peer sends after its answer look like the answer to the next request. They come within moments; after
    the rest urllib3 sees that the socket has something to say and closes it. A rest that is too long ends in a race
    with the peer's own closing, so those are not used again either.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._most = maxsize
        self._kept: collections.deque[tuple[float, Any]] = collections.deque()
        self._lock = threading.Lock()

    def put(self, connection: Any, block: bool = True) -> None:
        if connection is None:  # urllib3 fills its queues with places; here a missing connection is simply made
            return
        if not self._most:
            connection.close()
            return
        with self._lock:
            if len(self._kept) >= self._most:
                raise queue.Full
            self._kept.append((time.monotonic(), connection))

    def get(self, block: bool = True, timeout: Any = _CLOSING) -> Any:
        """The one to use next, or queue.Empty, on which urllib3 makes one; without a timeout, to close them all."""
        now = time.monotonic()
        with self._lock:
            while self._kept:
                rested_s, connection = now - self._kept[0][0], self._kept[0][1]
                if timeout is not _CLOSING and rested_s < _SHORTEST_REST_S:
                    break
                self._kept.popleft()
                if timeout is _CLOSING or rested_s < _LONGEST_REST_S:
                    return connection
                connection.close()
        raise queue.Empty


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection
    QueueCls = _Shelf  # type: ignore[assignment]


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
    QueueCls = _Shelf  # type: ignore[assignment]


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


_shared: tuple[int, _Adapter] | None = None
_shared_lock = threading.Lock()


def _adapter() -> _Adapter:
    """One set of pools a process: connections are kept between calls, never across a fork."""
    global _shared
    if _shared is None or _shared[0] != os.getpid():
        with _shared_lock:
            if _shared is None or _shared[0] != os.getpid():
                made = _Adapter(pool_connections=32, pool_maxsize=_POOL_CONNECTIONS, max_retries=0)
                _shared = (os.getpid(), made)
    return _shared[1]


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
    if deadline <= time.monotonic():
        raise NotSent("no time left")
    progress = _current.progress = _Progress(deadline, address)
    try:
        return _exchange(method, url, progress, max_bytes, headers, body)
    except CallError:
        raise
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _classify(progress) from error
    finally:
        progress.finish()
        _current.progress = None


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
    if deadline <= time.monotonic():
        raise NotSent("no time left")
    progress = _current.progress = _Progress(deadline)
    response: requests.Response | None = None
    try:
        with _classified(progress):
            response = _send(method, url, progress, headers, body)
        _current.progress = None
        found = {name.lower(): value for name, value in response.headers.items()}
        yield Stream(response.status_code, found, _pieces(response.raw, progress, max_bytes))
    finally:
        if response is not None and not response.raw.closed:
            response.raw.close()
        progress.finish()
        _current.progress = None


@contextlib.contextmanager
def _classified(progress: _Progress) -> Iterator[None]:
    try:
        yield
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _classify(progress) from error


def _pieces(raw: Any, progress: _Progress, max_bytes: int) -> Iterator[bytes]:
    """What has come, as soon as it comes."""
    declared_bytes: int | None = raw.length_remaining
    if declared_bytes is not None and declared_bytes > max_bytes:
        raise TooLarge(f"the reply declares {declared_bytes} bytes; at most {max_bytes} are taken")
    size_bytes = 0
    while True:
        with _classified(progress):
            piece: bytes = raw.read1(_CHUNK_BYTES, decode_content=False)
        if not piece:
            break
        size_bytes += len(piece)
        if size_bytes > max_bytes:
            raise TooLarge(f"the reply is larger than {max_bytes} bytes")
        yield piece
    # A peer that ends a body by closing looks the same as the deadline's own closing.
    if time.monotonic() >= progress.deadline:
        raise Late("no complete reply in time")


@functools.lru_cache(maxsize=256)
def _prepared(method: str, url: str) -> requests.PreparedRequest:
    """What is the same for every call to one address; reading an address carefully takes its time."""
    prepared = requests.PreparedRequest()
    prepared.prepare(method=method, url=url, headers={"Accept-Encoding": "identity", "User-Agent": "pixelpar"})
    return prepared


def _exchange(
    method: str,
    url: str,
    progress: _Progress,
    max_bytes: int,
    headers: Mapping[str, str] | None,
    body: bytes | None,
) -> Reply:
    response = _send(method, url, progress, headers, body)
    try:
        content = _read(response, max_bytes)
        # A peer that ends a body by closing looks the same as the deadline's own closing.
        if time.monotonic() >= progress.deadline:
            raise Late("no complete reply in time")
        found = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=found, body=content)
    finally:
        # Only a body read to its end gives its connection back; urllib3 has then done so already.
        if not response.raw.closed:
            response.raw.close()


def _send(
    method: str, url: str, progress: _Progress, headers: Mapping[str, str] | None, body: bytes | None
) -> requests.Response:
    """The reply's head; its body is still on the line."""
    remaining_s = max(progress.deadline - time.monotonic(), 0.001)
    # Past the session's own layer (environment, cookies, redirects, hooks), none of which is wanted here.
    prepared = _prepared(method, url).copy()
    prepared.headers.update(headers or {})
    prepared.prepare_body(body, None)
    # A connection to a named address serves one call: it has an adapter of its own, which keeps nothing.
    pinned = progress.address is not None
    if pinned:
        prepared.headers["Connection"] = "close"
    adapter = _Adapter(pool_connections=1, pool_maxsize=0, max_retries=0) if pinned else _adapter()
    response = adapter.send(
        prepared,
        stream=True,
        timeout=(min(CONNECT_TIMEOUT_S, remaining_s), remaining_s),
        verify=True,
        proxies={},
    )
    if response.status_code < 200:  # an interim answer: the real one would reach the connection's next user
        response.raw.close()
        raise Broken("the reply is not a final one")
    return response


def _read(response: requests.Response, max_bytes: int) -> bytes:
    raw = response.raw
    declared_bytes: int | None = raw.length_remaining
    if declared_bytes is None:
        return _read_to_end(raw, max_bytes)
    if declared_bytes > max_bytes:
        raise TooLarge(f"the reply declares {declared_bytes} bytes; at most {max_bytes} are taken")
    memory.enter(declared_bytes)
    content: bytes = raw.read(declared_bytes or 1, decode_content=False)
    if len(content) < declared_bytes:
        raise OSError(f"the reply ended after {len(content)} of {declared_bytes} bytes")
    return content


def _read_to_end(raw: Any, max_bytes: int) -> bytes:
    parts, size_bytes = [], 0
    while part := raw.read(_CHUNK_BYTES, decode_content=False):
        before_bytes, size_bytes = size_bytes, size_bytes + len(part)
        if size_bytes > max_bytes:
            raise TooLarge(f"the reply is larger than {max_bytes} bytes")
        # Only once it is known to be large: a job's state, asked for again and again, would hold a place meanwhile.
        if before_bytes <= memory.SMALL_BYTES < size_bytes:
            memory.enter(size_bytes)
        parts.append(part)
    return b"".join(parts)


def _classify(progress: _Progress) -> CallError:
    if not progress.sent:
        return NotSent("could not connect")
    if time.monotonic() >= progress.deadline - 0.05:
        return Late("no complete reply in time")
    return Broken("the connection ended before a complete reply")
