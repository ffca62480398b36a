"""T-27 for real: the store and the database on disks of their own, filled to the last byte under load, and freed."""

from __future__ import annotations

import collections
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import requests

from core import database
from tests.sources import ROOT
from tests.test_run import Copy, keys_in

LEASE_S = 5
CALLERS = 3
_ASKED = {"model": "gpt-image-1", "prompt": "a fox", "size": "1024x1024", "quality": "low", "output_format": "jpeg"}
_AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


@pytest.fixture
def disks() -> Iterator[tuple[Path, Path]]:
    """Two disks in memory, for the data folder and for the store; unmounted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="pixelpar-disks-"))
    folder.chmod(0o755)
    found = folder / "data", folder / "store"
    options = f"size=300m,mode=0755,uid={os.geteuid()}"
    try:
        for disk in found:
            disk.mkdir()
            command = [*_AS_ROOT, "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"this needs root, or sudo without a password, to mount: {done.stderr.strip()}"
        yield found
    finally:
        for disk in found:
            if disk.is_mount():
                subprocess.run([*_AS_ROOT, "umount", "--lazy", str(disk)], check=True)
            disk.rmdir()
        folder.rmdir()


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Filled, and kept so: whatever is given free meanwhile is taken again."""
    done = threading.Event()

    def fill() -> None:
        with open(disk / "filler", "wb", buffering=0) as file:
            while not done.wait(0.2):
                with contextlib.suppress(OSError):
                    while file.write(b"x" * 4096):
                        pass

    filler = threading.Thread(target=fill)
    filler.start()
    try:
        yield
    finally:
        done.set()
        filler.join()
        (disk / "filler").unlink()


class Load:
    """A few callers who ask for pictures, and one for the balance, until it is enough."""

    def __init__(self, copy: Copy, key: str) -> None:
        self.seen: collections.Counter[tuple[str, int, str]] = collections.Counter()
        self.wrong: list[str] = []
        self.last_good_s = 0.0
        self._copy, self._headers = copy, {"Authorization": f"Bearer {key}"}
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._keep_asking, args=(self._create,)) for _ in range(CALLERS)]
        self._threads.append(threading.Thread(target=self._keep_asking, args=(self._balance,)))

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join(60)

    def wait_until_good(self, *, within_s: float) -> float:
        """How long it took until a picture was made."""
        began_s = time.monotonic()
        while self.last_good_s < began_s:
            assert time.monotonic() - began_s < within_s, f"no picture again within {within_s} s: {self.seen}"
            time.sleep(0.1)
        return time.monotonic() - began_s

    def _create(self) -> requests.Response:
        url = f"{self._copy.url}/openai/v1/images/generations"
        return requests.post(url, json=_ASKED, headers=self._headers, timeout=60)

    def _balance(self) -> requests.Response:
        return requests.get(f"{self._copy.url}/v1/balance", headers=self._headers, timeout=60)

    def _keep_asking(self, ask: Callable[[], requests.Response]) -> None:
        while not self._done.wait(0.4):
            try:
                answer = ask()
                document = answer.json()
            except (requests.RequestException, ValueError) as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
                continue
            code = document["error"]["code"] if "error" in document else ""
            self.seen[ask.__name__, answer.status_code, code] += 1
            if answer.status_code == 200 and ask == self._create:
                self.last_good_s = time.monotonic()
            if answer.status_code not in (200, 503) or (code and "Retry-After" not in answer.headers):
                self.wrong.append(f"{answer.status_code}: {answer.text[:300]}")


def end_the_journal(folder: Path) -> None:
    """Ask for new files of the journal until PostgreSQL ends because it finds no room for one; its last words may find
    none either."""
    server = database.locate(folder)
    deadline_s = time.monotonic() + 20
    while database.running(server):
        assert time.monotonic() < deadline_s, "PostgreSQL still finds room"
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(**server.parameters(database.OWNER_ROLE), autocommit=True) as owner,
        ):
            owner.execute("SELECT pg_logical_emit_message(false, 'full', 'disk'), pg_switch_wal()")


def verified(environment: dict[str, str]) -> str:
    command = [sys.executable, "manage.py", "ledger", "verify"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


@pytest.mark.prove
@pytest.mark.needs("mount")
def test_disks_that_fill_up_under_load_cost_nobody_anything_and_nobody_has_to_come(
    disks: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, store = disks
    monkeypatch.setenv("STORE_DIR", str(store))
    monkeypatch.setenv("LEASE_S", str(LEASE_S))
    copy = Copy(data)
    try:
        copy.wait()
        (key,) = keys_in(copy.output)
        before = len(copy.output)
        with Load(copy, key) as load:
            load.wait_until_good(within_s=20)
            with full(store):
                time.sleep(4)
            store_s = load.wait_until_good(within_s=10)
            with full(data):
                time.sleep(5)
            data_s = load.wait_until_good(within_s=15)
            with full(data):
                end_the_journal(data)
                time.sleep(12)
            journal_s = load.wait_until_good(within_s=40)
        environment = {**os.environ, "DATA_DIR": str(data)}
        deadline_s = time.monotonic() + 3 * LEASE_S + 45
        while "0 of them open" not in (found := verified(environment)):
            assert time.monotonic() < deadline_s, found
            time.sleep(1)
        assert found.startswith("exact")
        assert load.wrong == []
        asked = {code for name, _, code in load.seen if name == "_create"}
        assert asked >= {"", "storage_failed", "storage_unavailable", "overloaded"}
        output = copy.output[before:]
        assert re.findall(r"^(?:web|worker) ended with.*", output, re.MULTILINE) == []
        assert "PostgreSQL could not be started, trying again" in output
        assert "No space left on device" in output
    finally:
        copy.interrupt()
    print(
        f"T-27: a full store, a full database and a full journal under load: {sum(load.seen.values())} answers, "
        f"{sum(count for (_, status, _), count in load.seen.items() if status == 503)} of them 503, the others 200; "
        f"0 violations; pictures again {store_s:.1f}, {data_s:.1f} and {journal_s:.1f} s after there was room"
    )
