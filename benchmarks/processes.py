"""Starting and surely ending processes, and what /proc says of their trees: CPU, memory, threads, database backends."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

HOST = "127.0.0.1"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_STOP_TIMEOUT_S = 20.0
_CLIENT_BACKEND = re.compile(r"\[local\]|\d\(\d+\)")
_started: list[subprocess.Popen[bytes]] = []
# Loopback only, whatever proxies the environment names.
_opener = build_opener(ProxyHandler({}))


class NotReady(Exception):
    """A server ended, or did not answer in time; the message carries the end of its log."""


def raise_file_limit() -> int:
    """The soft limit on open files becomes the hard one; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def start(
    command: Sequence[str | Path],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start in a process group of its own, so that the whole group can be ended."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - commands of this package
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=dict(env) if env is not None else None,
            cwd=cwd,
            start_new_session=True,
        )
    _started.append(process)
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask the process to end, then end its whole group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_S)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process in _started:
        _started.remove(process)


@atexit.register
def stop_all() -> None:
    for process in list(reversed(_started)):
        stop(process)


def fetch(url: str, timeout_s: float = 5.0) -> bytes:
    with _opener.open(url, timeout=timeout_s) as reply:
        return bytes(reply.read())


def wait_until_answers(url: str, process: subprocess.Popen[bytes], *, log: Path, timeout_s: float) -> None:
    """Any HTTP reply counts: this asks whether the server listens and speaks, not whether it likes the path."""
    ends_at = time.monotonic() + timeout_s
    while time.monotonic() < ends_at:
        if process.poll() is not None:
            raise NotReady(f"ended with code {process.returncode}:\n{tail(log)}")
        try:
            fetch(url)
        except HTTPError:
            return
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            return
    raise NotReady(f"no answer within {timeout_s:.0f} s:\n{tail(log)}")


def tail(log: Path, size_bytes: int = 1_500) -> str:
    return log.read_bytes()[-size_bytes:].decode("utf-8", "replace") if log.exists() else ""


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at a process tree; the database's processes are counted apart."""

    cpu_s: float
    database_cpu_s: float
    pss_bytes: int
    database_pss_bytes: int
    threads: int
    processes: int
    database_connections: int


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; [] when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _parents() -> dict[int, int]:
    found = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and (fields := _stat(int(path.name))):
            found[int(path.name)] = int(fields[1])
    return found


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid, parent in _parents().items():
        children.setdefault(parent, []).append(pid)
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        if _stat(pid):
            found.append(pid)
        waiting.extend(children.get(pid, []))
    return found


def parent(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[1]) if fields else 0


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def is_database(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
    except OSError:
        return False


def _cpu_s(pid: int) -> float:
    """User and system time of the process and of its children that ended."""
    fields = _stat(pid)
    return sum(map(int, fields[11:15])) / _TICKS_PER_S if fields else 0.0


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1_024
    except OSError:
        pass
    return 0


def _threads(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[17]) if fields else 0


def look(roots: Sequence[int], *, memory: bool = True) -> Facts:
    """Facts of the trees below these processes, and of any PostgreSQL among them."""
    pids = {pid for root in roots for pid in tree(root)}
    database = {pid for pid in pids if is_database(pid)}
    own = pids - database
    return Facts(
        cpu_s=sum(map(_cpu_s, own)),
        database_cpu_s=sum(map(_cpu_s, database)),
        pss_bytes=sum(map(_pss_bytes, own)) if memory else 0,
        database_pss_bytes=sum(map(_pss_bytes, database)) if memory else 0,
        threads=sum(map(_threads, own)),
        processes=len(own),
        database_connections=sum(bool(_CLIENT_BACKEND.search(command_line(pid))) for pid in database),
    )


class Watch:
    """Samples a target's memory while something else happens, and remembers the peak and a look in mid-flight."""

    def __init__(self, roots: Callable[[], Sequence[int]], *, middle_s: float, every_s: float = 0.5) -> None:
        self._roots = roots
        self._middle_s = middle_s
        self._every_s = every_s
        self._ended = threading.Event()
        self.peak_pss_bytes = 0
        self.middle: Facts | None = None

    def _run(self) -> None:
        started_at = time.monotonic()
        while not self._ended.wait(self._every_s):
            facts = look(self._roots())
            self.peak_pss_bytes = max(self.peak_pss_bytes, facts.pss_bytes)
            if self.middle is None and time.monotonic() - started_at >= self._middle_s:
                self.middle = facts

    @contextlib.contextmanager
    def watching(self) -> Iterator[Watch]:
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join()
