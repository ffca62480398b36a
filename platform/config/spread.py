"""How work is spread over the web processes: an even share of the connections, and a core for each where that is fair.

The processes share one listening socket, and whoever is woken first takes what waits there. Left to chance, sixteen
callers who keep their connections are as likely served by one process, while the other idles, as evenly by two.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Sequence

from core import cores

# More than any host starts of web processes; beyond it two would share a place and only be balanced less well.
_PLACES = 256
_ABSENT = -1


class Connections:
    """How many each process holds, in memory shared by all that are forked after this was made.

    A process is known by the number that gunicorn gives it, its age.
    """

    def __init__(self) -> None:
        self._counts = memoryview(mmap.mmap(-1, _PLACES * 4)).cast("i")
        for place in range(_PLACES):
            self._counts[place] = _ABSENT

    def write(self, process: int, connections: int) -> None:
        """Say how many connections this process holds."""
        self._counts[process % _PLACES] = connections

    def leave(self, process: int) -> None:
        """This process takes no more: nobody is to wait for it."""
        self._counts[process % _PLACES] = _ABSENT

    def is_ahead(self, process: int) -> bool:
        """Whether this process holds more connections than another: by one of few, by an eighth of many."""
        counts = self._counts.tolist()
        least = min((count for count in counts if count != _ABSENT), default=0)
        return bool(counts[process % _PLACES] > least + least // 8)


class Cores:
    """A core for each web process, so that its threads, of which one computes at a time, need not be moved about.

    Only where every core gets as many processes as any other; elsewhere, and where the operator says so, there is none.
    """

    def __init__(self, processes: int, usable: Sequence[int] = cores.USABLE, *, wanted: bool = True) -> None:
        self._usable = tuple(usable) if wanted and processes % len(usable) == 0 else ()
        self._of: dict[int, int] = {}

    def take(self, process: int) -> int | None:
        """The core with the fewest processes; None to run wherever the system likes."""
        if not self._usable:
            return None
        taken = Counter(self._of.values())
        self._of[process] = min(self._usable, key=taken.__getitem__)
        return self._of[process]

    def leave(self, process: int) -> None:
        """The process has ended; the next one gets its core."""
        self._of.pop(process, None)


# gunicorn's master loads this before it forks the first process.
CONNECTIONS = Connections()
