"""Files that nothing needs any more: of deleted images, and orphans in the store that no row knows."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction

from imagesapi import results, store
from imagesapi.models import Generation, Image

log = structlog.get_logger(__name__)

EVERY_S = 300
TURNS = 256  # a day has a few more
ORPHAN_AFTER_S = 24 * 60 * 60
_BATCH = 500
_DELETED_MAX = 5_000
_ORPHANS_MAX = 1_000
_FOLDER = re.compile(r"[0-9a-f]{2}|[0-9a-f]{7}")  # two digits: as they were at first
_NAME = re.compile(r"([0-9a-f]{32})\.[a-z0-9]{1,5}")


def sweep(*, turn: int) -> tuple[int, int]:
    """Delete what deleted images left behind, and the orphans of one in 256 of the store's folders: how many of each.

    Safe anywhere at any time, also beside requests: nothing younger than a day is an orphan.
    """
    return _deleted(), sum(map(_orphans, _folders(turn % TURNS)))


def after_commit(image_ids: Iterable[uuid.UUID]) -> None:
    """Remove deleted images' files once the deletion is certain. What a crash leaves of them the sweep finds."""
    transaction.on_commit(functools.partial(_remove, list(image_ids)), robust=True)


def after_commit_files(paths: Iterable[str]) -> None:
    """The same for files that have no row; what a crash leaves of them becomes orphans."""
    for path in paths:
        transaction.on_commit(functools.partial(store.delete, path), robust=True)


def paths_within(document: Any) -> Iterator[str]:
    """Every path into the store that a JSON document names, at whatever depth."""
    if isinstance(document, Mapping):
        for name, value in document.items():
            if name == "path" and isinstance(value, str) and value:
                yield value
            else:
                yield from paths_within(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from paths_within(value)


def _deleted() -> int:
    removed = 0
    while removed < _DELETED_MAX:
        due = Image.objects.filter(deleted_at__isnull=False).exclude(path="").order_by("deleted_at")
        batch = list(due.values_list("pk", flat=True)[:_BATCH])
        if not _remove(batch):
            break
        removed += len(batch)
    return removed


def _remove(image_ids: list[uuid.UUID]) -> int:
    rows = Image.objects.filter(pk__in=image_ids, deleted_at__isnull=False).exclude(path="")
    done = []
    for image_id, path in rows.values_list("pk", "path"):
        try:
            store.delete(path)
        except OSError as error:  # a disk that is read-only for now must not keep the others
            log.warning("a deleted image's file could not be removed", path=path, error=str(error))
        else:
            done.append(image_id)
    return Image.objects.filter(pk__in=done).update(path="")


def _folders(turn: int) -> list[str]:
    """Those whose turn it is, by their names: each comes up once a day, and about as many every time."""
    try:
        names = os.listdir(settings.STORE_DIR)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _FOLDER.fullmatch(name) and int(name, 16) % TURNS == turn)


def _orphans(folder: str) -> int:
    """Remove a folder's orphans, and the folder itself once it has been empty for a day."""
    removed, kept = 0, None
    for names in _old_files(folder):
        unknown = names.keys() - set(Image.objects.filter(pk__in=names).values_list("pk", flat=True))
        if unknown and kept is None:
            kept = _kept_paths()
        for image_id in unknown:
            path = f"{folder}/{names[image_id]}"
            if kept is None or path not in kept:
                store.delete(path)
                log.info("removed an orphan from the store", path=path)
                removed += 1
        if removed >= _ORPHANS_MAX:
            break
    with contextlib.suppress(OSError):  # that it is not empty the system says itself
        place = settings.STORE_DIR / folder
        if place.stat().st_mtime < time.time() - ORPHAN_AFTER_S:
            place.rmdir()
    return removed


def _old_files(folder: str) -> Iterator[dict[uuid.UUID, str]]:
    """Files older than a day, some at a time: the id in the name, and the name."""
    before_s = time.time() - ORPHAN_AFTER_S
    batch: dict[uuid.UUID, str] = {}
    try:
        entries = os.scandir(settings.STORE_DIR / folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            match = _NAME.fullmatch(entry.name)
            if match and entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before_s:
                batch[uuid.UUID(match[1])] = entry.name
                if len(batch) == _BATCH:
                    yield batch
                    batch = {}
    if batch:
        yield batch


def _kept_paths() -> set[str]:
    """Files without an image's row that somebody still needs: of requests under way, and results not yet settled."""
    rows = Generation.objects.filter(lease_expires_at__isnull=False, inputs__isnull=False)
    found = {path for inputs in rows.values_list("inputs", flat=True) for path in paths_within(inputs)}
    return found | {path for document in results.documents() for path in paths_within(document)}
