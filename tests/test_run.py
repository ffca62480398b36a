"""`make run` as a newcomer meets it: one command, a key, a curl line, Ctrl-C; again with the data kept; two at once."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from core import database
from tests.servers import free_port
from tests.sources import ROOT

READY = "Pixelpar is at"
PROCESSES = Path("/proc")  # Linux; elsewhere nothing is counted
START_TIMEOUT_S = 60
# What would lead a copy elsewhere than to its own folder.
STRANGERS = (
    "DATABASE_URL",
    "DATABASE_OWNER_URL",
    "DATABASE_NAME",
    "SECRET_KEY",
    "BASE_URL",
    "DEVELOPMENT",
    "PYTHONPATH",
    "STRIPE_SECRET_KEY",
    "STRIPE_WEBHOOK_SECRET",
    "STRIPE_FAKE",
)


class Copy:
    """One copy of the platform, started as `make run` starts it."""

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = ""
        self.started_at_s = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if name not in STRANGERS}
        environment |= {"DATA_DIR": str(folder), "PORT": str(self.port), "WEB_PROCESSES": "1", "WEB_THREADS": "20"}
        environment["STRIPE_FAKE_PORT"] = str(free_port())
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if READY in line:
                self.ready.set()
        self.process.stdout.close()
        self.ready.set()

    def wait(self) -> float:
        """Until it says it is ready; how many seconds that took."""
        assert self.ready.wait(START_TIMEOUT_S), self.output
        assert READY in self.output, self.output
        return time.monotonic() - self.started_at_s

    def interrupt(self) -> None:
        """Ctrl-C."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGINT)
        self.process.wait(timeout=30)
        self._reader.join(timeout=10)

    def processes(self) -> set[str]:
        """Every process that mentions the folder or carries it in its environment: web, worker, PostgreSQL."""
        mark, found = os.fsencode(self.folder), set()
        for entry in PROCESSES.iterdir() if PROCESSES.exists() else ():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes() or mark in (entry / "cmdline").read_bytes():
                        found.add((entry / "comm").read_text().strip())
        return found

    def available(self, key: str) -> float:
        """The balance, in dollars."""
        answer = requests.get(f"{self.url}/v1/balance", headers={"Authorization": f"Bearer {key}"}, timeout=10)
        return float(answer.json()["available"]["amount"])


def keys_in(output: str) -> set[str]:
    return set(re.findall(r"pxp_[\w]+\.[\w-]+", output))


def top_up(copy: Copy) -> str:
    """Sign in as the demo's owner, pay 25 dollars with a test card at the pretended Stripe, and wait for the credit."""
    found = re.search(r"(demo@example\.com)\s+(\S+)", copy.output)
    assert found is not None
    with requests.Session() as person:

        def send(path: str, **fields: str) -> requests.Response:
            fields["csrfmiddlewaretoken"] = person.cookies["csrftoken"]
            return person.post(copy.url + path, fields, headers={"Referer": copy.url}, timeout=20)

        person.get(f"{copy.url}/accounts/login/", timeout=20)
        send("/accounts/login/", login=found[1], password=found[2])
        checkout = send("/app/billing/top-up", amount="25")
        assert "Pay 25.00 USD" in checkout.text
        person.post(checkout.url, {"number": "4242424242424242"}, timeout=20)
        deadline_s = time.monotonic() + 20
        while ">Paid<" not in (page := person.get(f"{copy.url}/app/billing", timeout=20).text):
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        return page


def paste(copy: Copy) -> Any:
    """The answer to the line that was shown, pasted as it is."""
    found = re.search(r"^ *(curl (?:.*\\\n)*.*)$", copy.output, re.MULTILINE)
    assert found is not None, copy.output
    done = subprocess.run(["bash", "-c", found[1]], capture_output=True, text=True, timeout=60, check=True)
    return orjson.loads(done.stdout)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder that PostgreSQL's account may enter when the tests run as root; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="pixelpar-run-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def copies() -> Iterator[list[Copy]]:
    """What is started here is ended here."""
    started: list[Copy] = []
    yield started
    for copy in started:
        copy.interrupt()


def test_it_runs_from_nothing_again_and_side_by_side(home: Path, copies: list[Copy]) -> None:
    first = Copy(home / "one")
    copies.append(first)
    first.wait()

    # The key is shown once, and the line works as it is pasted.
    (key,) = keys_in(first.output)
    assert first.output.count("API key ") == 1
    assert "demo@example.com" in first.output
    answer = paste(first)
    assert answer["metadata"]["simulated"] is True
    picture = requests.get(answer["data"][0]["url"], timeout=10)
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/png")
    assert picture.content.startswith(b"\x89PNG")
    spent = first.available(key)
    assert 0 < spent < 5

    # A whole top-up, with no account at Stripe.
    assert "pretended Stripe" in top_up(first)
    assert first.available(key) == round(spent + 25, 9)

    # Ctrl-C ends everything this copy started.
    assert not PROCESSES.exists() or {"postgres"} < first.processes()
    first.interrupt()
    assert first.process.returncode == 0, first.output
    assert first.processes() == set()

    # Again: everything is still there, nothing is shown twice, and it does not take long.
    subprocess.run(["cp", "-a", home / "one", home / "two"], check=True)
    again, second = Copy(home / "one"), Copy(home / "two")
    copies += [again, second]
    took_s = again.wait()
    second.wait()
    assert keys_in(again.output) == set()
    assert again.available(key) == second.available(key) == round(spent + 25, 9)
    assert took_s < 5 * _patience()

    # Two copies share nothing: what one spends the other still has.
    again.output = first.output.replace(first.url, again.url)  # the line with the key, which is shown once
    paste(again)
    assert again.available(key) < second.available(key) == round(spent + 25, 9)

    # A port that is taken is said in one line, before anything is started.
    taken = Copy(home / "three", port=second.port)
    copies.append(taken)
    assert taken.process.wait(timeout=START_TIMEOUT_S) == 1
    taken.interrupt()
    assert f"127.0.0.1:{second.port} is in use" in taken.output
    assert len(taken.output.splitlines()) == 1

    # What ends one leaves the other as it was.
    again.interrupt()
    assert again.processes() == set()
    assert second.available(key) == round(spent + 25, 9)


def _patience() -> float:
    """How much slower a busy machine is allowed to be: five seconds are promised on one that has nothing else to do."""
    cores = os.cpu_count() or 1
    return max(1.0, os.getloadavg()[0] / cores * 2)


def test_it_moves_the_database_out_of_a_closed_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # only root starts PostgreSQL as somebody else
    closed = home / "root"
    closed.mkdir(mode=0o700)
    server = database.locate(closed / "clone" / "var")
    assert server.account is not None
    assert server.data.parts[:4] == ("/", "var", "lib", "pixelpar")
    assert server.moved_because.startswith(f"{closed} is closed to the account")
    assert list(closed.iterdir()) == []
    assert server == database.locate(closed / "clone" / "var")
    assert server.data != database.locate(closed / "other" / "var").data


def test_it_keeps_the_database_beside_the_data_where_it_can(home: Path) -> None:
    server = database.locate(home / "var")
    assert server.data == home / "var" / "postgres"
    assert server.moved_because == ""


def test_it_keeps_socket_paths_short_enough(home: Path) -> None:
    deep = home / ("a" * 60) / ("b" * 60)
    server = database.locate(deep)
    assert len(os.fsencode(server.sockets / ".s.PGSQL.5432")) <= 107
    assert database.locate(deep).sockets == server.sockets != database.locate(deep / "c").sockets
