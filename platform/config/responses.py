"""gunicorn's response, sent in as few pieces as it can be: the head goes out with what follows it."""

from __future__ import annotations

from typing import Any

from gunicorn.http import wsgi

# Up to here pieces are put together; a larger one goes out of where it lies.
_TOGETHER_BYTES = 64 * 1024


class Response(wsgi.Response):
    """A head alone wakes the client for nothing, and each call to the kernel passes the interpreter's lock on.

    Takes memoryviews beside bytes, so that megabytes of a picture need not be copied to be one piece with what is
    around them.
    """

    headers_sent: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting = b""
        # Django answers HEAD with the body of GET and leaves it to us to drop it: nothing for an operator's log.
        self._omits_body_warned = True

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._waiting = "".join(lines).encode("latin-1")
        self.headers_sent = True

    def write(self, arg: bytes | memoryview) -> None:
        if not isinstance(arg, memoryview):
            super().write(arg)
            return
        if self.response_length is None or self.sent + arg.nbytes > self.response_length:
            super().write(bytes(arg))
            return
        self.send_headers()
        if not self._omits_body:
            self.sent += arg.nbytes
            self._emit_body(arg)

    def write_file(self, respiter: Any) -> None:
        self.send_headers()
        self._let_go()
        super().write_file(respiter)

    def close(self) -> None:
        self.send_headers()
        self._let_go()
        super().close()

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting, b""
        if waiting:
            self.sock.sendall(waiting)

    def _emit_body(self, data: bytes | memoryview) -> None:
        if self.chunked:
            self._let_go()
            super()._emit_body(data)
        elif len(self._waiting) + len(data) <= _TOGETHER_BYTES:
            self._waiting += data
            if self.response_length is None or self.sent >= self.response_length:  # else more is to come
                self._let_go()
        elif self.cfg.is_ssl:
            self._let_go()
            self.sock.sendall(data)
        else:
            self._send_both(data)

    def _send_both(self, data: bytes | memoryview) -> None:
        waiting, self._waiting = self._waiting, b""
        sent_bytes = self.sock.sendmsg([waiting, data]) - len(waiting)
        if sent_bytes < 0:  # the client's window holds less than a head
            self.sock.sendall(waiting[sent_bytes:])
            sent_bytes = 0
        if sent_bytes < len(data):
            self.sock.sendall(memoryview(data)[sent_bytes:])
