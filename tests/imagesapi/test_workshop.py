"""The workshop: children that know nothing, cost one job when they die, and never outlive or outnumber what is said."""

from __future__ import annotations

import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from pytest_django.fixtures import Settings

from core import errors
from imagesapi import imaging, pictures, workshop
from tests.imagesapi import canvas
from tests.sources import ROOT

MEMORY_BYTES = 768 * 1024 * 1024
SMALL = canvas.encoded(canvas.cornered(), "png")


@pytest.fixture(autouse=True)
def _one_child(settings: Settings) -> Iterator[None]:
    workshop.close()
    settings.WORKSHOP_PROCESSES = 1
    yield
    workshop.close()


def work(data: bytes = SMALL, *, limit_s: int = 10, memory_bytes: int = MEMORY_BYTES, patience_s: float = 5) -> bytes:
    job = ("prepare", "png", "32000000")
    _, made = workshop.run(*job, data=data, memory_bytes=memory_bytes, limit_s=limit_s, patience_s=patience_s)
    return made


@functools.cache
def large() -> bytes:
    """A job of a second and more."""
    noise = random.Random(1).randbytes(3_500 * 3_500)
    return canvas.encoded(Image.frombytes("L", (3_500, 3_500), noise), "png", compress_level=0)


def the_child() -> int:
    (pid,) = workshop.children()
    return pid


def state_of(pid: int) -> str:
    """The system's letter for what a process does, Z when it ended and nobody has asked how; "" where none tells."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # it ended just now, or this system has no such files
        return ""


def has_ended(pid: int) -> bool:
    """Also when nobody has asked yet how it ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return state_of(pid) == "Z"


def stop(pid: int) -> None:
    """Until it is continued it does nothing, as one that hangs; it is told so, and stands still a moment later."""
    os.kill(pid, signal.SIGSTOP)
    for _ in range(200):
        if state_of(pid) in ("T", ""):
            return
        time.sleep(0.005)
    pytest.fail(f"process {pid} does not stop: {state_of(pid)}")


def wait_until_gone(pid: int) -> None:
    for _ in range(200):
        if has_ended(pid):
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} is still there")


# What a child knows


def test_it_starts_no_child_before_there_is_work() -> None:
    assert workshop.children() == ()
    work()
    assert len(workshop.children()) == 1


def test_a_child_knows_nothing_but_pillow() -> None:
    code = "import sys; from imagesapi import workbench; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-PsB", "-c", code],
        env=workshop._environment(),
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    foreign = set(loaded.stdout.split()) - sys.stdlib_module_names - {"PIL", "imagesapi", "__main__"}
    assert {name for name in foreign if not name.startswith(("_", "sitecustomize"))} <= {"defusedxml"}


def test_a_child_inherits_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "very-secret")
    work()
    assert set(workshop._environment()) <= {"PYTHONPATH", "MALLOC_ARENA_MAX", "LD_LIBRARY_PATH"}
    found = Path(f"/proc/{the_child()}/environ")
    assert b"very-secret" not in (found.read_bytes() if found.exists() else b"")


def test_it_starts_quickly() -> None:
    starts = []
    for _ in range(3):
        started = time.monotonic()
        work()
        starts.append(time.monotonic() - started)
        workshop.close()
    print(f"\na child starts and does a small job in {min(starts) * 1000:.0f} ms")
    assert min(starts) < 1


# What it costs when a child dies


def test_a_child_that_is_killed_fails_one_job() -> None:
    work()
    first, data = the_child(), large()
    with ThreadPoolExecutor() as pool:
        lost = pool.submit(work, data)
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(workshop.Refused, match="decoding it failed"):
            lost.result(10)
    assert imaging.look(work()).width_px == 48
    assert the_child() != first


def test_a_child_that_hangs_is_replaced_at_the_deadline() -> None:
    work()
    first, data = the_child(), large()
    stop(first)
    started = time.monotonic()
    with pytest.raises(workshop.Refused, match="more than 1 seconds"):
        work(data, limit_s=1)
    assert 0.9 < time.monotonic() - started < 2.5
    wait_until_gone(first)
    assert work()


def test_a_child_that_died_idle_costs_nothing() -> None:
    work()
    first = the_child()
    os.kill(first, signal.SIGKILL)
    time.sleep(0.05)
    assert work()
    assert the_child() != first


def test_a_picture_that_needs_too_much_memory_is_refused() -> None:
    picture = canvas.encoded(Image.new("L", (6_000, 5_000)), "png")
    work()
    first = the_child()
    with pytest.raises(workshop.Refused, match="memory"):
        work(picture, memory_bytes=50 * 1024 * 1024)
    assert work(picture)
    assert the_child() == first


