"""How many image requests this process works on at once; a full house refuses at once instead of queueing."""

from __future__ import annotations

import contextlib
import threading

from django.conf import settings

from core import errors
from core.turns import Turns

_RETRY_AFTER_S = 2

# How many requests of a process compute at once. More would only take the interpreter from each other, and from the
# threads that refuse: when a hundred pictures arrive in one moment, the rest of the house must still answer.
_TURNS = 4

_lock = threading.Lock()
_in_flight = 0


_turns = Turns(_TURNS)


class _Slot:
    """A place while it is taken. A class: a generator's way in and out costs a busy house twenty calls a request."""

    def __enter__(self) -> None:
        global _in_flight
        with _lock:
            if _in_flight >= settings.IN_FLIGHT_LIMIT:
                raise refusal()
            _in_flight += 1

    def __exit__(self, *error: object) -> None:
        global _in_flight
        with _lock:
            _in_flight -= 1


_slot = _Slot()


def slot() -> contextlib.AbstractContextManager[None]:
    """One place in the house (`with`). Raises Overloaded with a Retry-After when there is none."""
    return _slot


def turn() -> contextlib.AbstractContextManager[None]:
    """To be held (`with`) while a request computes, never while it waits for a provider, the disk or the database."""
    return _turns


def is_full() -> bool:
    """Whether `slot` would refuse just now."""
    return bool(_in_flight >= settings.IN_FLIGHT_LIMIT)


def refusal() -> errors.Overloaded:
    """What a caller is told who finds no place."""
    return errors.Overloaded(
        "The server is working on as many images as it can. Try again.", retry_after_s=_RETRY_AFTER_S
    )
