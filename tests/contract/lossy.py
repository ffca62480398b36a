"""A line between a client and the server on which replies get lost: made and charged, but never received."""

from __future__ import annotations

import http.client
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

_NOT_PASSED_ON = ("connection", "transfer-encoding", "content-length", "keep-alive")


class LossyLine:
    """A proxy. `lose` so many of the next replies; `retry_counts` holds what each request said of itself, and
    `chunked` whether its body came without a length."""

    def __init__(self, server_url: str) -> None:
        self.target = server_url.removeprefix("http://")
        self.retry_counts: list[str] = []
        self.chunked: list[bool] = []
        self._lost: list[bool] = []
        self._server = _Server(("127.0.0.1", 0), self)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/openai/v1"

    def lose(self, count: int, *, quietly: bool = True) -> None:
        """Quietly the connection ends without a reply; else something between them answers 502 in its place."""
        self._lost = [quietly] * count

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def carry(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.chunked.append("Transfer-Encoding" in handler.headers)
        self.retry_counts.append(handler.headers.get("x-stainless-retry-count", ""))
        sent = http.client.HTTPConnection(self.target, timeout=30)
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in _NOT_PASSED_ON}
        sent.request(handler.command, handler.path, body, {**headers, "Connection": "close"})
        reply = sent.getresponse()
        data = reply.read()
        sent.close()
        if self._lost:
            if self._lost.pop():
                handler.close_connection = True
                return
            _answer(handler, 502, [("Content-Type", "text/html"), ("retry-after-ms", "5")], b"<html>Bad Gateway</html>")
        else:
            _answer(handler, reply.status, reply.getheaders(), data)


def _answer(handler: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
    handler.send_response_only(status)
    for name, value in headers:
        if name.lower() not in _NOT_PASSED_ON:
            handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.line.carry(self, body)

    def _chunk(self) -> bytes:
        size_bytes = int(self.rfile.readline(), 16)
        data = self.rfile.read(size_bytes)
        self.rfile.readline()
        return data

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], line: LossyLine) -> None:
        self.line = line
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the parent's look-up of the host's name, which asks a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]
