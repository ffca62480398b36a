"""The budget of failovers: earned by requests, spent one at a time, never overdrawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from imagesapi.retry_budget import Budget


def spend(budget: Budget) -> int:
    """How many failovers it still allows."""
    count = 0
    while budget.withdraw():
        count += 1
    return count


def test_it_allows_ten_at_start() -> None:
    assert spend(Budget()) == 10


def test_it_earns_one_failover_by_five_requests() -> None:
    budget = Budget()
    spend(budget)
    for _ in range(4):
        budget.deposit()
        assert not budget.withdraw()
    budget.deposit()
    assert budget.withdraw()
    assert not budget.withdraw()


def test_it_keeps_twenty_at_most() -> None:
    budget = Budget()
    for _ in range(1_000):
        budget.deposit()
    assert budget.attempts == 20
    assert spend(budget) == 20


def test_it_loses_nothing_among_threads() -> None:
    budget = Budget()

    def work(_: int) -> int:
        spent = 0
        for _ in range(1_000):
            budget.deposit()
            spent += budget.withdraw()
        return spent

    with ThreadPoolExecutor(8) as pool:
        spent = sum(pool.map(work, range(8)))
    left = spend(budget)
    # 10 at start and 8 000 fifths; what came while the bucket was full is lost, and it never was for long.
    assert spent + left + budget.attempts <= 10 + 1_600
    assert spent + left >= 1_600 - 20
