"""gunicorn's threaded worker with even shares of the connections, threads that stay with busy ones, quick refusals."""

from __future__ import annotations

import select
import threading
import time
from typing import Any

import orjson
from django.conf import settings
from gunicorn.workers.gthread import ThreadWorker

from config import spread
from core import errors, ids, load

# Between two requests of a busy client its connection waits here, not by way of the main loop and back: that detour
# costs two switches between threads that all want the interpreter.
_PARK_MS = 200
_ACCEPTS = 32
# A process with more connections than another leaves it this long to take the next, looking again at every step; then
# it takes a few itself, for the other may be busy, or about to be replaced.
_HEAD_START_S = 0.01
_HEAD_START_STEP_S = 0.001
_UNTAKEN_ACCEPTS = 4
# A client that stalls in the middle of its request, or of our answer, gets its thread taken away.
_STALL_S = 90
_SPENDING_PATHS = frozenset(f"{root}images/generations" for root in settings.API_ROOTS)


class Worker(ThreadWorker):
    """Serves like gthread."""

    _is_counted = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Most threads stay free for connections that have something to say.
        self._places = threading.Semaphore(max(self.cfg.threads // 8, 1))

    @property
    def nr_conns(self) -> int:
        """gunicorn's name for the connections that are open here; all changes are made by the main thread."""
        return self._connections

    @nr_conns.setter
    def nr_conns(self, connections: int) -> None:
        self._connections = connections
        if self._is_counted:
            spread.CONNECTIONS.write(self.age, connections)

    def run(self) -> None:
        """Others count on this process only while it accepts: not while it still loads, nor once it ends."""
        self._is_counted = True
        spread.CONNECTIONS.write(self.age, self.nr_conns)
        super().run()

    def handle_exit(self, sig: int, frame: Any) -> None:
        self._is_counted = False
        spread.CONNECTIONS.leave(self.age)
        super().handle_exit(sig, frame)

    def accept(self, listener: Any) -> None:
        """All that wait, not one of them for each turn of the loop, up to an even share."""
        untaken = self._others_leave_it(listener)
        for number in range(_ACCEPTS):
            before = self.nr_conns
            super().accept(listener)
            if self.nr_conns == before or self.nr_conns >= self.worker_connections:
                return
            if spread.CONNECTIONS.is_ahead(self.age) and not (untaken and number + 1 < _UNTAKEN_ACCEPTS):
                return

    def _others_leave_it(self, listener: Any) -> bool:
        """Give processes with fewer connections a head start; True when none of them used it.

        Not longer than something waits: whoever is ahead for long has connections that want the main loop meanwhile.
        """
        waiting = None
        ends_at = time.monotonic() + _HEAD_START_S
        while spread.CONNECTIONS.is_ahead(self.age):
            if time.monotonic() >= ends_at:
                return True
            if waiting is None:
                waiting = select.poll()
                waiting.register(listener, select.POLLIN)
            time.sleep(_HEAD_START_STEP_S)
            if not waiting.poll(0):
                return False
        return False

    def handle(self, conn: Any) -> Any:
        """One request after the other for as long as the client sends them without a pause."""
        while True:
            keep = super().handle(conn)
            if keep is not True or not self._next_is_near(conn):
                return keep

    def _next_is_near(self, conn: Any) -> bool:
        if not self.alive or conn.parser.unreader.buf.getvalue() or not self._places.acquire(blocking=False):
            return False
        try:
            waiting = select.poll()
            waiting.register(conn.sock, select.POLLIN)
            return bool(waiting.poll(_PARK_MS)) and self.alive
        finally:
            self._places.release()

    def handle_request(self, req: Any, conn: Any) -> bool:
        """In a full house a spending request is refused here, before anything was spent on it."""
        if req.method == "POST" and req.path in _SPENDING_PATHS and load.is_full():
            conn.sock.sendall(_refusal())
            return not req.should_close()
        conn.sock.settimeout(_STALL_S)
        kept: bool = super().handle_request(req, conn)
        return kept


def _refusal() -> bytes:
    error = load.refusal()
    body = orjson.dumps(error.envelope())
    headers = {
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Access-Control-Allow-Origin": "*",
        "x-request-id": ids.public("req", ids.new()),
        **error.headers(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {errors.Overloaded.status} Service Unavailable\r\n{lines}\r\n".encode() + body
