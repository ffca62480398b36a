"""Processes to cut short: a small parent that forks one for each order, so that a kill costs milliseconds.

As a process: `python -m tests.victims`; it reads one JSON order a line and writes one JSON report a line.
"""

from __future__ import annotations

import errno
import functools
import importlib
import json
import os
import pkgutil
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_ORDER_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of one order: the signal that ended it, that it is stopped, or what it has to report."""

    pid: int
    signal: int = 0
    stopped: bool = False
    report: Any = None

    @property
    def killed(self) -> bool:
        return self.signal == signal.SIGKILL


class Victims:
    """The tests' side: orders go out, endings come back, one after the other."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self.store = Path(variables["STORE_DIR"])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.victims"],
            env={**variables, "DATABASE_POOL_SIZE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Stopped victims go with their parent."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def create(self, headers: Mapping[str, str], body: Mapping[str, Any], **how: Any) -> Ending:
        """One request through the whole of the web application. `how`: fault, environ, settings."""
        return self._order({"verb": "create", "headers": dict(headers), "body": dict(body), **how})

    def sweep(self, **how: Any) -> Ending:
        return self._order({"verb": "sweep", **how})

    def work(self, **how: Any) -> Ending:
        """What a worker does: the asynchronous requests that wait, one after the other."""
        return self._order({"verb": "work", **how})

    def wake(self, ending: Ending) -> Ending:
        """Let a stopped one go on, to its end."""
        return self._order({"verb": "wake", "pid": ending.pid})

    def _order(self, order: dict[str, Any]) -> Ending:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({**order, "store": str(self.store)}) + "\n")
        self._process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(_ORDER_TIMEOUT_S):
                raise AssertionError(f"no report within {_ORDER_TIMEOUT_S} s for {order['verb']} {order.get('fault')}")
        return Ending(**json.loads(self._process.stdout.readline()))


# The other side


def _fault(word: str) -> Callable[[str], None]:
    """`action@point`, where the action is one of those below."""
    action, _, wanted = word.partition("@")

    def hook(name: str) -> None:
        if name == wanted:
            _ACTIONS[action](name)

    return hook


def _raise(name: str) -> None:
    raise RuntimeError(f"fault at {name}")


def _database(name: str) -> None:
    from django.db import OperationalError

    raise OperationalError(f"fault at {name}")


def _cut(_: str) -> None:
    """End the pool's only connection from the server's side, as a restart of the database would."""
    import psycopg
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    connection.close()
    found = {name: value for name, value in connection.get_connection_params().items() if name in _ADDRESS and value}
    with psycopg.connect(**found, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])


def _full(_: str) -> None:
    """A limit on the size of files makes the kernel refuse the write after a part of it, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, resource.RLIM_INFINITY))


def _closed(_: str) -> None:
    """A store that can no longer be written to."""
    real = os.open

    def refuse(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return real(path, flags, *rest, **more)

    os.open = refuse


_ADDRESS = ("dbname", "user", "password", "host", "port")
_ACTIONS: dict[str, Callable[[str], None]] = {
    "kill": lambda _: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda _: os.kill(os.getpid(), signal.SIGSTOP),
    "raise": _raise,
    "database": _database,
    "cut": _cut,
    "full": _full,
    "closed": _closed,
}


def _do(order: Mapping[str, Any]) -> Any:
    from django.conf import settings

    from core import faults
    from imagesapi import catalog

    settings.STORE_DIR = Path(order["store"])
    if order.get("fault"):
        faults.hook = _fault(order["fault"])
    if order.get("environ"):
        os.environ.update(order["environ"])
        catalog._current = None
    for name, value in order.get("settings", {}).items():
        setattr(settings, name, value)
    return {"create": lambda: _create(order), "work": _work, "sweep": _sweep}[order["verb"]]()


@functools.cache
def _client() -> Any:
    from django.test import Client

    client = Client(raise_request_exception=False)
    client.handler.load_middleware()
    return client


def _create(order: Mapping[str, Any]) -> Any:
    reply = _client().post(
        "/openai/v1/images/generations",
        data=json.dumps(order["body"]),
        content_type="application/json",
        headers={**order["headers"], "Host": "127.0.0.1"},
    )
    return {"status": reply.status_code, "body": json.loads(reply.content), "headers": dict(reply.headers)}


def _work() -> Any:
    from imagesapi import jobs
    from imagesapi.models import Generation

    waiting = [str(number) for number in Generation.objects.filter(status="pending").values_list("pk", flat=True)]
    for number in waiting:
        jobs.run(number)
    return waiting


def _sweep() -> Any:
    from dataclasses import asdict

    from imagesapi import recovery

    return asdict(recovery.sweep())


def _fork(order: Mapping[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            os.write(writing, json.dumps(_do(order)).encode())
            code = 0
        except BaseException as error:  # noqa: BLE001 - a victim must never run on as a second parent
            os.write(writing, json.dumps({"raised": f"{type(error).__name__}: {error}"}).encode())
        finally:
            os._exit(code)
    os.close(writing)
    _reports[pid] = reading
    return _wait(pid)


_reports: dict[int, int] = {}


def _wait(pid: int) -> dict[str, Any]:
    _, status = os.waitpid(pid, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        return {"pid": pid, "stopped": True}
    with open(_reports.pop(pid), "rb") as pipe:
        written = pipe.read()
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return {"pid": pid, "signal": number, "report": json.loads(written) if written else None}


def main() -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    django.setup()
    from django.urls import get_resolver

    from core import sql
    from imagesapi import catalog, jobs, providers, recovery  # noqa: F401

    # What is loaded here, no child loads.
    _client()
    _ = get_resolver().url_patterns
    for module in pkgutil.iter_modules(providers.__path__):
        importlib.import_module(f"{providers.__name__}.{module.name}")
    catalog.snapshot()
    sql.end_pool()
    # Reports have the pipe to themselves, whatever else is printed.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        order = json.loads(line)
        if order["verb"] == "wake":
            os.kill(order["pid"], signal.SIGCONT)
            found = _wait(order["pid"])
        else:
            found = _fork(order)
        print(json.dumps(found), file=reports, flush=True)


if __name__ == "__main__":
    main()
