"""Query parameters of lists: each read strictly, with a 400 that says what is taken, and put into links again."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Container, Iterable, Mapping
from typing import Any
from urllib.parse import urlencode

from core import errors, ids

LIMIT_MAX = 100
LIMIT_DEFAULT = 20
TEXT_MAX_CHARS = 512
# Days with whom one can still reckon in both directions.
_FIRST_YEAR, _LAST_YEAR = 1970, 2999
UNIX_S = re.compile(r"\d{1,11}", re.ASCII)
# As ISO 8601 and RFC 3339 have it; a plus that was not escaped arrives as a space.
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|z|[+ -]\d\d:?\d\d)?)?", re.ASCII)
_MOMENT_HELP = "a Unix time in seconds or an ISO 8601 time, such as 2026-11-22 or 2026-11-22T10:00:00Z"


def check_known(query: Any, known: Container[str], *, takes: Iterable[str]) -> None:
    """Refuse a parameter that this route does not have, and one that is sent twice. `query` is Django's QueryDict."""
    for name, values in query.lists():
        if name not in known:
            names = ", ".join(repr(name) for name in takes) or "none"
            raise errors.UnknownParameter(
                f"Unknown query parameter {name[:60]!r}. This route takes {names}.", param=name[:60]
            )
        if len(values) > 1:
            raise errors.InvalidRequest(f"{name!r} was sent {len(values)} times; send it once.", param=name)


def text(query: Mapping[str, str], name: str) -> str | None:
    """A text to be compared with, never a pattern."""
    value = query.get(name)
    if value is None:
        return None
    if not value or len(value) > TEXT_MAX_CHARS or "\0" in value:
        raise errors.InvalidRequest(
            f"{name!r} must have 1 to {TEXT_MAX_CHARS} characters, none of them NUL.", param=name
        )
    return value


def choice(query: Mapping[str, str], name: str, choices: Iterable[str]) -> str | None:
    """One of a few words."""
    value = query.get(name)
    allowed = tuple(choices)
    if value is not None and value not in allowed:
        raise errors.InvalidRequest(f"{name!r} must be one of {', '.join(allowed)}.", param=name)
    return value


def flag(query: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    """true or false, also as 1 or 0."""
    value = query.get(name)
    if value is None:
        return default
    if value.lower() not in ("true", "false", "1", "0"):
        raise errors.InvalidRequest(f"{name!r} must be true or false.", param=name)
    return value.lower() in ("true", "1")


def limit(query: Mapping[str, str]) -> int:
    """How many items a page may have."""
    value = query.get("limit")
    if value is None:
        return LIMIT_DEFAULT
    if not (value.isascii() and value.isdigit() and len(value) < 4 and 1 <= int(value) <= LIMIT_MAX):
        raise errors.InvalidRequest(f"'limit' must be from 1 to {LIMIT_MAX}.", param="limit")
    return int(value)


def one_cursor(query: Mapping[str, str]) -> None:
    """A page has one side to begin at."""
    if "starting_after" in query and "ending_before" in query:
        raise errors.InvalidRequest("Send 'starting_after' or 'ending_before', not both.", param="ending_before")


def cursor(query: Mapping[str, str], name: str, *, prefix: str, noun: str) -> uuid.UUID | None:
    """A place in a list, named by an id; whether something has that id does not matter."""
    value = query.get(name)
    if value is None:
        return None
    found = ids.parse(prefix, value)
    if found is None:
        raise errors.InvalidRequest(f"{name!r} must be the id of {noun}, such as {prefix}_01….", param=name)
    return found


def moment_ms(query: Mapping[str, str], name: str) -> int | None:
    """A moment in milliseconds since 1970; without a zone it is UTC."""
    value = query.get(name)
    if value is None:
        return None
    if UNIX_S.fullmatch(value):
        return int(value) * 1000
    match = MOMENT.fullmatch(value)
    try:
        if match is None:
            raise ValueError(value)
        day, clock, zone = match.groups()
        zone = "+00:00" if zone in (None, "Z", "z") else zone.replace(" ", "+")
        found = dt.datetime.fromisoformat(f"{day}T{clock or '00:00'}{zone}")
        return max(int(found.timestamp() * 1000), 0)
    except (ValueError, OverflowError) as error:
        raise errors.InvalidRequest(f"{name!r} must be {_MOMENT_HELP}.", param=name) from error


def day(query: Mapping[str, str], name: str) -> dt.date | None:
    """A calendar day, in UTC."""
    value = query.get(name)
    if value is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
            raise ValueError(value)
        found = dt.date.fromisoformat(value)
        if not _FIRST_YEAR <= found.year <= _LAST_YEAR:
            raise ValueError(value)
        return found
    except ValueError as error:
        raise errors.InvalidRequest(f"{name!r} must be a day, such as 2026-11-22 (UTC).", param=name) from error


def link(path: str, parameters: Mapping[str, Any], **changes: Any) -> str:
    """The same list, from another place."""
    return f"{path}?{urlencode({**parameters, **changes})}"
