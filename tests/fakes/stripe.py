"""A real HTTP server that answers like Stripe, with pages that take test cards, and misbehaves on request.

In a test: `with StripeFake() as fake: ... fake.url`. As a process beside the server in development, started by
`make run`: `python -m tests.fakes.stripe --port N --webhook URL`, the webhook's secret in STRIPE_WEBHOOK_SECRET.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.fakes._stripe_api import Answer, Api, payload
from tests.fakes._stripe_delivery import Delivery, Knobs
from tests.fakes._stripe_pages import Pages
from tests.fakes._stripe_world import World

KEY = "sk_test_pretended"
WEBHOOK_SECRET = "whsec_of_the_tests_0123456789abcdef"
_BODY_MAX_BYTES = 1024 * 1024
_REASON = {"message": "An error of ours.", "type": "api_error"}
_BUSY = {"message": "There is another request with this key.", "type": "invalid_request_error", "code": "lock_timeout"}
_MANY = {"message": "Too many requests.", "type": "invalid_request_error", "code": "rate_limit"}
# What may go wrong: "lost" and "hang" after the work is done, the others instead of it.
_INSTEAD = {"500": (500, _REASON), "409": (409, _BUSY), "429": (429, _MANY)}


class StripeFake:
    """One pretended account on a port of its own."""

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, public_url: str = "", key: str = KEY) -> None:
        self._host, self._port, self._public_url = host, port, public_url
        self.world = World()
        self.api = Api(self.world, key=key)
        self.pages = Pages(self.world)
        self.delivery: Delivery | None = None
        self.stopping = threading.Event()
        self._trouble: collections.deque[tuple[str, str, float]] = collections.deque()
        self._lock = threading.Lock()

    def misbehave(self, what: str, *, times: int = 1, on: str = "/v1/", seconds: float = 0.0) -> None:
        """The next requests to POST below `on` are lost, hang, or are answered with 500, 409 or 429."""
        assert what in {"lost", "hang", *_INSTEAD}
        self._trouble.extend([(what, on, seconds)] * times)

    def trouble_for(self, method: str, path: str) -> tuple[str, float]:
        with self._lock:
            if method != "POST" or not self._trouble or not path.startswith(self._trouble[0][1]):
                return "", 0.0
            what, _, seconds = self._trouble.popleft()
            return what, seconds

    def deliver_to(self, url: str, secret: str = WEBHOOK_SECRET, *, knobs: Knobs | None = None) -> Delivery:
        """Tell of every event from now on."""
        self.delivery = Delivery(url, secret, knobs=knobs)
        self.world.watchers.append(self.delivery.take)
        return self.delivery

    def posts(self, path: str) -> list[tuple[dict[str, Any], str]]:
        """What was posted to a path: values and idempotency key, each time it was tried."""
        return [(values, key) for method, to, values, key in self.api.asked if (method, to) == ("POST", path)]

    @property
    def url(self) -> str:
        return self._public_url or f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        self._server = _Server((self._host, self._port), self)
        self.world.base = self.url
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="stripe", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self.stopping.set()
        if self.delivery is not None:
            self.delivery.stop()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], fake: StripeFake) -> None:
        self.fake = fake
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hung up is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Small answers at once, not after the other side's acknowledgement.
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def _serve(self) -> None:
        fake = self.server.fake
        length = min(int(self.headers.get("Content-Length") or 0), _BODY_MAX_BYTES)
        body = self.rfile.read(length)
        if not self.path.startswith("/v1/"):
            status, page, location = fake.pages.answer(self.command, self.path, body)
            self._write(status, page, {"Content-Type": "text/html; charset=utf-8"}, location)
            return
        what, seconds = fake.trouble_for(self.command, self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if what in _INSTEAD:
            status, error = _INSTEAD[what]
            with fake.world.lock:  # it was asked for, and not done
                fake.api.asked.append((self.command, self.path, {}, headers.get("idempotency-key", "")))
            self._answer(Answer(status, {"error": error}))
            return
        answer = fake.api.answer(self.command, self.path, headers, body)
        if what == "lost" or (what == "hang" and fake.stopping.wait(seconds)):
            self.close_connection = True
            return
        self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        more = {"Content-Type": "application/json", "Request-Id": "req_fake", **answer.headers}
        self._write(answer.status, payload(answer), more, "")

    def _write(self, status: int, body: bytes, headers: dict[str, str], location: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)
            self.wfile.flush()

    do_GET = do_POST = do_DELETE = _serve

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said."""


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--public-url", default="")
    parser.add_argument("--webhook", required=True)
    options = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        fake = StripeFake(host=options.host, port=options.port, public_url=options.public_url).start()
    except OSError as error:
        sys.exit(f"the pretended Stripe cannot listen on {options.host}:{options.port}: {error}")
    fake.deliver_to(options.webhook, os.environ["STRIPE_WEBHOOK_SECRET"])
    ended.wait()
    fake.stop()


if __name__ == "__main__":
    main()
