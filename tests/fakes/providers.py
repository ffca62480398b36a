"""A real HTTP server that answers like the providers, strictly by their rules, and misbehaves on request.

In a test: `with ProviderFake() as fake: ... fake.openai_url`. As a process: `python -m tests.fakes.providers --port N`.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self

import orjson

from tests.fakes import (
    _bills,
    _fal,
    _forms,
    _google,
    _local,
    _openai,
    _openai_edits,
    _replicate,
    _together,
    _xai,
    misbehaviour,
)
from tests.fakes._exchange import Exchange, Part, Reply, Seen
from tests.fakes.misbehaviour import Behaviour

OPENAI_KEY = "sk-test-openai-0123456789abcdef"
FAL_KEY = "fal-id-0123:fal-secret-4567"
GEMINI_KEY = "AIzaTestGemini0123456789abcdef"
REPLICATE_TOKEN = "r8_TestReplicate0123456789abcdef"
XAI_KEY = "xai-TestXai0123456789abcdef"
TOGETHER_KEY = "tgp_v1_TestTogether0123456789abcdef"

# The routes that make pictures; a behaviour without a route is played on these.
CREATING = frozenset({"openai", "edits", "run", "submit"})
_REMEMBERED = 20_000
# Of requests with pictures in them so many are remembered whole, later ones without their contents.
_LARGE_BYTES, _LARGE_REMEMBERED = 64 * 1024, 200
_MAX_BODY_BYTES = 64 * 1024 * 1024


class Service(Protocol):
    """One more provider, served under its own prefix. Its routes' names are its own; `creating` ones make pictures."""

    base: str

    @property
    def prefix(self) -> str: ...
    @property
    def creating(self) -> frozenset[str]: ...
    def route(self, method: str, path: str) -> str: ...
    def work(self, seen: Seen) -> Reply: ...
    def billed(self) -> int: ...
    def reset(self) -> None: ...


