"""A fake provider for the benchmark: answers with a picture of the asked size after the asked delay.

The prompt steers it, since every gateway passes a prompt through unchanged: `bench-bytes=1500000 bench-delay-ms=9000`.
One process, one epoll loop, replies built once and sent from memory: 5 000 slow requests are 5 000 entries in a heap.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import itertools
import json
import random
import re
import select
import socket
import struct
import time
import zlib

SIDE_PX = 1024
_STEERING = re.compile(rb"bench-bytes=(\d+) bench-delay-ms=(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_MAX_REPLY_BYTES = 32_000_000


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(size_bytes: int) -> bytes:
    """A valid grey PNG of exactly this size: rows of noise first, black below, the rest in a padding chunk."""
    depth_bits = 8 if size_bytes > 200_000 else 1
    row_bytes = SIDE_PX * depth_bits // 8
    noise = random.Random(1)  # noqa: S311 - the same picture every time, nothing secret
    noisy_rows = max(0, min(SIDE_PX, (size_bytes - 2_500) // (row_bytes + 8)))
    rows = b"".join(b"\0" + noise.randbytes(row_bytes) for _ in range(noisy_rows))
    rows += bytes((row_bytes + 1) * (SIDE_PX - noisy_rows))
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, depth_bits, 0, 0, 0, 0))
    pixels, end = _chunk(b"IDAT", zlib.compress(rows, 9)), _chunk(b"IEND", b"")
    padding_bytes = size_bytes - len(head) - len(pixels) - len(end) - 12
    if padding_bytes < 0:
        raise ValueError(f"the smallest picture has {size_bytes - padding_bytes} bytes")
    return head + _chunk(b"paDd", noise.randbytes(padding_bytes)) + pixels + end


def reply(size_bytes: int) -> bytes:
    """Head and body of one answer in OpenAI's shape; the whole body has about `size_bytes`."""
    encoded = base64.b64encode(picture((size_bytes - 340) // 4 * 3)).decode()
    body = json.dumps(
        {
            "created": 1_795_000_000,
            "background": "opaque",
            "data": [{"b64_json": encoded}],
            "output_format": "png",
            "quality": "low",
            "size": f"{SIDE_PX}x{SIDE_PX}",
            "usage": {
                "input_tokens": 12,
                "input_tokens_details": {"image_tokens": 0, "text_tokens": 12},
                "output_tokens": 272,
                "total_tokens": 284,
            },
        },
        separators=(",", ":"),
    ).encode()
    return _head(b"200 OK", len(body)) + body


def _head(status: bytes, length_bytes: int) -> bytes:
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        b"x-request-id: req_benchmark\r\nopenai-processing-ms: 1\r\n\r\n" % (status, length_bytes)
    )


class _Caller:
    """One connection: what arrived of its request, what is left of its reply."""

    __slots__ = ("arrived", "open", "sock", "unsent")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.arrived = b""
        self.unsent: memoryview | None = None
        self.open = True


class Upstream:
    """The server: `serve` runs until the process ends."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.create_server((host, port), backlog=65_535)
        self._listener.setblocking(False)
        self._epoll = select.epoll()
        self._epoll.register(self._listener, select.EPOLLIN)
        self._callers: dict[int, _Caller] = {}
        self._replies: dict[int, memoryview] = {}
        self._due: list[tuple[float, int, _Caller, memoryview]] = []
        self._numbers = itertools.count()
        self._answered = 0

    def serve(self) -> None:
        listener_fd = self._listener.fileno()
        while True:
            timeout_s = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
            for fd, event in self._epoll.poll(timeout_s):
                if fd == listener_fd:
                    self._accept()
                    continue
                caller = self._callers.get(fd)
                if caller is None:
                    continue
                if event & select.EPOLLOUT:
                    self._flush(caller)
                if caller.open and event & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                    self._receive(caller)
            while self._due and self._due[0][0] <= time.monotonic():
                _, _, caller, ready = heapq.heappop(self._due)
                if caller.open:
                    self._send(caller, ready)

    def _accept(self) -> None:
        for _ in range(256):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._callers[sock.fileno()] = _Caller(sock)
            self._epoll.register(sock, select.EPOLLIN)

    def _close(self, caller: _Caller) -> None:
        caller.open = False
        del self._callers[caller.sock.fileno()]
        caller.sock.close()

    def _receive(self, caller: _Caller) -> None:
        try:
            data = caller.sock.recv(65_536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(caller)
            return
        arrived = caller.arrived + data if caller.arrived else data
        head_end = arrived.find(b"\r\n\r\n")
        if head_end < 0:
            caller.arrived = arrived
            return
        found = _LENGTH.search(arrived, 0, head_end)
        if len(arrived) < head_end + 4 + (int(found[1]) if found else 0):
            caller.arrived = arrived
            return
        caller.arrived = b""
        self._answer(caller, arrived)

    def _answer(self, caller: _Caller, request: bytes) -> None:
        if not request.startswith(b"POST"):
            body = b'{"answered":%d}' % self._answered
            self._send(caller, memoryview(_head(b"200 OK", len(body)) + body))
            return
        steering = _STEERING.search(request)
        size_bytes, delay_ms = (int(steering[1]), int(steering[2])) if steering else (2_000, 0)
        ready = self._replies.get(size_bytes)
        if ready is None:
            ready = self._replies[size_bytes] = memoryview(reply(min(size_bytes, _MAX_REPLY_BYTES)))
        self._answered += 1
        if delay_ms:
            heapq.heappush(self._due, (time.monotonic() + delay_ms / 1_000, next(self._numbers), caller, ready))
        else:
            self._send(caller, ready)

    def _send(self, caller: _Caller, ready: memoryview) -> None:
        try:
            sent_bytes = caller.sock.send(ready)
        except BlockingIOError:
            sent_bytes = 0
        except OSError:
            self._close(caller)
            return
        if sent_bytes < len(ready):
            caller.unsent = ready[sent_bytes:]
            self._epoll.modify(caller.sock, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, caller: _Caller) -> None:
        if caller.unsent is None:
            return
        try:
            sent_bytes = caller.sock.send(caller.unsent)
        except BlockingIOError:
            return
        except OSError:
            self._close(caller)
            return
        caller.unsent = caller.unsent[sent_bytes:]
        if not caller.unsent:
            caller.unsent = None
            self._epoll.modify(caller.sock, select.EPOLLIN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    Upstream(arguments.host, arguments.port).serve()


if __name__ == "__main__":
    main()
