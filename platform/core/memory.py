"""The guard over large bodies: only a few are in memory at once, the rest wait in the kernel's socket buffers.

A thousand slow requests may finish in the same second with megabytes each. Each request opens a `scope`; the first
large body it reads takes a place and keeps it until the scope ends, so places bound the peak and nothing deadlocks.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

SMALL_BYTES = 64 * 1024
_PLACES = 12
_PATIENCE_S = 5.0

_places = threading.BoundedSemaphore(_PLACES)
_scope = threading.local()


@contextlib.contextmanager
def scope() -> Iterator[None]:
    """Everything one request materialises; nested scopes share the outer one's place."""
    if getattr(_scope, "open", False):
        yield
        return
    _scope.open, _scope.holds = True, False
    try:
        yield
    finally:
        leave()
        _scope.open = False


def enter(size_bytes: int) -> None:
    """Wait for a place before reading a body of this size; small bodies and code outside a scope pass at once."""
    if size_bytes <= SMALL_BYTES or not getattr(_scope, "open", False) or _scope.holds:
        return
    # A place is also held by an answer on its way to a slow client: after a while we go on without one.
    _scope.holds = _places.acquire(timeout=_PATIENCE_S)


def leave() -> None:
    """Give the place back before the scope ends, once the bodies are gone."""
    if getattr(_scope, "holds", False):
        _scope.holds = False
        _places.release()


def hand_over() -> Callable[[], None] | None:
    """Let the place outlive the scope, for the answer that is still to be sent: what to call when it was."""
    if not getattr(_scope, "holds", False):
        return None
    _scope.holds = False
    return _places.release
