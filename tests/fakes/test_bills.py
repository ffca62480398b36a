"""The fake bills: keys, pages and forms as the providers document them, read by our own readers."""

from __future__ import annotations

import datetime as dt
import threading

import pytest
import requests
from django.db import connection
from pytest_django.fixtures import Settings

from accounts.models import Organization
from billing.models import Transfer
from imagesapi import bills, tasks
from imagesapi.bills import importing, reconciling
from imagesapi.models import BillLine, Reconciliation
from tests.fakes import _bills
from tests.fakes.providers import ProviderFake
from tests.imagesapi import month
from tests.imagesapi.test_reconcile import COST, NOON, RANGE, call, tell
from tests.money import customer

FIRST = dt.date(2026, 7, 1)


@pytest.fixture
def service(fake: ProviderFake, settings: Settings) -> _bills.Service:
    settings.OPENAI_ADMIN_KEY, settings.OPENAI_ADMIN_URL = _bills.OPENAI_ADMIN_KEY, fake.openai_admin_url
    settings.FAL_ADMIN_KEY, settings.FAL_ADMIN_URL = _bills.FAL_ADMIN_KEY, fake.fal_admin_url
    return fake.bills


def test_openai_tells_a_hundred_days_in_pages(fake: ProviderFake, service: _bills.Service) -> None:
    days = bills.days(FIRST, FIRST + dt.timedelta(days=99))
    service.costs.update({(day, "proj_1", "gpt-image-1, image output"): 0.01 for day in days})
    found = bills.load("openai").fetch(days[0], days[-1])
    assert [line.day for line in found.lines] == days and found.days == set(days)
    assert {(line.amount_nanos, line.wire_id) for line in found.lines} == {(10_000_000, "gpt-image-1")}
    assert len(fake.requests) == 4


def test_openai_groups_as_it_is_asked_and_hides_other_projects(service: _bills.Service, settings: Settings) -> None:
    for project, item in (("proj_1", "a"), ("proj_1", "b"), ("proj_2", "a")):
        service.costs[FIRST, project, item] = 1.5
    assert len(bills.load("openai").fetch(FIRST, FIRST).lines) == 3
    settings.OPENAI_BILL_PROJECTS = ["proj_2"]
    (line,) = bills.load("openai").fetch(FIRST, FIRST).lines
    assert (line.key, line.amount_nanos) == ("2026-07-01|proj_2|a", 1_500_000_000)
    reply = requests.get(
        f"{settings.OPENAI_ADMIN_URL}/organization/costs?start_time={int(bills.midnight(FIRST).timestamp())}"
        f"&end_time={int(bills.midnight(FIRST).timestamp()) + 1}",
        headers={"Authorization": f"Bearer {_bills.OPENAI_ADMIN_KEY}"},
        timeout=5,
    )
    results = reply.json()["data"][0]["results"]
    assert [(row["amount"]["value"], row["line_item"], row["project_id"]) for row in results] == [(4.5, None, None)]


def test_fal_tells_its_events_in_pages_and_none_gets_lost(fake: ProviderFake, service: _bills.Service) -> None:
    at = bills.midnight(FIRST)
    for number in range(1_200):
        service.events.append(_bills.event(f"r{number}", "fal-ai/flux/schnell", at + dt.timedelta(seconds=number), 7))
    service.events.append(_bills.event("r0", "fal-ai/flux/schnell", at, 5))
    found = bills.load("fal").fetch(FIRST, FIRST + dt.timedelta(days=1))
    assert sum(line.amount_nanos for line in found.lines) == 1_200 * 7 + 5
    assert len(found.lines) == 1_200 and len(found.days) == 2
    assert len(fake.requests) == 3


@pytest.mark.parametrize("provider", ["openai", "fal"])
def test_a_bill_in_another_form_is_refused(service: _bills.Service, provider: str) -> None:
    service.costs[FIRST, "proj_1", "x"] = float("nan")
    service.events.append({**_bills.event("r", "e", bills.midnight(FIRST), 5), "cost_estimate_nano_usd": 0.5})
    with pytest.raises(bills.BillError):
        bills.load(provider).fetch(FIRST, FIRST)


def test_the_worker_fetches_and_compares_every_day(service: _bills.Service, organization: Organization) -> None:
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    service.costs[yesterday, "proj_1", "gpt-image-1, image output"] = 0.25
    assert importing.fetched_by_itself() == ["openai", "fal"]
    tasks.reconcile(0)
    tasks.add_up_providers(0)
    tasks.add_up_ledger(0)
    assert BillLine.objects.get().amount_nanos == 250_000_000
    assert Reconciliation.objects.count() == 1


def test_two_who_reconcile_at_once_book_once(committed: None) -> None:
    organization, _ = customer(promo_nanos=10 * COST)
    month.write([call(organization) for _ in range(3)])
    tell(3 * COST - 777, day=NOON.date())
    reports: list[reconciling.Report] = []

    def run() -> None:
        try:
            reports.append(reconciling.run(provider="openai", **RANGE))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.booked for report in reports) == [0, 0, 0, 1]
    assert [row.amount_nanos for row in Transfer.objects.filter(kind__startswith="true_up")] == [777]
