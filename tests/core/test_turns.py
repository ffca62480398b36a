"""Turns: at most so many at once, in the order of arrival, and none is lost."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from core.turns import Turns


def crowd(places: int) -> tuple[list[int], int]:
    """Forty threads that lined up: the order in which they were served, and how many were inside at most."""
    turns, served, inside, most = Turns(places), [], [0], [0]

    def work(number: int) -> None:
        with turns:
            served.append(number)
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            time.sleep(0.002)
            inside[0] -= 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    with contextlib.ExitStack() as everything:
        for _ in range(places):
            everything.enter_context(turns)
        for thread in threads:
            thread.start()
            time.sleep(0.002)
    for thread in threads:
        thread.join(5)
    return served, most[0]


def test_it_serves_in_the_order_of_arrival() -> None:
    assert crowd(1) == (list(range(40)), 1)


def test_it_never_serves_more_at_once_than_it_has_places() -> None:
    served, most = crowd(3)
    assert sorted(served) == list(range(40))
    assert most == 3


def test_an_exception_gives_the_place_back() -> None:
    turns = Turns(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="oops"), turns:
            raise ValueError("oops")
    with turns:
        pass


def test_who_waits_too_long_leaves_the_line() -> None:
    turns = Turns(1)
    assert turns.take()
    started_s = time.monotonic()
    assert not turns.take(timeout_s=0.05)
    assert 0.04 < time.monotonic() - started_s < 1
    turns.give_back()
    assert turns.take(timeout_s=0.05)
    turns.give_back()
    assert turns.take(timeout_s=0)


def test_a_place_that_comes_in_the_last_moment_is_not_lost() -> None:
    turns, taken = Turns(1), [0]

    def hurry() -> None:
        for _ in range(300):
            if turns.take(timeout_s=0.0002):
                taken[0] += 1
                turns.give_back()

    threads = [threading.Thread(target=hurry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert taken[0]
    assert turns.take(timeout_s=0)
    assert not turns.take(timeout_s=0)
