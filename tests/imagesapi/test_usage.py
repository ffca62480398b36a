"""GET /v1/usage: sums of whole hours and what came since are together exactly what a count of every request says."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter, defaultdict
from typing import Any

import pytest
from django.test import Client

from accounts.models import ApiKey, Organization
from core import ids
from imagesapi import usage, usage_rollup
from imagesapi.models import Generation, Image, UsageHour, UsageMark
from imagesapi.usage import Sums
from tests.envelope import error_of
from tests.imagesapi import past
from tests.people import IssuedKey, issue

NOW = dt.datetime.now(dt.UTC)
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)
STATES = ("completed", "completed", "completed", "upstream_failure", "rejected", "cancelled", "processing")


@pytest.fixture
def client(api_key: IssuedKey) -> Client:
    return Client(headers=api_key.headers)


def counted(organization: Organization, group_by: str, first: dt.date, last: dt.date) -> dict[Any, Sums]:
    """The same, request by request and picture by picture."""
    found: dict[Any, Sums] = defaultdict(Sums)
    pictures = Counter(Image.objects.values_list("generation", flat=True))
    for row in Generation.objects.filter(organization=organization):
        day = dt.datetime.fromtimestamp(ids.made_at_ms(row.pk) / 1000, dt.UTC).date()
        if first <= day <= last:
            bucket = {"day": day, "model": row.model, "provider": row.provider, "key": row.api_key_id}[group_by]
            found[bucket] += Sums(
                requests=1,
                completed=int(row.status == "completed"),
                failed=int(row.status in ("upstream_failure", "rejected", "cancelled")),
                images=pictures[row.pk],
                cost_nanos=row.cost_nanos or 0,
            )
    return dict(found)


def live(
    dice: random.Random, organization: Organization, keys: list[ApiKey], *, count: int, within: dt.timedelta
) -> None:
    for _ in range(count):
        status = dice.choice(STATES)
        row = past.generation(
            organization,
            at=NOW - within * dice.random() ** 3,
            key=dice.choice([*keys, None]),
            status=status,
            model=dice.choice(["mock-image", "gpt-image-1"]),
            provider=dice.choice(["openai", "fal"]) if status != "processing" else "",
            cost_nanos=dice.randrange(10**9) if status == "completed" else None,
        )
        for position in range(dice.randrange(4) if status == "completed" else 0):
            past.image(row, position=position)


@pytest.mark.parametrize("seed", range(6))
def test_it_equals_a_count_of_every_request(
    organization: Organization, other_organization: Organization, seed: int
) -> None:
    dice = random.Random(seed)
    keys = [issue(organization).row for _ in range(2)]
    live(dice, organization, keys, count=60, within=9 * DAY)
    live(dice, other_organization, [], count=5, within=9 * DAY)
    for moment in (None, NOW - 3 * DAY, NOW, NOW):
        if moment is not None:
            usage_rollup.roll_up(moment)
        first = (NOW - dice.randrange(10) * DAY).date()
        last = first + dice.randrange(10) * DAY
        for group_by in usage.GROUPS:
            said = usage.by(organization.pk, group_by, first=first, last=last)
            assert said == counted(organization, group_by, first, last), (seed, moment, group_by)
        end(dice)
        # An hour that has settled gets no new requests, at whatever minute this runs.
        live(dice, organization, keys, count=5, within=usage_rollup.SETTLES_AFTER)
    assert UsageHour.objects.filter(organization=organization).exists()


def end(dice: random.Random) -> None:
    """Requests under way come to their end; those whose hours are over are added up again."""
    for row in Generation.objects.filter(status="processing"):
        if dice.random() < 0.5:
            Generation.objects.filter(pk=row.pk).update(
                status="completed", provider="fal", cost_nanos=7, finished_at=NOW, lease_expires_at=None
            )
    mark = UsageMark.objects.first()
    if mark is not None:
        usage_rollup.roll_up(mark.rolled_up_to + usage_rollup.SETTLES_AFTER)


def test_it_adds_an_hour_up_once_however_often_it_is_told(organization: Organization) -> None:
    past.generation(organization, at=NOW - 5 * HOUR, cost_nanos=3)
    assert usage_rollup.roll_up(NOW) > 0
    before = list(UsageHour.objects.values_list("requests", "cost_nanos", "hour"))
    assert before == [(1, 3, usage_rollup.floor(NOW - 5 * HOUR))]
    assert usage_rollup.roll_up(NOW) == 0
    usage_rollup.repair(NOW)
    assert list(UsageHour.objects.values_list("requests", "cost_nanos", "hour")) == before


def test_it_waits_until_an_hour_has_all_its_rows(organization: Organization) -> None:
    hour = usage_rollup.floor(NOW - 5 * HOUR)
    past.generation(organization, at=hour + HOUR / 2)
    usage_rollup.roll_up(hour + HOUR + usage_rollup.SETTLES_AFTER / 2)
    assert not UsageHour.objects.exists()
    usage_rollup.roll_up(hour + HOUR + usage_rollup.SETTLES_AFTER)
    assert UsageHour.objects.count() == 1


def test_it_repairs_what_came_too_late(organization: Organization) -> None:
    past.generation(organization, at=NOW - 10 * HOUR)
    usage_rollup.roll_up(NOW)
    past.generation(organization, at=NOW - 8 * HOUR, cost_nanos=5)
    usage_rollup.repair(NOW)
    used = usage.by(organization.pk, "model", first=(NOW - DAY).date(), last=NOW.date())
    assert used["mock-image"] == Sums(requests=2, completed=2, cost_nanos=5)


def test_it_reports_thirty_days_by_default(client: Client, organization: Organization) -> None:
    for row in (past.generation(organization, cost_nanos=10_880_000), past.generation(organization, status="rejected")):
        past.image(row)
    past.generation(organization, at=NOW - 40 * DAY, cost_nanos=1)
    document = client.get("/v1/usage").json()
    today = document["data"][-1]
    assert len(document["data"]) == 30
    assert document["data"][0]["requests"] == 0
    assert today == {
        "day": dt.datetime.now(dt.UTC).date().isoformat(),
        "requests": 2,
        "completed": 1,
        "failed": 1,
        "images": 2,
        "cost": 0.01088,
        "cost_decimal": "0.01088",
    }
    assert document["total"] == {name: value for name, value in today.items() if name != "day"}
    assert (document["object"], document["timezone"], document["currency"]) == ("usage", "UTC", "usd")


def test_it_names_keys_and_puts_the_dearest_first(client: Client, organization: Organization) -> None:
    keys = [issue(organization, name=name).row for name in ("cheap", "dear")]
    for number, key in enumerate(keys):
        past.generation(organization, key=key, cost_nanos=number * 10**9)
    rows = client.get("/v1/usage?group_by=key").json()["data"]
    assert [(row["key_id"], row["key_name"], row["cost"]) for row in rows] == [
        (keys[1].public_id, "dear", 1.0),
        (keys[0].public_id, "cheap", 0.0),
    ]
    assert client.get("/v1/usage?group_by=provider").json()["data"][0]["provider"] == "mock"
    assert client.get("/v1/usage?group_by=model&from=2020-01-01&to=2020-01-31").json()["data"] == []


def test_it_shows_nothing_of_others(client: Client, other_organization: Organization) -> None:
    past.generation(other_organization, cost_nanos=10**9)
    past.generation(other_organization, at=NOW - 5 * HOUR, cost_nanos=10**9)
    usage_rollup.roll_up(NOW)
    assert client.get("/v1/usage").json()["total"]["requests"] == 0


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ("group_by=week", "group_by"),
        ("group_by=", "group_by"),
        ("from=yesterday", "from"),
        ("from=2026-02-30", "from"),
        ("from=20260201", "from"),
        ("from=0001-01-01", "from"),
        ("to=9999-12-31", "to"),
        ("from=2026-03-01&to=2026-02-01", "from"),
        ("from=2025-01-01&to=2026-02-05", "from"),
        ("from=2026-01-01&from=2026-01-02", "from"),
        ("days=3", "days"),
    ],
)
def test_it_says_what_it_takes(client: Client, asked: str, param: str) -> None:
    answer = client.get(f"/v1/usage?{asked}")
    assert (answer.status_code, error_of(answer)["param"]) == (400, param)
