"""Where the bytes of images are kept."""

from __future__ import annotations

import contextlib
import os
import uuid
from typing import Any

from django.conf import settings

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
_LARGE_BYTES = 64 * 1024
# Of a version 7 id, which begins with its time in milliseconds: a folder holds what was made within 17 minutes. Files
# that are made together then lie together on the disk, also what it keeps about each. Spread over 256 folders, a small
# picture took three times the processor's time.
_FOLDER_DIGITS = 7


class StoreError(OSError):
    """The bytes could not be kept: nothing may be charged for them."""


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
        raise StoreError(f"{type(error).__name__}: {error.strerror}") from error
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
