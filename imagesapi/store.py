"""Where bytes are kept: images for good, and the result of a generation until the ledger has it."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
from django.conf import settings

_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class StoreError(OSError):
    """The bytes could not be kept: nothing may be charged for them."""


def _write(path: Path, data: bytes | memoryview, *, durable: bool) -> None:
    """A new file with these bytes, forced to disk where a power cut must not lose it.

    Written in place: nothing refers to a path before its file is whole, and no path is used twice.
    """
    try:
        try:
            descriptor = os.open(path, _NEW, 0o640)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, _NEW, 0o640)
        with open(descriptor, "wb", buffering=0) as handle:
            rest = memoryview(data)
            while rest:
                rest = rest[handle.write(rest) :]
            if durable and settings.STORE_FSYNC:
                os.fsync(descriptor)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise StoreError(f"{type(error).__name__}: {error.strerror}") from error


def save(image_id: uuid.UUID, data: bytes, *, extension: str) -> str:
    """Keep one image; returns its path in the store. Raises StoreError."""
    # The last characters are random in a version 7 id, so folders fill evenly.
    path = f"{image_id.hex[-2:]}/{image_id.hex}.{extension}"
    _write(settings.STORE_DIR / path, data, durable=True)
    return path


def open_image(path: str) -> Any:
    """A stored image for reading. Raises FileNotFoundError."""
    return open(settings.STORE_DIR / path, "rb")


def delete(path: str) -> None:
    """Remove a stored image; one that is gone already is no error."""
    with contextlib.suppress(FileNotFoundError):
        (settings.STORE_DIR / path).unlink()


def _result(generation_id: uuid.UUID) -> Path:
    return settings.STORE_DIR / "results" / f"{generation_id.hex}.json"


def save_result(generation_id: uuid.UUID, document: dict[str, Any]) -> None:
    """Keep what a generation came to until it is settled, so that a crash in between loses neither image nor money.

    Not forced to disk: after a power cut a missing result means no charge, which is on the safe side.
    """
    _write(_result(generation_id), orjson.dumps(document), durable=False)


def load_result(generation_id: uuid.UUID) -> dict[str, Any] | None:
    """What `save_result` kept, or None."""
    try:
        found: dict[str, Any] = orjson.loads(_result(generation_id).read_bytes())
        return found
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None


def drop_result(generation_id: uuid.UUID) -> None:
    """Forget it, once the ledger has it."""
    with contextlib.suppress(OSError):
        _result(generation_id).unlink()


def waiting_results() -> Iterator[uuid.UUID]:
    """The generations whose results are kept: those in flight, and leftovers of crashes."""
    folder = settings.STORE_DIR / "results"
    if folder.is_dir():
        for path in folder.glob("*.json"):
            with contextlib.suppress(ValueError):
                yield uuid.UUID(hex=path.stem)
