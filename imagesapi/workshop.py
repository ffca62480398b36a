"""A few child processes that decode and encode pictures: hostile bytes are never decoded in a web process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import queue
import select
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Final

import structlog
from django.conf import settings

from core import cores
from imagesapi import parcels

log = structlog.get_logger(__name__)

_COMMAND = (sys.executable, "-PsB", "-W", "ignore", "-m", "imagesapi.workbench")
_ROOT = Path(__file__).resolve().parents[1]
_START_LIMIT_S = 20.0
# Memory that a library leaks, or a hostile picture spoilt, is not kept for long.
_JOBS_OF_A_CHILD = 200
_ANSWER_MAX_BYTES = 256 * 1024 * 1024
_WORDS_MAX_BYTES = 1_000
_CHUNK_BYTES = 1024 * 1024

# Why a picture was not worked on, by the child's word for it: what a caller reads never comes from a child.
_REASONS: Final = {
    "pixels": "it has more pixels than its head says",
    "frames": "it is a moving picture, and only still ones are taken",
    "scans": "it is made of more scans than any picture needs",
    "memory": "it needs more memory than a picture may",
    "webp": "it does not fit into a WebP",
    "broken": "it is damaged or cut short",
}


class Refused(Exception):
    """The picture is not worked on: broken, hostile, too much. The message says why, for the caller."""


class Unavailable(Exception):
    """No child was free in time, or none could be started; says nothing about the picture."""


class _Died(Exception):
    """The child ended, hung, or said something that it never says."""


def run(*job: str, data: bytes, memory_bytes: int, limit_s: int, patience_s: float) -> tuple[tuple[str, ...], bytes]:
    """Have a job of workbench.work done on `data`; returns its words and bytes. Raises Refused and Unavailable.

    `limit_s` is for the job alone, `patience_s` for waiting until a child is free.
    """
    crew = _ours()
    child = crew.take(patience_s)
    healthy = False
    try:
        told, made = child.work((str(memory_bytes), str(limit_s + 1), *job), data, limit_s=limit_s)
        healthy = True
    except _Died as error:
        log.warning("a child of the workshop was lost with its picture", job=job[0], why=str(error))
        raise Refused(f"decoding it failed or took more than {limit_s} seconds") from error
    finally:
        crew.give_back(child, healthy=healthy)
    if told[0] == "made":
        return told[1:], made
    raise Refused(_REASONS.get(told[-1], _REASONS["broken"]))


def close() -> None:
    """End the children of this process; the next job starts new ones."""
    global _crew
    with _crew_lock:
        found, _crew = _crew, None
    if found is not None and found.pid == os.getpid():
        found.close()


def children() -> tuple[int, ...]:
    """The process ids of this process's children."""
    found = _crew
    return found.pids() if found is not None and found.pid == os.getpid() else ()