class ProviderFake:
    """The server with its counters. `calls` counts creating requests, `billed` the pictures a provider would charge."""

    def __init__(
        self,
        *,
        port: int = 0,
        openai_key: str = OPENAI_KEY,
        fal_key: str = FAL_KEY,
        delay_s: float = 0.0,
        queue_s: float = 0.0,
        retired: frozenset[str] = frozenset(),
        picture_bytes: int = 0,
    ) -> None:
        self.delay_s = delay_s
        self.openai_key, self.fal_key = openai_key, fal_key
        self._retired, self._picture_bytes = retired, picture_bytes
        self._port = port
        self._lock = threading.Lock()
        self._scripts: dict[str | None, collections.deque[Behaviour]] = collections.defaultdict(collections.deque)
        self._standing: dict[str | None, Behaviour] = {}
        self._calls, self._billed, self._large = 0, 0, 0
        self._requests: collections.deque[Seen] = collections.deque(maxlen=_REMEMBERED)
        self.stopping = threading.Event()
        self.fal = _fal.Service(key=fal_key, delay_s=delay_s, queue_s=queue_s)
        self.google = _google.Service(key=GEMINI_KEY)
        self.replicate = _replicate.Service(
            key=REPLICATE_TOKEN, stopping=self.stopping, queue_s=queue_s, delay_s=delay_s
        )
        self.xai, self.together, self.local = (
            _xai.Service(key=XAI_KEY),
            _together.Service(key=TOGETHER_KEY),
            _local.Service(),
        )
        self.bills = _bills.Service()
        self.services: tuple[Service, ...] = (
            *(self.google, self.replicate, self.xai, self.together, self.local, self.bills),
        )
        self.connections = 0  # how many were ever opened

    # Life

    def start(self) -> Self:
        self._server = _Server(("127.0.0.1", self._port), self)
        self.fal.base = self.url
        for service in self.services:
            service.base = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="fake", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.close_all()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def openai_url(self) -> str:
        return f"{self.url}/v1"

    @property
    def fal_run_url(self) -> str:
        return f"{self.url}/fal/run"

    @property
    def fal_queue_url(self) -> str:
        return f"{self.url}/fal/queue"

    @property
    def google_url(self) -> str:
        return f"{self.url}/google/v1beta"

    @property
    def replicate_url(self) -> str:
        return f"{self.url}/replicate/v1"

    @property
    def xai_url(self) -> str:
        return f"{self.url}/xai/v1"

    @property
    def together_url(self) -> str:
        return f"{self.url}/together/v1"

    @property
    def local_url(self) -> str:
        return f"{self.url}/local/v1"

    @property
    def openai_admin_url(self) -> str:
        return f"{self.url}/bills/openai/v1"

    @property
    def fal_admin_url(self) -> str:
        return f"{self.url}/bills/fal/v1"

    # What it saw

    @property
    def calls(self) -> int:
        with self._lock:
            return self._calls

    @property
    def billed(self) -> int:
        with self._lock:
            return self._billed + self.fal.billed() + sum(service.billed() for service in self.services)

    @property
    def requests(self) -> list[Seen]:
        with self._lock:
            return list(self._requests)

    def reset(self) -> None:
        """Forget counts, scripts, jobs and files, as if just started; connections are ended."""
        self._server.close_all()
        with self._lock:
            self._calls = self._billed = self._large = self.connections = 0
            self._requests.clear()
            self._scripts.clear()
            self._standing.clear()
            self.fal.jobs.clear()
            self.fal.files.clear()
            for service in self.services:
                service.reset()

    # What it is told

    def script(self, *behaviours: Behaviour, on: str | None = None) -> None:
        """Play these on the next requests, one each; `on` is a route: openai, models, run, submit, status, result…"""
        with self._lock:
            self._scripts[on].extend(behaviours)

    def behave(self, behaviour: Behaviour | None, *, on: str | None = None) -> None:
        """Play this on every request from now on; None ends it."""
        with self._lock:
            if behaviour is None:
                self._standing.pop(on, None)
            else:
                self._standing[on] = behaviour

    # One request

    def route(self, method: str, path: str) -> str:
        """The name of what is asked for; "unknown" for anything a provider does not serve."""
        for service in self.services:
            if path.startswith(service.prefix):
                return service.route(method, path)
        return _route(method, path)

    def serve(self, handler: BaseHTTPRequestHandler, seen: Seen) -> None:
        behaviour = self._note(seen)
        work = self._work(seen)
        exchange = Exchange(handler, seen=seen, work=work, bill=self._bill, stopping=self.stopping)
        behaviour(exchange)

    def _note(self, seen: Seen) -> Behaviour:
        creating = seen.route in CREATING or any(seen.route in service.creating for service in self.services)
        with self._lock:
            self._calls += creating
            self._remember(seen)
            for name in (seen.route, None) if creating else (seen.route,):
                if self._scripts[name]:
                    return self._scripts[name].popleft()
            for name in (seen.route, None) if creating else (seen.route,):
                if name in self._standing:
                    return self._standing[name]
        return misbehaviour.honest()

    def _remember(self, seen: Seen) -> None:
        if int(seen.headers.get("content-length") or 0) > _LARGE_BYTES:
            self._large += 1
            if self._large > _LARGE_REMEMBERED:
                seen = dataclasses.replace(seen, json=None, parts=())
        self._requests.append(seen)

    def _bill(self, pictures: int) -> None:
        with self._lock:
            self._billed += pictures

    def _work(self, seen: Seen) -> Callable[[], Reply]:
        def slow(work: Callable[[], Reply]) -> Callable[[], Reply]:
            def run() -> Reply:
                reply = work()
                if reply.events:
                    reply.pause_s = self.delay_s / len(reply.events)
                elif reply.pictures:
                    self.stopping.wait(self.delay_s)
                return reply

            return run

        if seen.route == "openai":
            return slow(
                lambda: _openai.generate(
                    seen, key=self.openai_key, retired=self._retired, at_least_bytes=self._picture_bytes
                )
            )
        if seen.route == "edits":
            return slow(
                lambda: _openai_edits.edit(
                    seen, key=self.openai_key, retired=self._retired, at_least_bytes=self._picture_bytes
                )
            )
        if seen.route == "models":
            return lambda: _openai.models(seen, key=self.openai_key, retired=self._retired)
        if seen.route == "run":
            return slow(lambda: self.fal.run(seen))
        verbs = {"submit": self.fal.submit, "status": self.fal.status, "result": self.fal.result}
        verbs |= {"cancel": self.fal.cancel, "file": self.fal.file}
        if seen.route in verbs:
            return lambda: verbs[seen.route](seen)
        found = [service for service in self.services if seen.path.startswith(service.prefix)]
        if found and seen.route != "unknown":
            return slow(lambda: found[0].work(seen))
        return lambda: Reply(404, {"detail": "Not Found", "error": {"message": "Unknown route.", "code": None}})


