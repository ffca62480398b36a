"""Where the bytes of images are kept."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings

from core import errors, ids

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_LARGE_BYTES = 64 * 1024
# Of a version 7 id, which begins with its time in milliseconds: a folder holds what was made within 17 minutes. Files
# that are made together then lie together on the disk, also what it keeps about each. Spread over 256 folders, a small
# picture took three times the processor's time.
_FOLDER_DIGITS = 7


class StoreError(OSError):
    """The bytes could not be kept: nothing may be charged for them."""


@dataclass(slots=True)
class _Failure:
    """That something could not be kept, how large it was, and when somebody last looked whether there is room again."""

    store: Path
    size_bytes: int
    looked_at_s: float = field(default_factory=time.monotonic)


_LOOK_EVERY_S = 1.0
_TRIAL_MAX_BYTES = 8 * 1024 * 1024
_failure: _Failure | None = None
_look_lock = threading.Lock()


def failed(error: OSError, *, size_bytes: int) -> StoreError:
    """What to raise for bytes that could not be written; from now on `require_room` looks before work is begun."""
    global _failure
    _failure = _Failure(settings.STORE_DIR, min(size_bytes, _TRIAL_MAX_BYTES))
    return StoreError(f"{type(error).__name__}: {error.strerror}")


def require_room() -> None:
    """To be asked before a provider is paid. Raises StorageUnavailable after a failure, until writing as much succeeds.

    Otherwise a full disk would cost the platform a picture with every request. One request a second tries.
    """
    global _failure
    found = _failure
    if found is None or found.store != settings.STORE_DIR:
        return
    if time.monotonic() - found.looked_at_s >= _LOOK_EVERY_S and _look_lock.acquire(blocking=False):
        try:
            # Not zeros, for which some file systems need no room. What a crash leaves of it becomes an orphan.
            delete(save(ids.new(), os.urandom(found.size_bytes), extension="trial"))
            _failure = None
            return
        except OSError:  # noted anew, with the time of this look
            pass
        finally:
            _look_lock.release()
    raise errors.StorageUnavailable("Images cannot be stored just now, so none is made. Try again shortly.")


def place(image_id: uuid.UUID, extension: str) -> str:
    """The path of an image within the store."""
    word = image_id.hex
    return f"{word[:_FOLDER_DIGITS]}/{word}.{extension}"


def save(image_id: uuid.UUID, data: bytes | memoryview, *, extension: str) -> str:
    """Keep one image, safe from a power cut; returns its path in the store. Raises StoreError.

    Written in place: nothing refers to a path before its file is whole, and no path is used twice.
    """
    name = place(image_id, extension)
    path = f"{settings.STORE_DIR}/{name}"
    try:
        try:
            descriptor = os.open(path, _NEW, 0o640)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            descriptor = os.open(path, _NEW, 0o640)
        try:
            rest = data
            while (written := os.write(descriptor, rest)) < len(rest):
                rest = memoryview(rest)[written:]
            if settings.STORE_FSYNC:
                os.fsync(descriptor)
                _let_go(descriptor, len(data))
        finally:
            os.close(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise failed(error, size_bytes=len(data)) from error
    return name


def _let_go(descriptor: int, size_bytes: int) -> None:
    """What is on the disk need not stay in memory: the pages serve the next image, and are not asked for anew."""
    if size_bytes >= _LARGE_BYTES and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def open_image(path: str) -> Any:
    """A stored image for reading. Raises FileNotFoundError."""
    return open(settings.STORE_DIR / path, "rb")


def delete(path: str) -> None:
    """Remove a stored image; one that is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        (settings.STORE_DIR / path).unlink()
