"""How many image requests this process works on at once; a full house refuses at once instead of queueing."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from django.conf import settings

from core import errors

_RETRY_AFTER_S = 2

# How many requests of a process compute at once. More would only take the interpreter from each other, and from the
# threads that refuse: when a hundred pictures arrive in one moment, the rest of the house must still answer.
_TURNS = 6

_lock = threading.Lock()
_in_flight = 0
_turns = threading.BoundedSemaphore(_TURNS)


@contextlib.contextmanager
def slot() -> Iterator[None]:
    """One place in the house. Raises Overloaded with a Retry-After when there is none."""
    global _in_flight
    with _lock:
        if _in_flight >= settings.IN_FLIGHT_LIMIT:
            raise refusal()
        _in_flight += 1
    try:
        yield
    finally:
        with _lock:
            _in_flight -= 1


def turn() -> threading.BoundedSemaphore:
    """To be held (`with`) while a request computes or talks to the database, never while it waits for a provider."""
    return _turns


def in_flight() -> int:
    """How many places are taken."""
    return _in_flight


def is_full() -> bool:
    """Whether `slot` would refuse just now."""
    return bool(_in_flight >= settings.IN_FLIGHT_LIMIT)


def refusal() -> errors.Overloaded:
    """What a caller is told who finds no place."""
    return errors.Overloaded(
        "The server is working on as many images as it can. Try again.", retry_after_s=_RETRY_AFTER_S
    )
