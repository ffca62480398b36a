"""Named points at which tests cut a process short; a plain function call that does nothing anywhere else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

Hook = Callable[[str], None]


def _from_environment() -> Hook | None:
    """`FAULT=kill@after_hold` ends this process at that point the way a power cut does; `raise@…` raises there."""
    action, _, wanted = os.environ.get("FAULT", "").partition("@")
    if action not in ("kill", "raise"):
        return None

    def hook(name: str) -> None:
        if name == wanted:
            if action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            raise RuntimeError(f"fault at {name}")

    return hook


hook: Hook | None = _from_environment()


def point(name: str) -> None:
    """A place worth interrupting: before and after every statement and every provider call of a request."""
    if hook is not None:
        hook(name)
