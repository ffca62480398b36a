"""Pages of an organization's requests, newest first, by filters; each looks at a bounded number of rows."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from typing import Any

import orjson
from django.db import connection
from django.http import QueryDict

from accounts.callers import Caller
from accounts.models import KEY_ID_LENGTH, ApiKey
from core import errors, ids, money, query, sql
from imagesapi import history
from imagesapi.models import Generation, GenerationStatus

# How many requests one page looks at for those that match, and one summary adds up.
WALK_MAX = 5_000
SUMMARY_MAX = 10_000
_METADATA_MAX = 16
_METADATA = re.compile(r"metadata\[([^\0]{1,64})\]", re.DOTALL)
_BOUNDS = ("limit", "starting_after", "ending_before", "created_after", "created_before")
_TAKES = (*_BOUNDS, "key_id", "status", "model", "user", "metadata[key]", "summary")
# What no list shows: texts and documents that may be long.
_WHOLE_ONLY = ("asked", "sent", "adjustments", "receipt", "inputs", "answer")
_FIRST, _LAST = uuid.UUID(int=0), uuid.UUID(int=(1 << 128) - 1)

_COLUMNS = 'organization_id, id, api_key_id, status, model, "user", metadata, cost_nanos'
# Put, and sorted, so that no other index will do than the organization's own: the one of the ids alone would often look
# cheaper, and then walk through everybody else's requests in search of this organization's.
_RANGE = "organization_id = ANY(ARRAY[%(organization_id)s]::bigint[]) AND id >= %(low)s AND id < %(high)s"
_MATCHES = """
    (%(key_id)s::bigint IS NULL OR api_key_id = %(key_id)s)
    AND (%(status)s::text IS NULL OR status = %(status)s)
    AND (%(model)s::text IS NULL OR model = %(model)s)
    AND (%(user)s::text IS NULL OR "user" = %(user)s)
    AND (%(metadata)s::jsonb IS NULL OR metadata @> %(metadata)s::jsonb)
"""
# Walks the index from one end and stops as soon as the page is full. Where it is not full after the last row that may
# be looked at, that row comes along (true): the next page goes on from there.
_OLDER = f"""
WITH found AS MATERIALIZED (
    SELECT id FROM (
        SELECT {_COLUMNS} FROM imagesapi_generation WHERE {_RANGE}
        ORDER BY organization_id, id DESC LIMIT %(walk)s
    ) looked WHERE {_MATCHES} ORDER BY organization_id, id DESC LIMIT %(limit)s + 1
)
SELECT id, false FROM found
UNION ALL (
    SELECT id, true FROM imagesapi_generation WHERE {_RANGE} AND (SELECT count(*) FROM found) <= %(limit)s
    ORDER BY organization_id, id DESC OFFSET %(walk)s - 1 LIMIT 1
)
"""  # noqa: S608 - constants
_NEWER = f"""
WITH found AS MATERIALIZED (
    SELECT id FROM (
        SELECT {_COLUMNS} FROM imagesapi_generation WHERE {_RANGE}
        ORDER BY organization_id DESC, id LIMIT %(walk)s
    ) looked WHERE {_MATCHES} ORDER BY organization_id DESC, id LIMIT %(limit)s + 1
)
SELECT id, false FROM found
UNION ALL (
    SELECT id, true FROM imagesapi_generation WHERE {_RANGE} AND (SELECT count(*) FROM found) <= %(limit)s
    ORDER BY organization_id DESC, id OFFSET %(walk)s - 1 LIMIT 1
)
"""  # noqa: S608 - constants
_SUMMARY = f"""
SELECT status, model, count(*), count(*) FILTER (WHERE {_MATCHES}),
       coalesce(sum(cost_nanos) FILTER (WHERE {_MATCHES}), 0)::bigint
FROM (
    SELECT {_COLUMNS} FROM imagesapi_generation WHERE {_RANGE} ORDER BY organization_id, id DESC LIMIT %(walk)s
) looked GROUP BY status, model
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Search:
    """A list as it was asked for. Ids from `low` up to, and without, `high`."""

    limit: int
    after: uuid.UUID | None
    before: uuid.UUID | None
    low: uuid.UUID
    high: uuid.UUID
    key: str | None
    status: str | None
    model: str | None
    user: str | None
    metadata: dict[str, str]
    summary: bool
    # The parameters that make up the list, for links to its other pages.
    kept: dict[str, str | int]


def page(caller: Caller, asked: QueryDict, *, path: str) -> dict[str, Any]:
    """One page with links to its neighbours, and a summary if asked for. Raises InvalidRequest or Overloaded."""
    search = _read(asked)
    with sql.reading():
        parameters = _parameters(caller, search)
        found = _newer(search, parameters) if search.before else _older(search, parameters)
        rows = Generation.objects.filter(organization_id=caller.organization_id, pk__in=found.ids)
        shown = {row.pk: row for row in rows.select_related("api_key").defer(*_WHOLE_ONLY)}
        document: dict[str, Any] = {
            "object": "list",
            "data": [history.item(shown[found_id]) for found_id in found.ids if found_id in shown],
            "next_page_url": _link(path, search, "starting_after", found.on_from),
            "previous_page_url": _link(path, search, "ending_before", found.back_from),
        }
        if search.summary:
            document["summary"] = _summary(search, parameters)
    return document


