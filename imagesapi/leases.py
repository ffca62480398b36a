"""A lease on every generation in flight: each process renews its work in one statement; recovery takes the rest."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
import uuid

import structlog
from django.conf import settings
from django.db import DatabaseError

from core import sql

log = structlog.get_logger(__name__)

_RENEW = """
UPDATE imagesapi_generation SET lease_expires_at = now() + make_interval(secs => %(life_s)s)
WHERE id = ANY(%(ids)s::uuid[]) AND lease_owner = %(owner)s AND lease_expires_at IS NOT NULL
"""


class _Process:
    """This process's identity and the generations it works on."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.owner = secrets.randbits(62)
        self.working: set[uuid.UUID] = set()
        self.lock = threading.Lock()
        self.renewing = False


_process = _Process()


def _current() -> _Process:
    global _process
    if _process.pid != os.getpid():  # forked: another process, another owner
        _process = _Process()
    return _process


def owner() -> int:
    """Who holds the leases taken by this process."""
    return _current().owner


def life_s() -> int:
    """How long a lease lasts without renewal, in seconds."""
    return int(settings.LEASE_S)


class _Working:
    """A generation while this process works on it."""

    __slots__ = ("generation_id", "process")

    def __init__(self, generation_id: uuid.UUID) -> None:
        self.generation_id, self.process = generation_id, _current()

    def __enter__(self) -> None:
        process = self.process
        with process.lock:
            process.working.add(self.generation_id)
            if not process.renewing:
                process.renewing = True
                threading.Thread(target=_renew, args=(process,), name="leases", daemon=True).start()

    def __exit__(self, *error: object) -> None:
        with self.process.lock:
            self.process.working.discard(self.generation_id)


def working(generation_id: uuid.UUID) -> contextlib.AbstractContextManager[None]:
    """Renew this generation's lease until the end (`with`); then it expires if it could not be closed, however busy we
    are."""
    return _Working(generation_id)


def _renew(process: _Process) -> None:
    pause = threading.Event()
    while True:
        pause.wait(life_s() / 3)
        with process.lock:
            if not process.working:
                process.renewing = False
                return
            ids = f"{{{','.join(map(str, process.working))}}}"
        try:
            sql.row(_RENEW, {"ids": ids, "owner": process.owner, "life_s": life_s()})
        except DatabaseError as error:
            log.warning("leases could not be renewed; trying again", error=str(error))
