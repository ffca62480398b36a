"""A peer below HTTP: its test writes every byte of its answers, and counts connections and what came on each."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

# Bytes, sent in one piece; or a function that is handed the connection and the request.
Answer = bytes | Callable[[socket.socket, bytes], None]
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Peer:
    """Reads one request, plays the next answer (after the last `usual`), and so on until an answer hangs up."""

    def __init__(self, *answers: Answer, host: str = "127.0.0.1") -> None:
        self.answers = deque(answers)
        self.usual: Answer = HELLO
        self.requests: list[bytes] = []
        self.connections: list[socket.socket] = []
        self.arrivals: list[int] = []  # how many pieces the kernel handed over for each request
        self._quiet = threading.Event()
        self._quiet.set()
        self._listener = socket.create_server(
            (host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=100
        )
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5)
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)

    def rest(self) -> None:
        """Until what its last answer had to say, late or not, is on the line."""
        assert self._quiet.wait(5)
        time.sleep(0.01)  # for the kernel

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections.append(connection)
                self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while (request := self._read(connection)) is not None:
                self.requests.append(request)
                answer = self.answers.popleft() if self.answers else self.usual
                self._quiet.clear()
                try:
                    if isinstance(answer, bytes):
                        connection.sendall(answer)
                    else:
                        answer(connection, request)
                finally:
                    self._quiet.set()

    def _read(self, connection: socket.socket) -> bytes | None:
        data, pieces = b"", 0
        while (end := data.find(b"\r\n\r\n")) < 0 or len(data) < end + 4 + _length(data[:end]):
            piece = connection.recv(65_536)
            if not piece:
                return None
            data, pieces = data + piece, pieces + 1
        self.arrivals.append(pieces)
        return data


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return ("\r\n".join([status, *lines]) + "\r\n\r\n").encode("latin-1")


def chunks(*pieces: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n" + trailer + b"\r\n"


def then_close(data: bytes) -> Answer:
    """Say this and hang up."""

    def play(connection: socket.socket, request: bytes) -> None:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_RDWR)

    return play


def slowly(data: bytes, *, piece_bytes: int = 1) -> Answer:
    """The same bytes in many segments."""

    def play(connection: socket.socket, request: bytes) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(data), piece_bytes):
            connection.sendall(data[at : at + piece_bytes])
            time.sleep(0.001)

    return play


def and_later(data: bytes, later: bytes, *, after_s: float = 0.01) -> Answer:
    """Something more when nobody has asked for it."""

    def play(connection: socket.socket, request: bytes) -> None:
        connection.sendall(data)
        time.sleep(after_s)
        connection.sendall(later)

    return play
