"""T-08: a process killed at any step of a request, or of the recovery after it, loses no money and no picture."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from django.conf import settings

from core import sql
from imagesapi import recovery, results
from imagesapi.models import Generation
from tests import calls, money
from tests.fakes import misbehaviour
from tests.fakes.providers import ProviderFake
from tests.imagesapi import steps
from tests.imagesapi.steps import STEPS
from tests.people import IssuedKey
from tests.servers import LiveServer, environment, free_port
from tests.victims import Victims

KILLS = 500
CUSTOMERS = 12


def test_every_point_of_the_source_has_a_step_here() -> None:
    assert steps.points() == set(STEPS) | set(steps.OF_WORKERS)


def test_a_kill_at_any_point_of_a_request_or_of_its_recovery_loses_nothing(
    victims: Victims, fake: ProviderFake
) -> None:
    cases = [begin_and_kill(victims, fake, point) for point, step in STEPS.items() if not step.first]
    steps.wait_for_leases()
    victims.sweep()
    for point in [point for point, step in STEPS.items() if step.first]:
        case = steps.begin(fake, point)
        assert steps.request(victims, case, f"kill@{case.step.first}").killed
        steps.expire_leases()
        assert victims.sweep(fault=f"kill@{point}").killed, point
        cases.append(case)
    steps.expire_leases()
    victims.sweep()
    assert [wrong for case in cases for wrong in case.wrongs()] == []
    assert money.wrongs() == []
    steps.drop_leftovers(victims)
    assert list(results.waiting()) == []


def begin_and_kill(victims: Victims, fake: ProviderFake, point: str) -> steps.Case:
    case = steps.begin(fake, point)
    assert steps.request(victims, case, f"kill@{point}").killed, point
    return case


def children(server: LiveServer) -> list[int]:
    """The web processes under gunicorn's master."""
    command = ["ps", "-o", "pid=", "--ppid", str(server.processes[0].pid)]
    return [int(word) for word in subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()]


def keep_asking(server: LiveServer, key: IssuedKey, done: threading.Event) -> tuple[int, int]:
    """Requests one after the other; how many were answered, and how many broke off."""
    answered = broken = 0
    while not done.is_set():
        try:
            answered += calls.create(server, key, timeout_s=30).status_code == 200
        except requests.RequestException:
            broken += 1
    return answered, broken


def keep_recovering(done: threading.Event) -> None:
    while not done.wait(0.5):
        try:
            recovery.sweep()
        finally:
            sql.give_back()


def kill_at_random(server: LiveServer, kills: int) -> None:
    """Web processes, whichever, whenever; bounded in time."""
    deadline = time.monotonic() + 900
    while kills:
        assert time.monotonic() < deadline, f"{kills} kills are left after 15 minutes"
        time.sleep(random.uniform(0.05, 0.35))
        found = children(server)
        if len(found) > 1:
            with contextlib.suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
                kills -= 1


def until(true: Callable[[], bool], *, within_s: float) -> float:
    """How long it took to become true, in seconds."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < within_s
        time.sleep(0.05)
    return time.monotonic() - began


@pytest.mark.prove
def test_killing_web_processes_at_random_under_load_loses_nothing(
    committed: None, fake: ProviderFake, tmp_path: Path
) -> None:
    lease_s = 4
    settings.STORE_DIR = tmp_path / "images"
    fake.behave(misbehaviour.delayed(0.1))
    people = [money.customer(wallet_nanos=10**12)[1] for _ in range(CUSTOMERS)]
    variables = environment(fake, port=free_port(), folder=tmp_path, LEASE_S=str(lease_s), WEB_PROCESSES="4")
    done, swept = threading.Event(), threading.Event()
    # Loaded once and forked, a web process is back in a moment.
    with LiveServer(variables).start("--preload") as server, ThreadPoolExecutor(CUSTOMERS + 1) as pool:
        sweeper = pool.submit(keep_recovering, swept)
        asking = [pool.submit(keep_asking, server, key, done) for key in people]
        try:
            kill_at_random(server, KILLS)
        finally:
            done.set()
        answered, broken = (sum(column) for column in zip(*(each.result() for each in asking), strict=True))
        took_s = until(lambda: not money.open_holds(), within_s=2 * lease_s)
        swept.set()
        sweeper.result()
    assert broken > KILLS / 10
    assert money.wrongs() == []
    completed = Generation.objects.filter(status="completed").count()
    assert completed >= answered
    print(
        f"T-08: {KILLS} web processes killed under load, {answered} requests answered, {broken} broken off, "
        f"{completed} charged with their pictures stored, 0 violations; recovered {took_s:.1f} s after the end "
        f"(lease {lease_s} s)"
    )
