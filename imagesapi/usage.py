"""What an organization used, by day, model, key or provider: whole hours from their sums, the rest as it is."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.http import QueryDict

from accounts.callers import Caller
from accounts.models import ApiKey
from core import errors, money, query, sql
from imagesapi import usage_rollup
from imagesapi.models import UsageMark

BUCKETS_MAX = 400
DAYS_DEFAULT = 30
GROUPS = ("day", "model", "key", "provider")
_DAY = dt.timedelta(days=1)
_TAKES = ("from", "to", "group_by")

# Two halves that never overlap: sums of the hours before the mark, and the requests since.
_SUMS = """
    SELECT hour, api_key_id, model, provider, requests, completed, failed, images, cost_nanos
    FROM imagesapi_usagehour
    WHERE organization_id = %(organization_id)s AND hour >= %(start)s AND hour < %(middle)s
"""
_TAIL = """
    SELECT imagesapi_hour_of(g.id), g.api_key_id, g.model, g.provider, 1,
           (g.status = 'completed')::int, (g.status IN ('upstream_failure', 'rejected', 'cancelled'))::int,
           (SELECT count(*) FROM imagesapi_image i WHERE i.generation_id = g.id)::int, coalesce(g.cost_nanos, 0)
    FROM imagesapi_generation g
    WHERE g.organization_id = %(organization_id)s AND g.id >= %(low)s AND g.id < %(high)s
"""
_TOTALS = """
    sum(requests)::bigint, sum(completed)::bigint, sum(failed)::bigint, sum(images)::bigint, sum(cost_nanos)::bigint
"""
_BY_DAY = f"""
SELECT (hour AT TIME ZONE 'UTC')::date, {_TOTALS} FROM ({_SUMS} UNION ALL {_TAIL}) used GROUP BY 1
"""  # noqa: S608 - constants
_BY_MODEL = f"""
SELECT model, {_TOTALS} FROM ({_SUMS} UNION ALL {_TAIL}) used GROUP BY 1
"""  # noqa: S608 - constants
_BY_KEY = f"""
SELECT api_key_id, {_TOTALS} FROM ({_SUMS} UNION ALL {_TAIL}) used GROUP BY 1
"""  # noqa: S608 - constants
_BY_PROVIDER = f"""
SELECT provider, {_TOTALS} FROM ({_SUMS} UNION ALL {_TAIL}) used GROUP BY 1
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Sums:
    """What was used. Requests that are neither completed nor failed are still under way."""

    requests: int = 0
    completed: int = 0
    failed: int = 0
    images: int = 0
    cost_nanos: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) + getattr(other, name) for name in self.__slots__))

    def as_dict(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "completed": self.completed,
            "failed": self.failed,
            "images": self.images,
            "cost": money.json_number(self.cost_nanos),
            "cost_decimal": money.decimal(self.cost_nanos),
        }


def report(caller: Caller, asked: QueryDict) -> dict[str, Any]:
    """The usage report of the API. Raises InvalidRequest or Overloaded."""
    query.check_known(asked, _TAKES, takes=_TAKES)
    group_by = query.choice(asked, "group_by", GROUPS) or "day"
    first, last = _days(asked)
    with sql.reading():
        sums = by(caller.organization_id, group_by, first=first, last=last)
        rows = _day_rows(sums, first, last) if group_by == "day" else _rows(sums, group_by, caller)
    return {
        "object": "usage",
        "from": first.isoformat(),
        "to": last.isoformat(),
        "timezone": "UTC",
        "group_by": group_by,
        "currency": "usd",
        "total": sum(sums.values(), Sums()).as_dict(),
        "data": rows[:BUCKETS_MAX],
        "truncated": len(rows) > BUCKETS_MAX,
    }


def by(organization_id: int, group_by: str, *, first: dt.date, last: dt.date) -> dict[Any, Sums]:
    """Sums by day (a date), model, provider (slugs) or key (its row's id), over whole days of UTC, both included."""
    start = dt.datetime.combine(first, dt.time(), dt.UTC)
    end = dt.datetime.combine(last, dt.time(), dt.UTC) + _DAY
    mark = UsageMark.objects.first()
    middle = min(max(mark.rolled_up_to, start), end) if mark else start
    parameters: dict[str, Any] = {
        "organization_id": organization_id,
        "start": start,
        "middle": middle,
        "low": usage_rollup.first_id(middle),
        "high": usage_rollup.first_id(end),
    }
    with connection.cursor() as cursor:
        match group_by:
            case "day":
                cursor.execute(_BY_DAY, parameters)
            case "model":
                cursor.execute(_BY_MODEL, parameters)
            case "key":
                cursor.execute(_BY_KEY, parameters)
            case "provider":
                cursor.execute(_BY_PROVIDER, parameters)
            case _:
                raise ValueError(f"usage is not summed by {group_by}")
        return {bucket: Sums(*numbers) for bucket, *numbers in cursor.fetchall()}


def _days(asked: QueryDict) -> tuple[dt.date, dt.date]:
    today = dt.datetime.now(dt.UTC).date()
    last = query.day(asked, "to") or today
    default = max(last, dt.date.min + DAYS_DEFAULT * _DAY) - (DAYS_DEFAULT - 1) * _DAY
    first = query.day(asked, "from") or default
    if first > last:
        raise errors.InvalidRequest("'from' must not be later than 'to'.", param="from")
    if (last - first).days >= BUCKETS_MAX:
        raise errors.InvalidRequest(f"'from' and 'to' may be at most {BUCKETS_MAX} days apart.", param="from")
    return first, last


def _day_rows(sums: dict[Any, Sums], first: dt.date, last: dt.date) -> list[dict[str, Any]]:
    """Every day, also those on which nothing happened."""
    days = (first + number * _DAY for number in range((last - first).days + 1))
    return [{"day": day.isoformat(), **sums.get(day, Sums()).as_dict()} for day in days]


def _rows(sums: dict[Any, Sums], group_by: str, caller: Caller) -> list[dict[str, Any]]:
    """What cost most comes first."""
    ordered = sorted(sums.items(), key=lambda entry: (-entry[1].cost_nanos, -entry[1].requests, str(entry[0])))
    if group_by != "key":
        return [{group_by: bucket or None, **found.as_dict()} for bucket, found in ordered]
    shown = [bucket for bucket, _ in ordered[:BUCKETS_MAX] if bucket is not None]
    keys = ApiKey.objects.filter(organization_id=caller.organization_id).in_bulk(shown)
    return [
        {
            "key_id": keys[bucket].public_id if bucket in keys else None,
            "key_name": keys[bucket].name if bucket in keys else None,
            **found.as_dict(),
        }
        for bucket, found in ordered
    ]
