"""The suite itself: its order, and what it leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests import arrangement, databases


class Item:
    """As much of a test as decides where it stands."""

    def __init__(self, name: str, *fixtures: str) -> None:
        self.path, self.fixturenames = Path(name), fixtures


def starts(count: int, processes: int) -> list[int]:
    """Where pytest-xdist's worksteal begins each process's list: what is left, by those that have none yet."""
    found = [0]
    for left in range(processes, 1, -1):
        found.append(found[-1] + (count - found[-1]) // left)
    return found


@pytest.mark.parametrize("others", range(60, 68))
def test_each_process_begins_with_what_takes_long(others: int) -> None:
    longest, next_longest = arrangement.WAITING[:2]
    items: list[Any] = [Item(f"test_{number % 9}.py") for number in range(others)]
    items += [Item(arrangement.READ_SOURCES[0]), Item(next_longest), Item(longest)]
    items += [Item("test_sdks.py", "session_server")]
    found = arrangement.arranged(items, 4)
    assert sorted(map(id, found)) == sorted(map(id, items))
    first = [found[number].path.name for number in starts(len(found), 4)]
    assert first == ["test_sdks.py", longest, next_longest, arrangement.READ_SOURCES[0]]


def test_it_knows_the_databases_that_killed_runs_left() -> None:
    mine = os.getpid()
    stays = [f"test_main_{mine}", f"test_gw3_{mine}", "test_app_7", "test_main_7_steps", "my_test_main_7", "postgres"]
    assert databases.left_over([*stays, "test_main_7", "test_gw12_8"], [mine, 9]) == ["test_main_7", "test_gw12_8"]