def test_a_child_ends_itself_when_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when its server is gone and cannot kill it."""
    work()
    first = the_child()
    child = next(iter(workshop._ours()._children))
    child._send(workshop.parcels.head((str(MEMORY_BYTES), "1", "prepare", "png", "32000000"), 10), time.monotonic() + 1)
    child._send(b"12345", time.monotonic() + 1)  # the rest never comes
    for _ in range(100):
        if child.process.poll() is not None:
            break
        time.sleep(0.03)
    assert child.process.returncode == -signal.SIGALRM
    assert work()
    assert the_child() != first


@pytest.mark.parametrize(
    ("program", "outcome"),
    [
        ("import sys; sys.exit(1)", workshop.Unavailable),
        ("print('hello' * 1_000)", workshop.Unavailable),
        ("READY; out.write(b'\\xff' * 400); out.flush(); sys.stdin.read()", workshop.Refused),
        ("READY; out.write(b'\\0\\0\\0\\4' + bytes(7) + b'\\x09made'); out.flush()", workshop.Refused),
        (
            "READY; out.write(b'\\0\\0\\0\\4' + bytes(8) + b'\\xff\\xfe\\0 '); out.flush(); sys.stdin.read()",
            workshop.Refused,
        ),
    ],
)
def test_it_believes_no_child(program: str, outcome: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    ready = r"import sys; out = sys.stdout.buffer; out.write(b'\0\0\0\5' + bytes(8) + b'ready'); out.flush()"
    monkeypatch.setattr(workshop, "_COMMAND", (sys.executable, "-c", program.replace("READY", ready)))
    with pytest.raises(outcome):
        work(limit_s=5)


# Many callers


def test_many_callers_share_few_children(settings: Settings) -> None:
    settings.WORKSHOP_PROCESSES = 2
    sent = [canvas.encoded(canvas.cornered(32 + number, 32), "png") for number in range(32)]
    with ThreadPoolExecutor(32) as pool:
        made = list(pool.map(lambda data: pictures.prepare(data, param="image"), sent))
    assert [image.width_px for image in made] == [32 + number for number in range(32)]
    assert len(workshop.children()) <= 2


def test_it_keeps_one_child_for_callers_in_turn(settings: Settings) -> None:
    settings.WORKSHOP_PROCESSES = 4
    for _ in range(5):
        work()
    assert len(workshop.children()) == 1


def test_a_caller_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_UPLOAD_PATIENCE_S", 0.1)
    work()
    stop(hanging := the_child())
    with ThreadPoolExecutor() as pool:
        busy = pool.submit(work, limit_s=1)
        time.sleep(0.1)
        with pytest.raises(errors.Overloaded) as caught:
            pictures.prepare(SMALL, param="image")
        assert caught.value.retry_after_s
        meanwhile = workshop.children(), state_of(hanging)
        assert isinstance(busy.exception(5), workshop.Refused), (hanging, meanwhile)
    assert work()


def test_a_child_is_renewed_after_many_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workshop, "_JOBS_OF_A_CHILD", 3)
    seen = []
    for _ in range(7):
        work()
        seen.append(the_child())
    assert len(set(seen)) == 3
    wait_until_gone(seen[0])


# Beginning and end


def test_ctrl_c_lets_a_child_finish() -> None:
    work()
    first = the_child()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(first, number)
    assert work()
    assert the_child() == first


def test_closing_ends_the_children() -> None:
    work()
    first = the_child()
    workshop.close()
    wait_until_gone(first)


SCRIPT = """
import os, sys
from django.conf import settings
settings.configure(WORKSHOP_PROCESSES=1)
from imagesapi import workshop
def work():
    data = sys.stdin.buffer.read() if not hasattr(sys, "picture") else sys.picture
    sys.picture = data
    job = ("prepare", "png", "32000000")
    assert workshop.run(*job, data=data, memory_bytes=800_000_000, limit_s=10, patience_s=5)[1]
    return workshop.children()[0]
"""
FORKED = """
first = work()
pid = os.fork()
if not pid:
    assert workshop.children() == ()
    assert work() != first
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert work() == first
"""
KILLED = """
print(work(), flush=True)
os.kill(os.getpid(), 9)
"""


def run_script(code: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'platform'}", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", SCRIPT + code]
    return subprocess.run(command, input=SMALL, capture_output=True, env=environment, timeout=30, check=False)


def test_a_forked_process_has_children_of_its_own() -> None:
    done = run_script(FORKED)
    assert done.returncode == 0, done.stderr.decode()


def test_children_end_with_their_parent_even_when_it_is_killed() -> None:
    done = run_script(KILLED)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    wait_until_gone(int(done.stdout))
