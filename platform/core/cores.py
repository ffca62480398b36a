"""The processor's cores that this process may use, and keeping to one of them."""

from __future__ import annotations

import contextlib
import os

_CAN_PIN = hasattr(os, "sched_setaffinity")  # Linux
# As they were when this was first loaded: a process that keeps to one asks for the others' sake.
USABLE: tuple[int, ...] = tuple(sorted(os.sched_getaffinity(0))) if _CAN_PIN else tuple(range(os.cpu_count() or 1))


def keep_to(core: int) -> None:
    """Run this thread, and all it starts from now on, on that core alone; nothing where the system cannot."""
    _set(0, {core})


def set_free(pid: int) -> None:
    """Let a child that was just started use every core, whatever we keep to ourselves."""
    _set(pid, set(USABLE))


def _set(pid: int, found: set[int]) -> None:
    # A container's set of cores may have been changed meanwhile: then it stays as it is.
    with contextlib.suppress(OSError):
        if _CAN_PIN:
            os.sched_setaffinity(pid, found)
