"""Keeps the web processes, the worker and the embedded database alive, and ends them together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from django.conf import settings

from core import database

Say = Callable[[str], object]

_POLL_S = 0.2
_DATABASE_CHECK_S = 5.0
_START_TIMEOUT_S = 60
_RESTART_PAUSE_S = 2.0
_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class _Child:
    """One program we keep running."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        self.started_at_s = time.monotonic()
        self.process = subprocess.Popen(  # noqa: S603 - our own programs
            self.command,
            cwd=settings.ROOT,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end them in order
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - we have no threads
        )


def _end_with_parent() -> None:
    """Linux: when we are killed outright, the children are told to stop."""
    with contextlib.suppress(OSError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Stop(Exception):
    """Somebody asked us to stop."""


def port_is_free(port: int | None = None) -> bool:
    """Whether the web server will get its address; gunicorn itself tries for five seconds and says so ten times."""
    port = settings.PORT if port is None else port
    family = socket.AF_INET6 if ":" in settings.HOST else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.HOST, port))
        except OSError:
            return False
        return True


# glibc's own, set before the start. Fewer arenas: with many threads it otherwise keeps what big bodies needed once.
# A body of megabytes comes from memory that an earlier one left: asking the kernel for it each time, page by page, and
# giving it back took longer than copying it.
_ALLOCATOR = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024 * 1024),
    "MALLOC_TRIM_THRESHOLD_": str(128 * 1024 * 1024),
}


def run(say: Say, *, server: database.Server | None, greet: Callable[[], object]) -> None:
    """Start the children, greet when requests are taken, and keep all alive until SIGINT or SIGTERM."""
    ready = Path(tempfile.mkdtemp(prefix="pixelpar-")) / "ready"
    children = [
        *_pretended_stripe(say),
        _Child("web", [sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", "config.wsgi"]),
        _Child("worker", [sys.executable, str(settings.ROOT / "manage.py"), "worker"]),
    ]
    path = os.pathsep.join([str(settings.ROOT), str(settings.ROOT / "platform")])
    web = next(child for child in children if child.name == "web")
    web.environment = {
        "READY_FILE": str(ready),
        "PYTHONPATH": path,
        **{name: os.environ.get(name, value) for name, value in _ALLOCATOR.items()},
    }

    def stop(number: int, frame: object) -> None:
        raise _Stop

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for child in children:
            child.start()
        _wait_until_ready(web, ready)
        greet()
        _watch(children, server, say)
    except _Stop:
        say("\nstopping")
    finally:
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        _end(children, say)
        for number, handler in previous.items():
            signal.signal(number, handler)
        with contextlib.suppress(OSError):
            ready.unlink(missing_ok=True)
            ready.parent.rmdir()


def _pretended_stripe(say: Say) -> list[_Child]:
    """The program that stands in for Stripe in development: it belongs to the tests, which an installed copy lacks."""
    if not (settings.STRIPE_FAKE and settings.DEVELOPMENT):
        return []
    if not (settings.ROOT / "tests" / "fakes" / "stripe.py").is_file():
        say("STRIPE_FAKE is on, but this copy came without tests/: top-ups will not work")
        return []
    if not port_is_free(settings.STRIPE_FAKE_PORT):
        say(f"port {settings.STRIPE_FAKE_PORT} is in use: no pretended Stripe, so no top-ups (STRIPE_FAKE_PORT)")
        return []
    host = "127.0.0.1" if settings.HOST in ("0.0.0.0", "::") else settings.HOST  # noqa: S104 - recognised
    webhook = f"http://{host}:{settings.PORT}/billing/stripe/webhook"
    command = [sys.executable, "-m", "tests.fakes.stripe", "--host", host, "--port", str(settings.STRIPE_FAKE_PORT)]
    command += ["--public-url", settings.STRIPE_BASE_URL, "--webhook", webhook]
    return [_Child("stripe", command, environment={"STRIPE_WEBHOOK_SECRET": settings.STRIPE_WEBHOOK_SECRET})]


def _wait_until_ready(web: _Child, ready: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not ready.exists():
        if web.process is not None and web.process.poll() is not None:
            raise database.DatabaseError(
                f"the web server did not start; is {settings.HOST}:{settings.PORT} in use? Set PORT to another one."
            )
        if time.monotonic() > deadline:
            raise database.DatabaseError("the web server did not start in time")
        time.sleep(0.05)


def _watch(children: list[_Child], server: database.Server | None, say: Say) -> None:
    checked_at_s = time.monotonic()
    while True:
        time.sleep(_POLL_S)
        now_s = time.monotonic()
        for child in children:
            if child.process is not None and child.process.poll() is not None:
                if now_s - child.started_at_s < _RESTART_PAUSE_S:
                    continue  # it ends at once; not so fast
                say(f"{child.name} ended with status {child.process.returncode}; starting it again")
                child.start()
        if server is not None and now_s - checked_at_s > _DATABASE_CHECK_S:
            checked_at_s = now_s
            if not database.running(server):
                say("PostgreSQL does not answer; starting it again")
                try:
                    database.start(server, say)
                except (database.DatabaseError, OSError, subprocess.SubprocessError) as error:
                    say(f"PostgreSQL could not be started, trying again: {_gist(str(error))}")


def _gist(message: str) -> str:
    """The line that says why, of a message that may hold the end of the server's log."""
    lines = [line for line in message.splitlines() if line.strip()] or [""]
    return next((line for line in reversed(lines) if "FATAL:" in line or "PANIC:" in line), lines[-1])


def _end(children: list[_Child], say: Say) -> None:
    """TERM to all, and KILL to what outlives a graceful stop."""
    for child in children:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + settings.PROVIDER_TIMEOUT_S + 30
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            say(f"{child.name} does not stop; ending it")
            child.process.kill()
            child.process.wait()