class _Child:
    """One process at its bench, and the two pipes to it."""

    def __init__(self) -> None:
        self.jobs = 0
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            _COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            env=_environment(),
        )
        cores.set_free(self.process.pid)
        assert self.process.stdin is not None and self.process.stdout is not None  # noqa: S101 - we asked for them
        self._to, self._from = self.process.stdin, self.process.stdout
        for pipe in (self._to, self._from):
            os.set_blocking(pipe.fileno(), False)
            with contextlib.suppress(OSError, AttributeError):  # a convenience of Linux
                fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, _CHUNK_BYTES)
        try:
            self._receive(time.monotonic() + _START_LIMIT_S)
        except BaseException:
            self.end()
            raise

    def work(self, words: tuple[str, ...], data: bytes, *, limit_s: float) -> tuple[tuple[str, ...], bytes]:
        """Hand over one parcel and wait for the other. Raises _Died."""
        deadline = time.monotonic() + limit_s
        self.jobs += 1
        self._send(parcels.head(words, len(data)), deadline)
        self._send(data, deadline)
        return self._receive(deadline)

    def end(self) -> None:
        """Kill it, whatever it does."""
        self.process.kill()
        self.process.wait()
        self._close()

    def forget(self) -> None:
        """After a fork it is somebody else's: only let go of the copies of its pipes."""
        self.process.returncode = 0  # or it would be waited for
        self._close()

    @property
    def is_fit(self) -> bool:
        return self.jobs < _JOBS_OF_A_CHILD and self.process.poll() is None

    def _close(self) -> None:
        for pipe in (self._to, self._from):
            with contextlib.suppress(OSError):
                pipe.close()

    def _send(self, data: bytes, deadline: float) -> None:
        rest = memoryview(data)
        while rest:
            _wait(self._to, select.POLLOUT, deadline)
            try:
                rest = rest[os.write(self._to.fileno(), rest[:_CHUNK_BYTES]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Died("it ended before it had its picture") from error

    def _receive(self, deadline: float) -> tuple[tuple[str, ...], bytes]:
        words_bytes, data_bytes = parcels.lengths(self._read(parcels.HEAD_BYTES, deadline))
        if not 0 < words_bytes <= _WORDS_MAX_BYTES or data_bytes > _ANSWER_MAX_BYTES:
            raise _Died("its answer is larger than answers are")
        words = self._read(words_bytes, deadline).decode("ascii", "replace").split(" ")
        return tuple(words), self._read(data_bytes, deadline)

    def _read(self, size_bytes: int, deadline: float) -> bytes:
        parts: list[bytes] = []
        while size_bytes:
            _wait(self._from, select.POLLIN, deadline)
            try:
                part = os.read(self._from.fileno(), min(size_bytes, _CHUNK_BYTES))
            except BlockingIOError:
                continue
            if not part:
                raise _Died("it ended in the middle of its job")
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)


def _wait(pipe: IO[bytes], event: int, deadline: float) -> None:
    left_ms = (deadline - time.monotonic()) * 1000
    poll = select.poll()  # select() knows the first 1 024 files only
    poll.register(pipe, event)
    if left_ms <= 0 or not poll.poll(left_ms):
        raise _Died("it took too long")


def _environment() -> dict[str, str]:
    """Nothing of ours: no secrets, no addresses."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    # A thread of an encoder would reserve 64 MB of the memory limit for an arena of its own.
    return {**kept, "PYTHONPATH": str(_ROOT), "MALLOC_ARENA_MAX": "1"}


class _Crew:
    """The children of one process: started when first needed, each with one job at a time."""

    def __init__(self, size: int) -> None:
        self.pid = os.getpid()
        self._children: set[_Child] = set()
        self._closed = False
        self._lock = threading.Lock()
        # Last in, first out: one caller after the other keeps one child, not all of them.
        self._places: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(size):
            self._places.put(None)

    def take(self, patience_s: float) -> _Child:
        """A child of one's own until `give_back`. Raises Unavailable."""
        try:
            child = self._places.get(timeout=patience_s)
        except queue.Empty:
            raise Unavailable(f"no child was free for {patience_s:g} seconds") from None
        if child is not None and child.is_fit:
            return child
        try:
            if child is not None:
                self._remove(child)
            return self._start()
        except BaseException:
            self._places.put(None)
            raise

    def give_back(self, child: _Child, *, healthy: bool) -> None:
        with self._lock:
            kept = healthy and not self._closed
        if not kept:
            self._remove(child)
        self._places.put(child if kept else None)

    def close(self) -> None:
        """End those that are idle now, the others with their jobs."""
        with self._lock:
            self._closed = True
        idle = []
        with contextlib.suppress(queue.Empty):
            while True:
                idle.append(self._places.get_nowait())
        for child in idle:
            if child is not None:
                self._remove(child)
            self._places.put(None)

    def forget(self) -> None:
        for child in self._children:
            child.forget()

    def pids(self) -> tuple[int, ...]:
        with self._lock:
            return tuple(child.process.pid for child in self._children)

    def _start(self) -> _Child:
        try:
            child = _Child()
        except (OSError, _Died) as error:
            log.exception("no child of the workshop could be started")
            raise Unavailable("no child could be started") from error
        with self._lock:
            self._children.add(child)
        return child

    def _remove(self, child: _Child) -> None:
        with self._lock:
            self._children.discard(child)
        child.end()


_crew: _Crew | None = None
_crew_lock = threading.Lock()


def _ours() -> _Crew:
    """This process's own children: they do not survive a fork as anybody else's."""
    global _crew
    found = _crew
    if found is not None and found.pid == os.getpid():
        return found
    with _crew_lock:
        if _crew is None or _crew.pid != os.getpid():
            if _crew is not None:
                _crew.forget()
            _crew = _Crew(settings.WORKSHOP_PROCESSES or len(cores.USABLE))
        return _crew


atexit.register(close)
