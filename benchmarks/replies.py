"""Reads HTTP replies cheaply: status, headers we need, the body counted and thrown away unseen by Python."""

from __future__ import annotations

import re
import socket

_BUFFER = bytearray(1 << 20)
_VIEW = memoryview(_BUFFER)
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSING = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)
_RETRY_AFTER = re.compile(rb"\r\nretry-after:[ \t]*(\d+)", re.IGNORECASE)
_KEPT_BYTES = 300
_TAIL_BYTES = 64


class ReplyBroken(Exception):
    """The connection ended or spoke no HTTP."""


class Reader:
    """Reads one reply after another from one connection. Linux only: MSG_TRUNC lets the kernel discard a body."""

    __slots__ = ("_chunk_left", "_chunked", "_left", "_pending", "body_bytes", "closing", "head", "retry_after_s",
                 "sample", "status", "tail")  # fmt: skip

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.head = b""
        self.status = 0
        self.body_bytes = 0
        self.sample = b""
        self.tail = b""
        self.closing = False
        self.retry_after_s: int | None = None
        self._left = 0
        self._chunked = False
        self._chunk_left = -1
        self._pending = b""

    @property
    def untouched(self) -> bool:
        return not self.status and not self.head

    def read(self, sock: socket.socket) -> bool:
        """Take what is there; True when the reply is complete. Raises BlockingIOError, OSError, ReplyBroken."""
        if self.status == 200 and not self._chunked and self._left > _TAIL_BYTES:
            wanted_bytes = min(self._left - _TAIL_BYTES, len(_BUFFER))
            received_bytes = sock.recv_into(_BUFFER, wanted_bytes, socket.MSG_TRUNC)
            if not received_bytes:
                raise ReplyBroken("ended inside the body")
            self.body_bytes += received_bytes
            self._left -= received_bytes
            return False
        data = sock.recv(262_144 if self._chunked else 16_384)
        if not data:
            raise ReplyBroken("ended before the reply" if self.untouched else "ended inside the reply")
        return self._chunks(data) if self._chunked else self._body(data) if self.status else self._start(data)

    def _start(self, data: bytes) -> bool:
        data = self.head + data
        head_end = data.find(b"\r\n\r\n")
        if head_end < 0:
            self.head = data
            return False
        if not data.startswith(b"HTTP/1."):
            raise ReplyBroken("not HTTP")
        self.head = head = data[:head_end]
        self.status = int(data[9:12])
        self.closing = _CLOSING.search(head) is not None
        if self.status in (429, 503):
            found = _RETRY_AFTER.search(head)
            self.retry_after_s = int(found[1]) if found else None
        length = _LENGTH.search(head)
        if length:
            self._left = int(length[1])
            return self._body(data[head_end + 4 :])
        if _CHUNKED.search(head) is None:
            raise ReplyBroken("neither Content-Length nor chunks")
        self._chunked = True
        return self._chunks(data[head_end + 4 :])

    def _body(self, data: bytes) -> bool:
        self._note(data)
        self._left -= len(data)
        return self._left <= 0

    def _note(self, data: bytes) -> None:
        self.body_bytes += len(data)
        if len(self.sample) < _KEPT_BYTES:
            self.sample += data[: _KEPT_BYTES - len(self.sample)]
        self.tail = data[-_TAIL_BYTES:] if len(data) >= _TAIL_BYTES else (self.tail + data)[-_TAIL_BYTES:]

    def _chunks(self, data: bytes) -> bool:
        data, position = self._pending + data, 0
        self._pending = b""
        while position < len(data):
            if self._chunk_left > 0:
                taken_bytes = min(self._chunk_left, len(data) - position)
                self._note(data[position : position + taken_bytes])
                self._chunk_left -= taken_bytes
                position += taken_bytes
                continue
            line_from = position + 2 if self._chunk_left == 0 else position
            line_end = data.find(b"\r\n", line_from)
            if line_end < 0:
                break
            size_bytes = int(data[line_from:line_end].split(b";")[0], 16)
            if size_bytes == 0:
                if len(data) < line_end + 4:
                    break
                return True
            self._chunk_left, position = size_bytes, line_end + 2
        self._pending = data[position:]
        return False
