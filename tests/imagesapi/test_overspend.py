"""T-03 through the API: with money, budget or places for ten, exactly ten of any number of parallel requests run."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import requests
from django.conf import settings

from accounts.models import Organization
from billing import ledger
from billing.models import Limit
from imagesapi.models import Generation
from tests import calls, money
from tests.calls import Gate
from tests.fakes.providers import ProviderFake
from tests.people import IssuedKey
from tests.servers import LiveServer, environment, free_port

AFFORDABLE = 10
REFUSALS = {"money": (402, "insufficient_balance"), "budgets": (402, "billing_hard_limit_reached")}
REFUSALS["places"] = (429, "rate_limit_exceeded")


def _provide(bound: str, worst_nanos: int, organization: Organization, key: IssuedKey) -> None:
    """Enough of everything except of what bounds this run, and of that exactly for ten."""
    scarce_nanos = AFFORDABLE * worst_nanos
    if bound == "money":
        promo_nanos = 3 * worst_nanos + worst_nanos // 3
        money.fund(organization, promo_nanos=promo_nanos, wallet_nanos=scarce_nanos - promo_nanos)
        return
    money.fund(organization, wallet_nanos=1_000 * worst_nanos)
    if bound == "places":
        Limit.objects.create(
            organization=organization, scope="organization", meter="in_flight", window="total", cap=AFFORDABLE
        )
        return
    for scope, scope_id, window in (("organization", None, "month"), ("key", key.row.pk, "day")):
        Limit.objects.create(
            organization=organization, scope=scope, scope_id=scope_id, meter="spend", window=window, cap=scarce_nanos
        )


def check(server: LiveServer, fake: ProviderFake, *, bound: str = "money", callers: int = 64) -> None:
    """One run: the ten that were admitted wait at the provider until everybody else was refused."""
    fake.reset()
    gate, lock, refused = Gate(fake), threading.Lock(), 0
    organization, key = money.customer()
    _provide(bound, calls.hold_nanos(server, key), organization, key)

    def one(_: int) -> requests.Response:
        nonlocal refused
        reply = calls.create(server, key, timeout_s=120)
        with lock:
            refused += reply.status_code != 200
            if refused == callers - AFFORDABLE:
                gate.open()
        return reply

    with money.watched() as lowest:
        replies = calls.at_once(callers, one)
    status, code = REFUSALS[bound]
    assert sorted(reply.status_code for reply in replies) == [200] * AFFORDABLE + [status] * (callers - AFFORDABLE)
    assert {reply.json()["error"]["code"] for reply in replies if reply.status_code != 200} == {code}
    assert fake.calls == AFFORDABLE
    assert Generation.objects.filter(organization=organization, status="completed").count() == AFFORDABLE
    assert min(lowest) >= 0
    assert ledger.balance(organization.pk).held_nanos == 0


@pytest.mark.parametrize("bound", REFUSALS)
def test_exactly_ten_run(server: LiveServer, fake: ProviderFake, bound: str) -> None:
    check(server, fake, bound=bound)


@pytest.mark.prove
@pytest.mark.parametrize("callers", [64, 256])
def test_exactly_ten_run_on_several_processes_every_time(
    committed: None, fake: ProviderFake, tmp_path: Path, callers: int
) -> None:
    settings.STORE_DIR = tmp_path / "images"
    processes = environment(
        fake, port=free_port(), folder=tmp_path, WEB_PROCESSES="3", WEB_THREADS="300", IN_FLIGHT_LIMIT="280"
    )
    with LiveServer(processes).start() as server:
        for number in range(20):
            check(server, fake, bound=list(REFUSALS)[number % len(REFUSALS)], callers=callers)
    print(f"T-03: {callers} callers on 3 web processes: exactly {AFFORDABLE} ran, 20/20, available never below 0")
