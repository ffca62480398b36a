"""In which order the tests run, where several processes share them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

READ_SOURCES = ("test_docs.py", "test_image_links.py", "test_layout.py", "test_openapi.py", "test_style.py")
# What mostly waits: for servers to start, leases to run out, providers that keep one waiting. The longest first.
WAITING = (
    "test_run.py",
    "test_top_up_pages.py",
    "test_exits.py",
    "test_backpressure.py",
    "test_spread.py",
    "test_async.py",
    "test_leases.py",
    "test_rates.py",
    "test_kills.py",
    "test_fal_queue.py",
    "test_replicate_adapter.py",
    "test_replicate_trouble.py",
    "test_stripe_trouble.py",
    "test_http_streams.py",
    "test_http_replies.py",
    "test_http.py",
    "test_http_connections.py",
    "test_openai_streams.py",
    "test_upstream_trouble.py",
    "test_workshop.py",
    "test_full_disk.py",
)


def arranged(items: Sequence[pytest.Item], processes: int) -> list[pytest.Item]:
    """What takes long, or shares something that takes long to make, first in the list of one process.

    What mostly waits is spread over two of them, so that there is always one that computes. Each begins with an equal
    part of all tests; at the end they take work from one another, from the back.
    """
    heads: list[list[pytest.Item]] = [[] for _ in range(max(2, processes))]
    waiting: list[list[pytest.Item]] = [[] for _ in heads]
    waiters = range(1, len(heads))[:2]
    rest: list[pytest.Item] = []
    for item in items:
        if "session_server" in getattr(item, "fixturenames", ()):
            heads[0].append(item)
        elif item.path.name in WAITING:
            waiting[waiters[WAITING.index(item.path.name) % len(waiters)]].append(item)
        elif item.path.name in READ_SOURCES:
            heads[-1].append(item)
        else:
            rest.append(item)
    found: list[pytest.Item] = []
    for number, (head, waits) in enumerate(zip(heads, waiting, strict=True)):
        size = (len(items) - len(found)) // (len(heads) - number)  # to the item: as the tests are handed out
        more = max(0, size - len(head) - len(waits))
        waits.sort(key=lambda item: WAITING.index(item.path.name))
        found += head + _in_turns(waits, rest[:more])
        rest = rest[more:]
    return found


def _in_turns(*lists: list[pytest.Item]) -> list[pytest.Item]:
    """Whole files of each, as evenly among one another as their numbers allow."""
    placed: list[tuple[float, list[pytest.Item]]] = []
    for items in lists:
        files = [list(group) for _, group in itertools.groupby(items, key=lambda item: item.path)]
        placed += [(number / len(files), group) for number, group in enumerate(files)]
    placed.sort(key=lambda one: one[0])
    return [item for _, group in placed for item in group]