def _read(asked: QueryDict) -> Search:
    metadata = {match[1]: name for name in asked if (match := _METADATA.fullmatch(name))}
    query.check_known(asked, {*_TAKES, *metadata.values()}, takes=_TAKES)
    if len(metadata) > _METADATA_MAX:
        raise errors.InvalidRequest(f"At most {_METADATA_MAX} metadata keys can be asked for.", param="metadata")
    query.one_cursor(asked)
    low, high = _times(asked)
    return Search(
        limit=query.limit(asked),
        after=query.cursor(asked, "starting_after", prefix="req", noun="a request"),
        before=query.cursor(asked, "ending_before", prefix="req", noun="a request"),
        low=low,
        high=high,
        key=_key(asked),
        status=query.choice(asked, "status", GenerationStatus.values),
        model=query.text(asked, "model"),
        user=query.text(asked, "user"),
        metadata={key: query.text(asked, name) or "" for key, name in metadata.items()},
        summary=query.flag(asked, "summary"),
        kept={
            "limit": query.limit(asked),
            **{name: str(asked[name]) for name in asked if name not in (*_BOUNDS[:3], "summary")},
        },
    )


def _times(asked: QueryDict) -> tuple[uuid.UUID, uuid.UUID]:
    """`created_after` and `created_before` as ids, so that the index of the list itself serves them."""
    after_ms, before_ms = query.moment_ms(asked, "created_after"), query.moment_ms(asked, "created_before")
    if after_ms is not None and before_ms is not None and before_ms <= after_ms:
        raise errors.InvalidRequest("'created_before' must be later than 'created_after'.", param="created_before")
    return ids.first_of(after_ms or 0), _LAST if before_ms is None else ids.first_of(before_ms)


def _key(asked: QueryDict) -> str | None:
    word = asked.get("key_id")
    if word is not None and not (len(word) == KEY_ID_LENGTH and word.isascii() and word.isalnum()):
        raise errors.InvalidRequest(
            f"'key_id' must be the id of a key: the {KEY_ID_LENGTH} characters between 'pxp_' and the dot.",
            param="key_id",
        )
    return word


def _parameters(caller: Caller, search: Search) -> dict[str, Any]:
    key_id = None
    if search.key is not None:
        keys = ApiKey.objects.filter(organization_id=caller.organization_id, public_id=search.key)
        key_id = keys.values_list("pk", flat=True).first()
        if key_id is None:
            raise errors.InvalidRequest("'key_id' must be the id of one of your keys, ended ones too.", param="key_id")
    return {
        "organization_id": caller.organization_id,
        "key_id": key_id,
        "status": search.status,
        "model": search.model,
        "user": search.user,
        "metadata": orjson.dumps(search.metadata).decode() if search.metadata else None,
        "limit": search.limit,
    }


@dataclass(frozen=True, slots=True)
class _Found:
    """Ids, newest first, and where its neighbours begin."""

    ids: list[uuid.UUID]
    on_from: uuid.UUID | None
    back_from: uuid.UUID | None


def _older(search: Search, parameters: dict[str, Any]) -> _Found:
    high = min(search.high, search.after) if search.after else search.high
    with connection.cursor() as cursor:
        cursor.execute(_OLDER, {**parameters, "low": search.low, "high": high, "walk": WALK_MAX})
        found, on_from = _split(cursor.fetchall(), search.limit)
    if search.after is None:
        return _Found(found, on_from, None)
    # From an empty page back to the place it came from, that place itself among it; from behind the end to the end.
    back_from = found[0] if found else _moved(search.after, -1) if on_from else _FIRST
    return _Found(found, on_from, back_from)


def _newer(search: Search, parameters: dict[str, Any]) -> _Found:
    before = search.before or search.low
    low = max(search.low, _moved(before, 1))
    with connection.cursor() as cursor:
        cursor.execute(_NEWER, {**parameters, "low": low, "high": search.high, "walk": WALK_MAX})
        found, back_from = _split(cursor.fetchall(), search.limit)
    on_from = found[0] if found else _moved(before, 1) if back_from else _LAST
    return _Found(found[::-1], on_from, back_from)


def _split(rows: list[tuple[uuid.UUID, bool]], limit: int) -> tuple[list[uuid.UUID], uuid.UUID | None]:
    """What was found, and where to go on: after the last one shown, or where looking ended; None at the very end."""
    found = [found_id for found_id, is_edge in rows if not is_edge]
    edge = next((found_id for found_id, is_edge in rows if is_edge), None)
    return found[:limit], found[limit - 1] if len(found) > limit else edge


def _moved(place: uuid.UUID, by: int) -> uuid.UUID:
    return uuid.UUID(int=min(max(place.int + by, 0), _LAST.int))


def _link(path: str, search: Search, name: str, place: uuid.UUID | None) -> str | None:
    return None if place is None else query.link(path, search.kept, **{name: ids.public("req", place)})


def _summary(search: Search, parameters: dict[str, Any]) -> dict[str, Any]:
    """Totals over all pages of the list, as far back as the scan may look."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMMARY, {**parameters, "low": search.low, "high": search.high, "walk": SUMMARY_MAX})
        rows = cursor.fetchall()
    by_status: dict[str, int] = {}
    by_model: dict[str, tuple[int, int]] = {}
    for status, model, _, count, cost_nanos in rows:
        if count:
            by_status[status] = by_status.get(status, 0) + count
            before = by_model.get(model, (0, 0))
            by_model[model] = (before[0] + count, before[1] + cost_nanos)
    return {
        "count": sum(by_status.values()),
        "cost": money.json_number(sum(cost_nanos for _, cost_nanos in by_model.values())),
        "currency": "usd",
        "by_status": by_status,
        "by_model": {
            model: {"count": count, "cost": money.json_number(cost_nanos)}
            for model, (count, cost_nanos) in sorted(by_model.items())
        },
        "complete": sum(looked for _, _, looked, _, _ in rows) < SUMMARY_MAX,
    }