def _route(method: str, path: str) -> str:
    if method == "POST" and path == "/v1/images/generations":
        return "openai"
    if method == "POST" and path == "/v1/images/edits":
        return "edits"
    if method == "GET" and path.startswith("/v1/models"):
        return "models"
    if path.startswith("/fal/run/"):
        return "run" if method == "POST" else "unknown"
    if path.startswith("/fal/files/"):
        return "file" if method == "GET" else "unknown"
    if not path.startswith("/fal/queue/"):
        return "unknown"
    if "/requests/" not in path:
        return "submit" if method == "POST" else "unknown"
    last = path.rpartition("/")[2]
    if method == "PUT":
        return "cancel" if last == "cancel" else "unknown"
    return "status" if last == "status" else "result"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        size_bytes = int(self.headers.get("Content-Length") or 0)
        if size_bytes > _MAX_BODY_BYTES:
            self.close_connection = True
            return
        body: Any = None
        data = self.rfile.read(size_bytes)
        with contextlib.suppress(orjson.JSONDecodeError):
            body = orjson.loads(data)
        parts: tuple[Part, ...] = ()
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            with contextlib.suppress(_forms.Malformed):
                parts = _forms.read(kind, data)
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = Seen(self.server.fake.route(self.command, path), self.command, path, headers, body, parts, query)
        self.server.fake.serve(self, seen)

    do_GET = do_PUT = do_POST

    def log_message(self, *args: Any) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 2_048
    daemon_threads = True

    def __init__(self, address: tuple[str, int], fake: ProviderFake) -> None:
        self.fake = fake
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the parent's look-up of the host's name, which asks a name server."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self.fake.connections += 1
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is nothing to print about; anything else is a fault of the fake."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def close_all(self) -> None:
        """End the connections that are kept alive or hang."""
        for request in list(self._open):
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay-s", type=float, default=0.0)
    parser.add_argument("--queue-s", type=float, default=0.0)
    parser.add_argument("--picture-bytes", type=int, default=0, help="pad PNG answers of openai to at least this")
    parser.add_argument("--openai-key", default=OPENAI_KEY)
    parser.add_argument("--fal-key", default=FAL_KEY)
    asked = parser.parse_args()
    threading.stack_size(256 * 1024)
    fake = ProviderFake(
        port=asked.port,
        delay_s=asked.delay_s,
        queue_s=asked.queue_s,
        picture_bytes=asked.picture_bytes,
        openai_key=asked.openai_key,
        fal_key=asked.fal_key,
    )
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    with fake:
        print(f"OPENAI_BASE_URL={fake.openai_url}", flush=True)
        print(f"FAL_RUN_URL={fake.fal_run_url}", flush=True)
        print(f"FAL_QUEUE_URL={fake.fal_queue_url}", flush=True)
        print(f"GEMINI_BASE_URL={fake.google_url}", flush=True)
        print(f"REPLICATE_BASE_URL={fake.replicate_url}", flush=True)
        print(f"XAI_BASE_URL={fake.xai_url}", flush=True)
        print(f"TOGETHER_BASE_URL={fake.together_url}", flush=True)
        done.wait()


if __name__ == "__main__":
    main()
