"""T-25: a full house refuses at once and says when to come back; what it took it finishes, holding no connection."""

from __future__ import annotations

import http.client
import json
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker

from billing.models import Hold
from imagesapi import recovery
from tests import calls, databases, money
from tests.calls import Gate
from tests.fakes import misbehaviour
from tests.fakes._exchange import Exchange
from tests.fakes.providers import ProviderFake
from tests.people import IssuedKey
from tests.servers import LiveServer, environment, free_port

WORK_S = 1.0
PLACES = 6
LEASE_S = 2
REFUSED = (429, 503)


@dataclass(frozen=True)
class Answer:
    """What one caller of the crowd got, and after how long."""

    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float


class Load:
    """Requests that arrive at a steady rate, whether or not earlier ones were answered."""

    def __init__(self, server: LiveServer, key: IssuedKey) -> None:
        self._address = urlsplit(server.url).netloc
        self._headers = {**key.headers, "Content-Type": "application/json"}
        self._body = json.dumps(calls.ASKED)
        self._local = threading.local()
        self._lines: list[http.client.HTTPConnection] = []

    def run(self, *, per_s: float, seconds: float) -> list[Answer]:
        began = time.monotonic()

        def one(number: int) -> Answer:
            time.sleep(max(began + number / per_s - time.monotonic(), 0))
            return self._ask()

        # Enough threads for everyone who is being served or waits to be.
        with ThreadPoolExecutor(max(int(per_s * WORK_S / 4), 40)) as pool:
            answers = list(pool.map(one, range(int(per_s * seconds))))
        for line in self._lines:
            line.close()
        return answers

    def _ask(self) -> Answer:
        line = getattr(self._local, "line", None)
        if line is None:
            line = self._local.line = http.client.HTTPConnection(self._address, timeout=60)
            self._lines.append(line)
        began = time.monotonic()
        line.request("POST", calls.ROUTE, self._body, self._headers)
        reply = line.getresponse()
        body = reply.read()
        took_s = time.monotonic() - began
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, body, took_s)


def _work(exchange: Exchange) -> None:
    """As providers do: never twice as long as the last time."""
    misbehaviour.delayed(WORK_S * random.uniform(0.5, 1.5))(exchange)


def flood(server: LiveServer, fake: ProviderFake, *, places: int, seconds: float) -> tuple[list[Answer], list[Answer]]:
    """Ten times what the house can do, for a while: who was accepted, and who was refused."""
    _, key = money.customer(wallet_nanos=10**12)
    fake.behave(_work)
    answers = Load(server, key).run(per_s=10 * places / WORK_S, seconds=seconds)
    accepted = [answer for answer in answers if answer.status not in REFUSED]
    refused = [answer for answer in answers if answer.status in REFUSED]
    for answer in refused:
        error = json.loads(answer.body)["error"]
        assert set(error) >= {"message", "type", "param", "code"}
        assert 1 <= int(answer.headers["retry-after"]) < 60
    assert {answer.status for answer in accepted} == {200}
    # The house was full all the time, and no fuller than it may be.
    assert places * seconds / WORK_S * 0.5 <= len(accepted) <= places * (seconds / WORK_S + 3)
    assert len(accepted) + len(refused) == len(answers)
    assert not Hold.objects.filter(state="held").exists()
    return accepted, refused


def quickest(answers: list[Answer], share: float) -> float:
    """The time within which this share of the answers came, in seconds."""
    return sorted(answer.took_s for answer in answers)[int(len(answers) * share) - 1]


def start_house(fake: ProviderFake, folder: Path, *, places: int) -> LiveServer:
    limits: dict[str, Any] = {"IN_FLIGHT_LIMIT": str(places), "WEB_THREADS": str(places + 30), "LEASE_S": str(LEASE_S)}
    return LiveServer(environment(fake, port=free_port(), folder=folder, **limits)).start()


