"""Unmodified clients as processes, and a customer on the real server for them to speak for."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

from accounts import keys, organizations, users
from accounts.models import Organization
from billing import ledger
from core import ids, money
from tests.contract import installed
from tests.contract.lossy import LossyLine
from tests.contract.matrix import CLIENTS, Client
from tests.imagesapi import canvas
from tests.servers import LiveServer


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

    def another_key(self, **how: Any) -> str:
        return keys.create(self.organization, name="another", **how)[1]

    def ended_key(self) -> str:
        row, raw = keys.create(self.organization, name="ended")
        keys.revoke(row)
        return raw


class Process:
    """One language's clients in a process of their own; it answers a line of JSON with a line of JSON."""

    def __init__(self, name: str) -> None:
        major = name.rpartition(" ")[2]
        script = installed.node_folder() / "sdk.mjs" if name == "node" else installed.CLIENTS / "sdk.py"
        command = [*(["node"] if name == "node" else installed.python(major)), str(script)]
        self._process = subprocess.Popen(
            command, env=installed.for_clients(), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.versions = self._read()

    def ask(self, line: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        self._process.stdin.write(orjson.dumps(line) + b"\n")
        self._process.stdin.flush()
        return self._read()

    def paste(self, script: Path, folder: Path) -> str:
        """What an example prints that is run as it is."""
        line = {"do": "paste", "with": {"script": str(script), "folder": str(folder)}}
        return str(self.ask(line)["answer"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the client ended; what it said is above"
        found: dict[str, Any] = orjson.loads(line)
        return found

    def stop(self) -> None:
        assert self._process.stdin and self._process.stdout
        self._process.kill()  # it would take a second to end by itself, and holds nothing
        self._process.wait(10)
        self._process.stdin.close()
        self._process.stdout.close()


class Sdk:
    """One client, spoken by its process."""

    def __init__(self, client: Client, process: Process) -> None:
        self.client, self._process = client, process
        self.asked = 0

    @property
    def version(self) -> str:
        name = "openai" if self.client.version.startswith("openai ") else self.client.version
        return str(self._process.versions[name])

    def do(
        self,
        verb: str,
        customer: Customer,
        *,
        key: str | None = None,
        how: dict[str, Any] | None = None,
        base_url: str | None = None,
        **asked: Any,
    ) -> dict[str, Any]:
        """What the client's caller gets: {"answer": ...} or {"error": ...}. `how` is what the client is made with."""
        line: dict[str, Any] = {"do": verb, "base_url": base_url or customer.base_url, "api_key": key or customer.key}
        line |= {"with": asked, "package": self.client.package}
        if how is not None:
            line["how"] = how
        if self.client.through is not None:
            line["through"] = self.client.through
        if self.client.is_async:
            line["mode"] = "async"
        self.asked += 1
        return self._process.ask(line)

    def paste(self, script: Path, folder: Path) -> str:
        self.asked += 1
        return self._process.paste(script, folder)


@pytest.fixture(scope="session")
def process(session_server: LiveServer) -> Iterator[Callable[[str], Process]]:
    """Each is started once a session, when it is first needed: loading one takes longer than most tests.

    They end before the server does, which waits for its open connections.
    """
    installed.prepare()
    running: dict[str, Process] = {}

    def find(name: str) -> Process:
        if name not in running:
            running[name] = Process(name)
        return running[name]

    yield find
    for process in running.values():
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            process.stop()


@pytest.fixture
def sdk(request: pytest.FixtureRequest, process: Callable[[str], Process]) -> Iterator[Sdk]:
    """The client of `matrix.shows`."""
    client = CLIENTS[request.param]
    sdk = Sdk(client, process(client.process))
    assert sdk.version == installed.locked()[client.version], "another version is loaded than is locked"
    yield sdk
    assert sdk.asked, "the table would claim for a client what it never did"


@pytest.fixture
def customer(server: LiveServer) -> Customer:
    alice = users.create_verified("alice@example.com", name="Alice")
    organization = organizations.create("Alice & Co", owner=alice)
    _, raw = keys.create(organization, name="contract", created_by=alice)
    ledger.grant(organization.pk, amount_nanos=5 * money.NANOS_PER_USD, reason="test", reference=ids.new())
    return Customer(server, organization, raw)


@pytest.fixture
def lossy(server: LiveServer) -> Iterator[LossyLine]:
    """A line to the server on which replies get lost as told."""
    with LossyLine(server.url) as line:
        yield line


@dataclass(frozen=True)
class Pictures:
    """Files for edits: two different sources, and a mask for the first."""

    source: Path
    second: Path
    mask: Path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    folder = tmp_path_factory.mktemp("pictures")
    found = Pictures(folder / "source.png", folder / "second.png", folder / "mask.png")
    found.source.write_bytes(canvas.encoded(canvas.cornered(64, 64), "png"))
    found.second.write_bytes(canvas.encoded(canvas.cornered(32, 48), "png"))
    mask = Image.new("RGBA", (64, 64), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (16, 16, 48, 48))
    found.mask.write_bytes(canvas.encoded(mask, "png"))
    return found
