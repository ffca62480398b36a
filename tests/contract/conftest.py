"""Unmodified SDKs as processes, and a customer on the real server for them to speak for."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from accounts import keys, organizations, users
from accounts.models import Organization
from billing import ledger
from core import ids, money
from tests.contract import installed
from tests.servers import LiveServer

PYTHON_CLIENTS = ("python newest", "python 1")
CLIENTS = [*PYTHON_CLIENTS, pytest.param("node", marks=pytest.mark.needs("node", "npm"))]


@dataclass(frozen=True)
class Customer:
    """Alice's organization on the real server, with five dollars and a key."""

    server: LiveServer
    organization: Organization
    key: str

    @property
    def base_url(self) -> str:
        return f"{self.server.url}/openai/v1"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}


class Sdk:
    """One SDK in a process of its own; it answers a line of JSON with a line of JSON."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.version = str(self._read()["version"])

    def do(self, verb: str, customer: Customer, *, key: str | None = None, **asked: Any) -> dict[str, Any]:
        """What the SDK's caller gets: {"answer": ...} or {"error": ...}."""
        line = {"do": verb, "base_url": customer.base_url, "api_key": key or customer.key, "with": asked}
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(line) + b"\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the client ended; what it said is above"
        found: dict[str, Any] = orjson.loads(line)
        return found

    def stop(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def start(name: str) -> Sdk:
    if name == "node":
        return Sdk(["node", str(installed.node_folder() / "generate.mjs")])
    python = installed.python_1() if name == "python 1" else installed.python_newest()
    return Sdk([*python, str(installed.CLIENTS / "generate.py")])


@pytest.fixture(scope="session")
def sdks(session_server: LiveServer) -> Iterator[dict[str, Sdk]]:
    """Those that were started; ended before the server is, which waits for its open connections."""
    running: dict[str, Sdk] = {}
    yield running
    for sdk in running.values():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            sdk.stop()


@pytest.fixture(params=CLIENTS)
def sdk(request: pytest.FixtureRequest, sdks: dict[str, Sdk]) -> Sdk:
    """Each of the SDKs in turn, started once a session: importing one takes longer than most tests."""
    name = request.param
    if name not in sdks:
        sdks[name] = start(name)
    return sdks[name]


@pytest.fixture
def customer(server: LiveServer) -> Customer:
    alice = users.create_verified("alice@example.com", name="Alice")
    organization = organizations.create("Alice & Co", owner=alice)
    _, raw = keys.create(organization, name="contract", created_by=alice)
    ledger.grant(organization.pk, amount_nanos=5 * money.NANOS_PER_USD, reason="test", reference=ids.new())
    return Customer(server, organization, raw)


@pytest.fixture
def example(customer: Customer, tmp_path: Path) -> Iterator[Any]:
    """Run an example as people paste it, with only the address and the key changed; returns what it prints."""
    written: list[Path] = []

    def run(name: str, command: list[str], folder: Path = tmp_path) -> str:
        text = (installed.HERE / "examples" / name).read_text()
        assert text.count("http://127.0.0.1:8000/openai/v1") == text.count("YOUR_API_KEY") == 1
        text = text.replace("http://127.0.0.1:8000/openai/v1", customer.base_url).replace("YOUR_API_KEY", customer.key)
        script = folder / f"{ids.new().hex}.{name.rpartition('.')[2]}"
        written.append(script)
        script.write_text(text)
        done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    yield run
    for script in written:
        script.unlink()
