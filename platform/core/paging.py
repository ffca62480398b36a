"""Keyset pages of a list, newest first: from one row on to either side, with links that lead further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.db.models import Model, QuerySet

from core import errors, query

TAKES = ("limit", "starting_after", "ending_before")
Row = TypeVar("Row", bound=Model)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows of a list, and whether there are more on either side."""

    rows: list[Row]
    has_newer: bool
    has_older: bool


def cut(rows: QuerySet[Row], *, limit: int, after: Any = None, before: Any = None) -> Page[Row]:
    """The rows next to a primary key: older than `after`, or newer than `before`; the newest without either."""
    if before is not None:
        found = list(rows.filter(pk__gt=before).order_by("pk")[: limit + 1])
        return Page(found[:limit][::-1], has_newer=len(found) > limit, has_older=True)
    if after is not None:
        rows = rows.filter(pk__lt=after)
    found = list(rows.order_by("-pk")[: limit + 1])
    return Page(found[:limit], has_newer=after is not None, has_older=len(found) > limit)


def read(rows: QuerySet[Row], asked: Any, *, place: Callable[[str], Any], noun: str) -> Page[Row]:
    """The page that a query string asks for. `place` is the primary key that an id stands for, None for no id of the
    caller's. Raises InvalidRequest, and the same for an id of others as for one that nothing has."""
    query.check_known(asked, TAKES, takes=TAKES)
    query.one_cursor(asked)
    places = {}
    for name in ("starting_after", "ending_before"):
        if name in asked:
            places[name] = place(asked[name])
            if places[name] is None:
                raise errors.InvalidRequest(f"{name!r} must be the id of {noun}.", param=name)
    return cut(rows, limit=query.limit(asked), after=places.get("starting_after"), before=places.get("ending_before"))


def document(
    page: Page[Row], data: list[dict[str, Any]], *, path: str, asked: Mapping[str, str], word: Callable[[Row], str]
) -> dict[str, Any]:
    """The list as the API shows it: `data` of the page's rows, and where it goes on."""
    kept = {name: value for name, value in asked.items() if name not in ("starting_after", "ending_before")}
    older = newer = None
    if page.rows and page.has_older:
        older = query.link(path, kept, starting_after=word(page.rows[-1]))
    if page.rows and page.has_newer:
        newer = query.link(path, kept, ending_before=word(page.rows[0]))
    return {"object": "list", "data": data, "next_page_url": older, "previous_page_url": newer}
