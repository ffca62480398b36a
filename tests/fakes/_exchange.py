"""One request at a fake server: what came in, the honest answer, and full control over what goes out."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from threading import Event
from typing import Any

import orjson

_REASONS = {200: "OK", 202: "Accepted", 307: "Temporary Redirect", 502: "Bad Gateway"}


@dataclass(slots=True)
class Reply:
    """An answer ready to be written; `body` is JSON when it is not bytes."""

    status: int
    body: Any = b""
    headers: dict[str, str] = field(default_factory=dict)
    pictures: int = 0  # how many the caller pays for when this was made
    events: list[bytes] = field(default_factory=list)  # sent one by one in place of `body`, as server-sent events
    pause_s: float = 0.0  # before each event

    def payload(self) -> bytes:
        if self.events:
            return b"".join(self.events)
        return self.body if isinstance(self.body, bytes) else orjson.dumps(self.body)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form as it came; `filename` is None for text."""

    name: str
    filename: str | None
    content_type: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """A recorded request; header names in lower case. A form's parts in their order, where it is one."""

    route: str
    method: str
    path: str
    headers: Mapping[str, str]
    json: Any
    parts: tuple[Part, ...] = ()
    query: str = ""

    @property
    def form(self) -> dict[str, str]:
        """The text fields of a form."""
        return {part.name: part.data.decode() for part in self.parts if part.filename is None}

    @property
    def files(self) -> list[Part]:
        return [part for part in self.parts if part.filename is not None]


class Exchange:
    """Handed to a behaviour. `answer()` does the honest work (and bills it); the other verbs write to the socket."""

    def __init__(
        self,
        handler: BaseHTTPRequestHandler,
        *,
        seen: Seen,
        work: Callable[[], Reply],
        bill: Callable[[int], None],
        stopping: Event,
    ) -> None:
        self.seen, self.stopping = seen, stopping
        self._handler, self._work, self._bill = handler, work, bill

    @property
    def family(self) -> str:
        return "openai" if self.seen.route in ("openai", "edits", "models") else "fal"

    def answer(self) -> Reply:
        reply = self._work()
        self._bill(reply.pictures)
        return reply

    def sleep(self, seconds: float) -> bool:
        """Wait; False when the server is being stopped meanwhile."""
        return not self.stopping.wait(seconds)

    def raw(self, data: bytes) -> bool:
        """Write bytes as they are; False once the caller is gone."""
        try:
            self._handler.connection.sendall(data)
        except OSError:
            self._handler.close_connection = True
            return False
        return True

    def send(self, reply: Reply) -> None:
        if reply.events:
            if self.send_events(reply, reply.events):
                self.raw(b"0\r\n\r\n")
            return
        payload = reply.payload()
        self.raw(self.head(reply, {"Content-Length": str(len(payload))}) + payload)

    def send_events(self, reply: Reply, events: list[bytes]) -> bool:
        """The head and these events as chunks, without the end; False once the caller is gone or we stop."""
        if not self.raw(self.head(reply, {"Transfer-Encoding": "chunked"})):
            return False
        return all(self.sleep(reply.pause_s) and self.raw(chunk(event)) for event in events)

    def head(self, reply: Reply, extra: Mapping[str, str] | None = None) -> bytes:
        kind = {} if isinstance(reply.body, bytes) else {"Content-Type": "application/json"}
        if reply.events:
            kind = {"Content-Type": "text/event-stream; charset=utf-8"}
        lines = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'Status')}"]
        lines += [f"{name}: {value}" for name, value in {**kind, **reply.headers, **(extra or {})}.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def hang_up(self, *, reset: bool = False) -> None:
        """End the connection, politely or with a reset."""
        self._handler.close_connection = True
        with contextlib.suppress(OSError):
            if reset:
                self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._handler.connection.close()
            else:
                self._handler.connection.shutdown(socket.SHUT_RDWR)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
