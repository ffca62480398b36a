"""Requests for images against a real server: one, or many at the same moment, and providers that wait for a sign."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests

from core import money
from tests.fakes import misbehaviour
from tests.fakes._exchange import Exchange
from tests.fakes.providers import ProviderFake
from tests.people import IssuedKey
from tests.servers import LiveServer

ROUTE = "/openai/v1/images/generations"
ASKED: dict[str, Any] = {
    "model": "gpt-image-1",
    "prompt": "a red fox in the snow",
    "size": "1024x1024",
    "quality": "low",
    "response_format": "url",
}


def create(server: LiveServer, key: IssuedKey, *, timeout_s: float = 60, **asked: Any) -> requests.Response:
    """One image, over a connection of its own."""
    return requests.post(server.url + ROUTE, json={**ASKED, **asked}, headers=key.headers, timeout=timeout_s)


def hold_nanos(server: LiveServer, key: IssuedKey) -> int:
    """What a dry run says one request would reserve."""
    reply = requests.post(f"{server.url}{ROUTE}?dryRun=true", json=ASKED, headers=key.headers, timeout=20)
    return int(reply.json()["hold_micros"]) * money.NANOS_PER_MICRO


class Gate:
    """Providers that answer nobody until it opens; it counts who has reached them."""

    def __init__(self, fake: ProviderFake) -> None:
        self.waiting = 0
        self._lock = threading.Lock()
        self._opened = threading.Event()
        fake.behave(self._wait)

    def _wait(self, exchange: Exchange) -> None:
        with self._lock:
            self.waiting += 1
        self._opened.wait(90)
        misbehaviour.honest()(exchange)

    def open(self) -> None:
        self._opened.set()


def at_once(count: int, call: Callable[[int], requests.Response]) -> list[requests.Response]:
    """The answers to as many calls started at the same moment."""
    barrier = threading.Barrier(count)

    def one(number: int) -> requests.Response:
        barrier.wait(60)
        return call(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