@pytest.fixture(scope="module")
def module_house(
    django_db_setup: None,
    django_db_blocker: DjangoDbBlocker,
    shared_fake: ProviderFake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:
    with start_house(shared_fake, tmp_path_factory.mktemp("house"), places=PLACES) as found:
        yield found


@pytest.fixture
def house(committed: None, fake: ProviderFake, module_house: LiveServer) -> LiveServer:
    """A real server with few places and short leases, on an empty database."""
    settings.STORE_DIR = Path(module_house.variables["STORE_DIR"])
    return module_house


def test_a_full_house_refuses_at_once_and_finishes_what_it_took(house: LiveServer, fake: ProviderFake) -> None:
    accepted, refused = flood(house, fake, places=PLACES, seconds=3)
    assert fake.calls == len(accepted)
    # A machine busy with other tests may stutter; whoever waited for a place would have waited for a whole picture.
    assert quickest(refused, 0.9) <= 0.1
    assert quickest(refused, 1) < WORK_S
    assert money.wrongs() == []


@pytest.mark.prove
def test_a_full_house_refuses_within_100_ms_for_a_minute(committed: None, fake: ProviderFake, tmp_path: Path) -> None:
    settings.STORE_DIR = tmp_path / "images"
    with start_house(fake, tmp_path, places=20) as server:
        flood(server, fake, places=20, seconds=5)
        sizes: list[int] = []
        done = threading.Event()
        watcher = threading.Thread(target=_weigh, args=(server, sizes, done))
        watcher.start()
        accepted, refused = flood(server, fake, places=20, seconds=60)
        done.set()
        watcher.join()
    assert quickest(refused, 0.99) <= 0.1
    assert max(sizes) <= 1.1 * min(sizes)
    assert money.wrongs() == []
    print(
        f"T-25: {len(refused)} refused, p99 {quickest(refused, 0.99) * 1000:.0f} ms; {len(accepted)} accepted, 100 % "
        f"succeeded; memory {min(sizes) / 1024:.0f} to {max(sizes) / 1024:.0f} MB"
    )


def _weigh(server: LiveServer, sizes: list[int], done: threading.Event) -> None:
    """The resident size of the web processes in KB, every second."""
    command = ["ps", "-o", "rss=", "--ppid", str(server.processes[0].pid)]
    while not done.wait(1):
        found = subprocess.run(command, capture_output=True, text=True, check=True)
        sizes.append(sum(int(line) for line in found.stdout.split()))


def test_no_database_connection_is_held_while_providers_work(server: LiveServer, fake: ProviderFake) -> None:
    callers = 60
    gate = Gate(fake)
    _, key = money.customer(wallet_nanos=10**12)
    before = len(_connections_of_the_application())
    with ThreadPoolExecutor(callers) as pool:
        try:
            replies = [pool.submit(calls.create, server, key) for _ in range(callers)]
            deadline = time.monotonic() + 30
            while gate.waiting < callers and time.monotonic() < deadline:
                time.sleep(0.02)
            working = gate.waiting
            states = _connections_of_the_application()
        finally:
            gate.open()
        assert {reply.result().status_code for reply in replies} == {200}
    assert working == callers
    assert 0 < len(states) <= before + settings.DATABASE_POOL_SIZE
    assert set(states) == {"idle"}


def _connections_of_the_application() -> list[str]:
    """The state of each of its connections, seen from one of our own."""
    name = str(connection.settings_dict["NAME"])
    with databases.connect() as line:
        rows = line.execute(
            "SELECT state FROM pg_stat_activity WHERE datname = %s AND usename = %s AND pid <> pg_backend_pid()",
            [name, settings.APPLICATION_ROLE],
        ).fetchall()
    return [state for (state,) in rows]


def test_a_lease_lasts_as_long_as_its_request(house: LiveServer, fake: ProviderFake) -> None:
    _, key = money.customer(wallet_nanos=10**12)
    fake.behave(misbehaviour.delayed(2.2 * LEASE_S))
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(calls.create, house, key)
        swept = recovery.Report()
        while not reply.done():
            found = recovery.sweep()
            swept.settled, swept.voided = swept.settled + found.settled, swept.voided + found.voided
            time.sleep(0.25)
        assert reply.result().status_code == 200
    assert swept == recovery.Report()
    assert money.wrongs() == []
