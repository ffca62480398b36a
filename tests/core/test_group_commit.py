"""What waits at the same time goes together, nobody waits to be joined, and each gets what is its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence

import pytest
from psycopg_pool import PoolTimeout

from core import group_commit
from core.group_commit import Entry, GroupCommit
from core.libpq import Bound


def entry(number: int) -> Entry:
    return Entry(Bound(b"", b"", [b"%d" % number]))


def number_of(found: Entry) -> int:
    return int(found.bound.values[0] or 0)


class Server:
    """Answers with each entry's number once the gate is open; remembers what came together."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[int]] = []
        self.busy = self.busy_most = 0
        self._lock = threading.Lock()

    def run(self, batch: Sequence[Entry]) -> None:
        with self._lock:
            self.batches.append([number_of(one) for one in batch])
            self.busy += 1
            self.busy_most = max(self.busy, self.busy_most)
        assert self.gate.wait(10)
        for one in batch:
            one.found, one.is_done = (number_of(one),), True
        with self._lock:
            self.busy -= 1


class Callers:
    """Threads that each bring one entry, one after the other."""

    def __init__(self, commits: GroupCommit) -> None:
        self.commits = commits
        self.entries: list[Entry] = []
        self.raised: dict[int, BaseException] = {}
        self._threads: list[threading.Thread] = []

    def bring(self, numbers: Sequence[int], *, timeout_s: float = 10) -> None:
        for number in numbers:
            self.entries.append(entry(number))
            self._threads.append(threading.Thread(target=self._do, args=(self.entries[-1], timeout_s)))
            self._threads[-1].start()
            wait_until(lambda: self._is_known(self.entries[-1]))

    def _is_known(self, one: Entry) -> bool:
        return one in self.commits._waiting or one.is_done or one._is_taken or self.commits._lines == 1

    def _do(self, one: Entry, timeout_s: float) -> None:
        try:
            self.commits.do(one, timeout_s=timeout_s)
        except PoolTimeout as error:
            self.raised[number_of(one)] = error

    def leave(self) -> None:
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody goes past what takes long."""
    monkeypatch.setattr(group_commit, "_PATIENCE_S", 5)


def test_one_alone_goes_at_once() -> None:
    server = Server()
    server.gate.set()
    commits = GroupCommit(server.run, lines_most=2)
    for number in range(3):
        one = entry(number)
        commits.do(one, timeout_s=1)
        assert (one.found, one.error) == ((number,), None)
    assert server.batches == [[0], [1], [2]]


def test_what_waits_goes_together_in_its_order(patient: None) -> None:
    server = Server()
    callers = Callers(GroupCommit(server.run, lines_most=2))
    callers.bring(range(1))
    wait_until(lambda: server.batches == [[0]])
    callers.bring(range(1, 20))
    wait_until(lambda: len(callers.commits._waiting) == 19)
    order = [number_of(one) for one in callers.commits._waiting]
    server.gate.set()
    callers.leave()
    assert server.batches == [[0], order[:16], order[16:]]
    assert server.busy_most == 1
    assert [one.found for one in callers.entries] == [(number,) for number in range(20)]


def test_what_came_behind_one_that_waits_goes_past_it_but_not_on_any_number_of_lines() -> None:
    server = Server()
    callers = Callers(GroupCommit(server.run, lines_most=2))
    callers.bring(range(1))
    wait_until(lambda: server.batches == [[0]])
    callers.bring(range(1, 3))
    wait_until(lambda: len(server.batches) == 2)
    callers.bring(range(3, 5))
    time.sleep(3 * group_commit._PATIENCE_S)
    assert len(server.batches) == 2
    server.gate.set()
    callers.leave()
    assert server.busy_most == 2
    assert sorted(number for batch in server.batches for number in batch) == list(range(5))
    assert callers.commits._lines == 0


def test_who_is_not_begun_in_time_is_told_and_never_begun() -> None:
    server = Server()
    callers = Callers(GroupCommit(server.run, lines_most=1))
    callers.bring(range(1))
    wait_until(lambda: server.batches == [[0]])
    callers.bring([1], timeout_s=0.05)
    callers.bring([2])
    wait_until(lambda: 1 in callers.raised)
    server.gate.set()
    callers.leave()
    assert server.batches == [[0], [2]]
    assert list(callers.raised) == [1]


def test_who_has_begun_waits_for_its_end_however_long(patient: None) -> None:
    server = Server()
    callers = Callers(GroupCommit(server.run, lines_most=1))
    callers.bring(range(1), timeout_s=0.01)
    wait_until(lambda: server.batches == [[0]])
    time.sleep(0.05)
    server.gate.set()
    callers.leave()
    assert callers.raised == {}
    assert callers.entries[0].found == (0,)


def test_an_error_of_the_whole_is_everybodys_and_the_next_go_on(patient: None) -> None:
    server = Server()
    gone = ConnectionError("gone")

    def run(batch: Sequence[Entry]) -> None:
        server.run(batch[:1])
        if len(batch) > 1:
            raise gone

    callers = Callers(GroupCommit(run, lines_most=1))
    callers.bring(range(1))
    wait_until(lambda: server.batches == [[0]])
    callers.bring(range(1, 4))
    wait_until(lambda: len(callers.commits._waiting) == 3)
    first = number_of(callers.commits._waiting[0])
    server.gate.set()
    callers.leave()
    assert {number_of(one): one.error for one in callers.entries if one.error} == {
        number: gone for number in range(1, 4) if number != first
    }
    last = entry(9)
    callers.commits.do(last, timeout_s=1)
    assert last.found == (9,)


def test_of_many_each_is_run_once() -> None:
    seen: list[int] = []

    def run(batch: Sequence[Entry]) -> None:
        for one in batch:
            seen.append(number_of(one))
            one.found, one.is_done = (number_of(one) + 1,), True
        time.sleep(random.choice((0, 0, 0.0005, 0.03)))  # now and then longer than the others' patience

    commits = GroupCommit(run, lines_most=2)

    def work(first: int) -> None:
        for number in range(first, first + 40):
            one = entry(number)
            commits.do(one, timeout_s=10)
            assert one.found == (number + 1,)

    threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(seen) == sorted(100 * first + number for first in range(12) for number in range(40))
    assert (commits._lines, len(commits._waiting)) == (0, 0)
