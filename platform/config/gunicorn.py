"""How gunicorn serves us: one process per core, many threads each, since a request mostly waits for a provider."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
from typing import Any

import orjson
from django.conf import settings
from gunicorn import util
from gunicorn.http import wsgi

from config import responses, spread
from core import cores, errors

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")


def _write_error(sock: socket.socket, status: int, reason: str, message: str) -> None:
    """What gunicorn itself refuses (a broken request line, endless headers) leaves in the API's shape, not as HTML."""
    if status == 501:  # a transfer coding that we do not know is the caller's to change
        status, reason = 400, "Bad Request"
    text = f"The request is not valid HTTP: {message[:200]}" if message else "Something went wrong on our side."
    error = errors.InternalError(text) if status >= 500 else errors.MalformedHttp(text)
    body = orjson.dumps(error.envelope())
    headers = {
        "Connection": "close",
        "Content-Type": "application/json",
        "Content-Length": len(body),
        **error.headers(),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    util.write_nonblock(sock, f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1", "replace") + body)


util.write_error = _write_error
wsgi.Response = responses.Response

bind = [f"{settings.HOST}:{settings.PORT}"]
proc_name = "pixelpar"
worker_class = "config.threads.Worker"
workers = settings.WEB_PROCESSES or len(cores.USABLE)
threads = settings.WEB_THREADS
# Above the threads, or connections wait unseen for a place; idle kept-alive ones count too.
worker_connections = settings.WEB_THREADS * 4
backlog = 4096
keepalive = 75
# A provider may take its whole time, and a thread that waits does not keep its process from saying it is alive.
timeout = 120
graceful_timeout = settings.PROVIDER_TIMEOUT_S + 20
# The pool of database connections opens after the fork, never before it.
preload_app = False
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - gunicorn's heartbeats stay off the disk
worker_tmp_dir = _SHARED_MEMORY if os.path.isdir(_SHARED_MEMORY) else None
limit_request_line = 8190
limit_request_field_size = 16_380
forwarded_allow_ips = "127.0.0.1,::1" if settings.ALLAUTH_TRUSTED_PROXY_COUNT else ""


_cores = spread.Cores(workers, wanted=settings.WEB_KEEPS_TO_CORES)


def pre_fork(server: Any, worker: Any) -> None:
    """The master knows who has which core."""
    worker.core = _cores.take(worker.age)


def post_fork(server: Any, worker: Any) -> None:
    """Small stacks: a thousand threads then cost their own pages only. Loading makes no garbage worth looking for."""
    gc.disable()
    if worker.core is not None:
        cores.keep_to(worker.core)
    threading.stack_size(512 * 1024)


def post_worker_init(worker: Any) -> None:
    """What was loaded stays loaded: the collector need not look at it again, nor at every few hundred new objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    gc.enable()


def child_exit(server: Any, worker: Any) -> None:
    """However a process ended: the others leave it no connections any more, and the next one gets its core."""
    spread.CONNECTIONS.leave(worker.age)
    _cores.leave(worker.age)


def when_ready(server: Any) -> None:
    """Tell the supervisor that connections are taken."""
    path = os.environ.get("READY_FILE")
    if path:
        with contextlib.suppress(OSError), open(path, "w") as handle:  # that it is there is enough
            handle.write(str(os.getpid()))
