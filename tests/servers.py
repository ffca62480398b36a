"""The real server for tests: gunicorn and the worker as processes, on the test's own database, with fake providers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
import requests
from django.conf import settings
from django.db import connection

from imagesapi import catalog
from tests.fakes.providers import FAL_KEY, GEMINI_KEY, OPENAI_KEY, REPLICATE_TOKEN, ProviderFake

START_TIMEOUT_S = 40
# Of the tester's own environment: another database, and keys that would make more providers routable.
_NOT_PASSED_ON = ("DATABASE_URL", "DATABASE_OWNER_URL", "GEMINI_", "REPLICATE_", "STRIPE_")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(
    fake: ProviderFake | None, *, port: int, folder: Path, all_providers: bool = False, **more: str
) -> dict[str, str]:
    """What the platform's processes are started with: the application's role, this test's database and folders.

    Of the fakes, openai and fal have a key; the others only with `all_providers`, since a key makes them routable.
    """
    name = str(connection.settings_dict["NAME"])
    found = {
        **{key: value for key, value in os.environ.items() if not key.startswith(_NOT_PASSED_ON)},
        "PYTHONPATH": os.pathsep.join([str(settings.ROOT), str(settings.ROOT / "platform")]),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "DATA_DIR": str(settings.DATA_DIR),
        "SECRET_KEY": settings.SECRET_KEY,
        "STORE_DIR": str(folder / "images"),
        "STORE_FSYNC": "false",
        "WEB_PROCESSES": "1",
        "WEB_THREADS": "150",
        "IN_FLIGHT_LIMIT": "120",
        "LOG_LEVEL": "WARNING",
        "STRIPE_FAKE": "false",
    }
    if settings.EMBEDDED_DATABASE is not None:
        found["DATABASE_NAME"] = name
    else:
        owner = settings.DATABASE_OWNER
        login = f"{quote(owner['USER'])}:{quote(owner.get('PASSWORD', ''))}"
        found["DATABASE_URL"] = f"postgres://{login}@{owner['HOST']}:{owner.get('PORT') or 5432}/{name}"
    if fake is not None:
        found |= {
            "OPENAI_API_KEY": OPENAI_KEY,
            "OPENAI_BASE_URL": fake.openai_url,
            "FAL_KEY": FAL_KEY,
            "FAL_RUN_URL": fake.fal_run_url,
            "FAL_QUEUE_URL": fake.fal_queue_url,
        }
    if fake is not None and all_providers:
        found |= {
            "GEMINI_API_KEY": GEMINI_KEY,
            "GEMINI_BASE_URL": fake.google_url,
            "REPLICATE_API_TOKEN": REPLICATE_TOKEN,
            "REPLICATE_BASE_URL": fake.replicate_url,
        }
    return found | more


class LiveServer:
    """Web processes, and the worker when it is asked for; ended with the test."""

    def __init__(self, variables: dict[str, str]) -> None:
        self.variables = variables
        self.url = f"http://127.0.0.1:{variables['PORT']}"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the processes

    def start(self, *options: str, worker: bool = False) -> LiveServer:
        """`options` are gunicorn's, on top of the platform's own configuration."""
        self._spawn([sys.executable, "-m", "gunicorn", "-c", "python:config.gunicorn", *options, "config.wsgi"])
        if worker:
            self.start_worker()
        self.wait()
        return self

    def start_worker(self) -> subprocess.Popen[bytes]:
        return self._spawn([sys.executable, "manage.py", "worker"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self._log.close()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command,
            cwd=settings.ROOT,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def wait(self) -> None:
        """Until it answers."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            # Its first answer may take long too, on a machine where everything starts at once.
            with contextlib.suppress(requests.ConnectionError, requests.Timeout):
                requests.get(f"{self.url}/v1/balance", timeout=5)
                return
            if self.processes[0].poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the server did not start:\n{self.log()}")

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> None:
        for process in self.processes:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
        for process in self.processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.processes.clear()

    def forget(self) -> None:
        """Let go of what it said, once nobody will read it any more."""
        self._log.close()


@pytest.fixture(scope="session")
def shared_fake() -> Iterator[ProviderFake]:
    with ProviderFake() as fake:
        yield fake


@pytest.fixture
def fake(shared_fake: ProviderFake) -> ProviderFake:
    """The fake providers, with nothing counted and nothing scripted."""
    shared_fake.reset()
    return shared_fake


@pytest.fixture
def no_provider_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of a fresh clone; the snapshot of the catalogue is read anew, now and afterwards."""
    ours = ("OPENAI_", "FAL_", "MOCK_", "GEMINI_", "REPLICATE_", "XAI_", "TOGETHER_")
    for name in [name for name in os.environ if name.startswith(ours)]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(catalog, "_current", None)
    yield
    catalog._current = None


@pytest.fixture
def providers(fake: ProviderFake, no_provider_keys: None, monkeypatch: pytest.MonkeyPatch) -> ProviderFake:
    """openai and fal are configured in this process and reach the fakes."""
    monkeypatch.setenv("OPENAI_API_KEY", OPENAI_KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", fake.openai_url)
    monkeypatch.setenv("FAL_KEY", FAL_KEY)
    monkeypatch.setenv("FAL_RUN_URL", fake.fal_run_url)
    monkeypatch.setenv("FAL_QUEUE_URL", fake.fal_queue_url)
    return fake


@pytest.fixture(scope="session")
def session_server(
    django_db_setup: None,
    django_db_blocker: object,
    shared_fake: ProviderFake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[LiveServer]:
    """One real server for all tests of this process: starting one takes longer than most tests."""
    folder = tmp_path_factory.mktemp("server")
    with LiveServer(environment(shared_fake, port=free_port(), folder=folder)).start() as server:
        yield server
    server.forget()


@pytest.fixture
def server(committed: None, session_server: LiveServer, fake: ProviderFake) -> LiveServer:
    """The shared real server on an empty, committed database, with the catalogue in place."""
    return session_server
