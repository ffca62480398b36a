"""The guard over large bodies: only a few are in memory at once, the rest wait in the kernel's socket buffers.

A thousand slow requests may finish in the same second with megabytes each. Each request opens a `scope`; the first
large body it reads takes a place and keeps it until the scope ends, so places bound the peak and nothing deadlocks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

SMALL_BYTES = 64 * 1024
_PLACES = 12
_PATIENCE_S = 5.0

_places = threading.BoundedSemaphore(_PLACES)


class _Scope:
    """Counts how deep this thread is in it; the outermost one gives the place back."""

    def __enter__(self) -> None:
        _thread.depth += 1

    def __exit__(self, *error: object) -> None:
        _thread.depth -= 1
        if not _thread.depth:
            leave()


class _Thread(threading.local):
    depth = 0
    holds = False


_thread = _Thread()
_scope = _Scope()


def scope() -> contextlib.AbstractContextManager[None]:
    """Everything one request materialises (`with`); nested scopes share the outer one's place."""
    return _scope


def enter(size_bytes: int) -> None:
    """Wait for a place before reading a body of this size; small bodies and code outside a scope pass at once."""
    if size_bytes <= SMALL_BYTES or not _thread.depth or _thread.holds:
        return
    # A place is also held by an answer on its way to a slow client: after a while we go on without one.
    _thread.holds = _places.acquire(timeout=_PATIENCE_S)


def leave() -> None:
    """Give the place back before the scope ends, once the bodies are gone."""
    if _thread.holds:
        _thread.holds = False
        _places.release()


def hand_over() -> Callable[[], None] | None:
    """Let the place outlive the scope, for the answer that is still to be sent: what to call when it was."""
    if not _thread.holds:
        return None
    _thread.holds = False
    return _places.release
