"""Calls to one named address, through `requests`: a connection for each, where a customer's URL leads."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from core import _deadlines, _targets, memory
from core._lines import CONNECT_TIMEOUT_S
from core._outcomes import Broken, CallError, Late, NotSent, Reply, TooLarge

_CHUNK_BYTES = 256 * 1024


class _Progress(_deadlines.Watched):
    """How far the call of this thread is: nothing counts as sent before the first byte is handed to the socket."""

    __slots__ = ("address", "sent")

    def __init__(self, deadline: float, address: str) -> None:
        super().__init__(deadline)
        self.address, self.sent = address, False

    def watch(self, sock: socket.socket) -> None:
        self.sock = sock
        _deadlines.watch(self)


_current = threading.local()


class _Watched:
    """Mixed into urllib3's connections: watched from before the handshake to the last byte read."""

    sock: Any

    def _new_conn(self) -> socket.socket:
        """To the named address and no other."""
        progress: _Progress = _current.progress
        wait_s = max(min(CONNECT_TIMEOUT_S, progress.deadline - time.monotonic()), 0.001)
        sock = socket.create_connection((progress.address, self.port), wait_s)  # type: ignore[attr-defined]
        try:
            progress.watch(sock)
        except OSError:
            sock.close()
            raise
        return sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()  # type: ignore[attr-defined]
        progress: _Progress = _current.progress
        if not progress.sent:
            progress.sent = True
            self.sock.settimeout(max(progress.deadline - time.monotonic(), 0.001))
            progress.watch(self.sock)  # TLS has put another one in place of the first
        super().send(data)  # type: ignore[misc]


class _PlainConnection(_Watched, HTTPConnection):
    pass


class _SecureConnection(_Watched, HTTPSConnection):
    pass


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}


def call(
    method: str,
    url: str,
    *,
    address: str,
    deadline: float,
    max_bytes: int,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Reply:
    """As core.http.call, to an IP address, whatever the name in the URL resolves to."""
    if deadline <= time.monotonic():
        raise NotSent("no time left")
    progress = _current.progress = _Progress(deadline, address)
    # One that keeps nothing: the next call may be to the same name at another address.
    adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    try:
        return _exchange(adapter, method, url, progress, max_bytes=max_bytes, headers=headers, body=body)
    except CallError:
        raise
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise _classify(progress) from error
    finally:
        _deadlines.unwatch(progress)
        adapter.close()
        _current.progress = None


def _exchange(
    adapter: HTTPAdapter,
    method: str,
    url: str,
    progress: _Progress,
    *,
    max_bytes: int,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Reply:
    # Past the session's own layer (environment, cookies, redirects, hooks), none of which is wanted here.
    prepared = _targets.parse(method, url)
    for name, value in headers.items():
        _targets.line(name, value)
    prepared.headers.update(headers)
    prepared.prepare_body(body, None)
    prepared.headers["Connection"] = "close"
    remaining_s = max(progress.deadline - time.monotonic(), 0.001)
    response = adapter.send(
        prepared,
        stream=True,
        timeout=(min(CONNECT_TIMEOUT_S, remaining_s), remaining_s),
        verify=True,
        proxies={},
    )
    try:
        if response.status_code < 200:
            raise Broken("the reply is not a final one")
        content = _read(response.raw, max_bytes)
        # A peer that ends a body by closing looks the same as the deadline's own closing.
        if time.monotonic() >= progress.deadline:
            raise Late("no complete reply in time")
        found = {name.lower(): value for name, value in response.headers.items()}
        return Reply(status=response.status_code, headers=found, body=content)
    finally:
        _deadlines.unwatch(progress)
        response.raw.close()


def _read(raw: Any, max_bytes: int) -> bytes:
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
