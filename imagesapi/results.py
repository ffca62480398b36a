"""What a generation came to, kept from the moment its images are stored until the ledger has it.

A crash in between then loses neither image nor money: recovery settles from here. Kept in files that each process opens
once and uses again; making and removing one for every request would cost more than everything that is written to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

from imagesapi.store import failed


class _Slots:
    """One process's files in one store. Each is locked for as long as the process lives."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.folder = store / "results"
        self.free: list[int] = []
        self.taken: dict[uuid.UUID, int] = {}

    def take(self, generation_id: uuid.UUID) -> int:
        # Single steps on lists and dictionaries are whole under the interpreter's lock; no other lock is waited for.
        try:
            slot = self.free.pop()
        except IndexError:
            slot = self._make()
        self.taken[generation_id] = slot
        return slot

    def _make(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = self.folder / f"{uuid.uuid4().hex}.json"
            slot = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
            fcntl.flock(slot, fcntl.LOCK_EX)
            if path.exists():
                return slot
            os.close(slot)  # tidied away as abandoned in the moment before it was locked

    def give_back(self, generation_id: uuid.UUID) -> bool:
        slot = self.taken.pop(generation_id, None)
        if slot is None:
            return False
        os.ftruncate(slot, 0)
        self.free.append(slot)
        return True

    def leave(self, generation_id: uuid.UUID) -> None:
        slot = self.taken.pop(generation_id, None)
        if slot is not None:
            os.close(slot)


_slots: tuple[int, _Slots] | None = None
_slots_lock = threading.Lock()


def _folder() -> Path:
    folder: Path = settings.STORE_DIR / "results"
    return folder


def _ours() -> _Slots:
    global _slots
    found = _slots
    if found is not None and found[0] == os.getpid() and found[1].store is settings.STORE_DIR:
        return found[1]
    with _slots_lock:
        if _slots is None or _slots[0] != os.getpid() or _slots[1].store is not settings.STORE_DIR:
            _slots = (os.getpid(), _Slots(settings.STORE_DIR))
        return _slots[1]


def keep(generation_id: uuid.UUID, document: dict[str, Any]) -> None:
    """Write it down. Raises StoreError.

    Not forced to disk: after a power cut a missing result means no charge, which is on the safe side.
    """
    slots = _ours()
    try:
        rest = memoryview(orjson.dumps({"id": str(generation_id), "result": document}))
        slot, at = slots.take(generation_id), 0
        while rest:
            written = os.pwrite(slot, rest, at)
            rest, at = rest[written:], at + written
    except OSError as error:
        with contextlib.suppress(OSError):
            slots.give_back(generation_id)
        raise failed(error, size_bytes=len(rest)) from error


def drop(generation_id: uuid.UUID) -> None:
    """Forget it, once the ledger has it. Another process's is only forgotten when that process is gone."""
    with contextlib.suppress(OSError):
        if _ours().give_back(generation_id):
            return
        for path, found in _written():
            if found["id"] == str(generation_id):
                _remove_abandoned(path)


def leave(generation_id: uuid.UUID) -> None:
    """Leave it to recovery: we can neither settle nor forget it."""
    _ours().leave(generation_id)


def find(generation_id: uuid.UUID) -> dict[str, Any] | None:
    """What was kept of a generation, by any process of this machine, or None."""
    for _, found in _written():
        if found["id"] == str(generation_id):
            result: dict[str, Any] = found["result"]
            return result
    return None


def waiting() -> Iterator[uuid.UUID]:
    """The generations whose results are kept: those in flight, and leftovers of crashes."""
    for _, found in _written():
        with contextlib.suppress(ValueError):
            yield uuid.UUID(found["id"])


def documents() -> Iterator[dict[str, Any]]:
    """Whatever is kept on this machine, whole."""
    for _, found in _written():
        yield found["result"]


def remove_empty() -> None:
    """The files of processes that ended in peace."""
    for path in _folder().glob("*.json"):
        with contextlib.suppress(OSError):
            if path.stat().st_size == 0:
                _remove_abandoned(path)


def _written() -> Iterator[tuple[Path, dict[str, Any]]]:
    """Whole documents only: one that a crash cut short was never meant to be found."""
    for path in _folder().glob("*.json"):
        try:
            found = orjson.loads(path.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            continue
        if isinstance(found, dict) and found.keys() == {"id", "result"}:
            yield path, found


def _remove_abandoned(path: Path) -> None:
    with open(path, "rb") as handle, contextlib.suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
