"""Adding requests up by the hour, once each: what makes a sum over a year as quick as one over a day."""

from __future__ import annotations

import datetime as dt
import time

from django.db import connection, transaction
from django.db.models import F

from core import ids
from imagesapi.models import Generation, UsageHour, UsageMark

# A request gets its id when it comes in and its row when its body is read: this much later an hour has all its rows.
SETTLES_AFTER = dt.timedelta(minutes=15)
HOUR = dt.timedelta(hours=1)
# Rolled up anew every night, for rows that came later still: from clocks that are wrong, from very slow senders.
REPAIRED = dt.timedelta(days=3)
_RUN_MAX_S = 240
_STEP = dt.timedelta(days=1)
_UNFINISHED_MAX = 500

_DELETE = "DELETE FROM imagesapi_usagehour WHERE hour >= %(start)s AND hour < %(end)s"
_INSERT = """
WITH made AS (
    SELECT generation_id, count(*) AS images FROM imagesapi_image
    WHERE generation_id >= %(low)s AND generation_id < %(high)s GROUP BY generation_id
)
INSERT INTO imagesapi_usagehour
    (organization_id, hour, api_key_id, model, provider, requests, completed, failed, images, cost_nanos)
SELECT g.organization_id, imagesapi_hour_of(g.id), g.api_key_id, g.model, g.provider, count(*),
       count(*) FILTER (WHERE g.status = 'completed'),
       count(*) FILTER (WHERE g.status IN ('upstream_failure', 'rejected', 'cancelled')),
       coalesce(sum(made.images), 0), coalesce(sum(g.cost_nanos), 0)
FROM imagesapi_generation g LEFT JOIN made ON made.generation_id = g.id
WHERE g.id >= %(low)s AND g.id < %(high)s
GROUP BY 1, 2, 3, 4, 5
"""


def roll_up(now: dt.datetime | None = None) -> int:
    """Add up the hours that are over, and again those that had requests under way; how many hours were looked at.

    Safe to run anywhere and at any time: an hour is always written whole, in one transaction, by one process.
    """
    began_s, hours = time.monotonic(), 0
    while step := _next_step(now or dt.datetime.now(dt.UTC)):
        hours += step
        if time.monotonic() - began_s > _RUN_MAX_S:
            return hours
    return hours + _finish()


def repair(now: dt.datetime | None = None) -> None:
    """Add up the last days anew."""
    with transaction.atomic():
        mark = UsageMark.objects.select_for_update().first()
        if mark is not None:
            start = floor(min(now or mark.rolled_up_to, mark.rolled_up_to) - REPAIRED)
            _write(start, mark.rolled_up_to)


def floor(moment: dt.datetime) -> dt.datetime:
    """The hour a moment lies in."""
    return moment.replace(minute=0, second=0, microsecond=0)


def first_id(moment: dt.datetime) -> str:
    """Where the ids of this moment begin."""
    return str(ids.first_of(int(moment.timestamp()) * 1000))


def _next_step(now: dt.datetime) -> int:
    """A day's hours at most, so that no transaction is long; 0 when everything is added up."""
    with transaction.atomic():
        mark = UsageMark.objects.select_for_update().first()
        start = mark.rolled_up_to if mark else _beginning(now)
        end = min(start + _STEP, floor(now - SETTLES_AFTER))
        if start >= end:
            return 0
        _write(start, end)
        UsageMark.objects.update_or_create(id=1, defaults={"rolled_up_to": end})
    return (end - start) // HOUR


def _beginning(now: dt.datetime) -> dt.datetime:
    oldest = Generation.objects.order_by("pk").values_list("pk", flat=True).first()
    made_at_s = ids.made_at_ms(oldest) // 1000 if oldest else now.timestamp()
    return floor(dt.datetime.fromtimestamp(made_at_s, dt.UTC))


def _finish() -> int:
    """Hours with requests that were under way when they were added up."""
    unfinished = UsageHour.objects.filter(requests__gt=F("completed") + F("failed"))
    hours = list(unfinished.order_by("hour").values_list("hour", flat=True).distinct()[:_UNFINISHED_MAX])
    for hour in hours:
        with transaction.atomic():
            UsageMark.objects.select_for_update().first()
            _write(hour, hour + HOUR)
    return len(hours)


def _write(start: dt.datetime, end: dt.datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_DELETE, {"start": start, "end": end})
        cursor.execute(_INSERT, {"low": first_id(start), "high": first_id(end)})
