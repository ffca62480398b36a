"""Provider bills: what each source of them tells, as lines that are the same for all."""

from __future__ import annotations

import datetime as dt
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import orjson

from core import http, money

TIMEOUT_S: Final = 60
PAGES_MAX: Final = 10_000
_PAGE_MAX_BYTES: Final = 16 * 1024 * 1024
# Which module reads the bill of a provider by itself; of any other a table is imported.
SOURCES: Final[Mapping[str, str]] = {"openai": "openai", "fal": "fal"}


class BillError(Exception):
    """A bill could not be read; the message says what to do and holds no secret."""


@dataclass(frozen=True, slots=True)
class Line:
    """One cost on a provider's bill. `key` names it for good: the same line told again has the same one."""

    key: str
    day: dt.date
    item: str
    amount_nanos: int
    told: str
    # The provider's own name of the model or endpoint, which offers are looked up by.
    wire_id: str = ""
    request_id: str = ""


@dataclass(slots=True)
class Bill:
    """What a source told of some days; `days` are covered whole, also those without a line."""

    source: str
    lines: list[Line] = field(default_factory=list)
    days: set[dt.date] = field(default_factory=set)
    # Whether it tells all there is of its days: a line that it told before and tells no more is then taken back.
    is_whole: bool = True


class Source(Protocol):
    """A module of this package that fetches a provider's bill."""

    def fetch(self, first: dt.date, last: dt.date) -> Bill:
        """The bill of these days, both included. Raises BillError."""


def day(text: str) -> dt.date:
    """A day that people name, as YYYY-MM-DD. Raises ValueError, also for one that no bill of ours can be about."""
    found = dt.date.fromisoformat(text)
    if not 2000 <= found.year < 2100:
        raise ValueError(f"{found} is no day of this century")
    return found


def load(provider: str) -> Source:
    """The source of a provider's bill. Raises BillError where there is none."""
    name = SOURCES.get(provider)
    if name is None:
        raise BillError(f"{provider} has no bill that can be fetched; import a table with --file.")
    return importlib.import_module(f"imagesapi.bills.{name}")


def get(url: str, *, headers: Mapping[str, str], whose: str) -> Any:
    """The JSON at an address. Raises BillError."""
    try:
        reply = http.call(
            "GET", url, deadline=time.monotonic() + TIMEOUT_S, max_bytes=_PAGE_MAX_BYTES, headers=dict(headers)
        )
    except http.CallError as error:
        raise BillError(f"{whose} did not answer: {error}") from error
    if reply.status in (401, 403):
        raise BillError(f"{whose} refused the key ({reply.status}): an administrator's key is needed to read bills.")
    if reply.status != 200:
        raise BillError(f"{whose} answered {reply.status}.")
    try:
        document = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise BillError(f"{whose} answered with something that is no JSON.") from error
    if not isinstance(document, dict):
        raise BillError(f"{whose} answered with something else than an object.")
    return document


def nanos(told: Any, *, whose: str) -> int:
    """An amount of dollars as it was told: text, or a number of JSON. Raises BillError."""
    try:
        return money.nearest_nanos(told if isinstance(told, str) else repr(told))
    except ValueError as error:
        raise BillError(f"{whose} tells an amount that is {error}.") from error


def merged(lines: list[Line]) -> list[Line]:
    """One line for each key: what is told in several pieces is added up, so that none gets lost."""
    found: dict[str, Line] = {}
    for line in lines:
        before = found.get(line.key)
        if before:
            found[line.key] = replace(before, amount_nanos=before.amount_nanos + line.amount_nanos, told="several")
        else:
            found[line.key] = line
    return list(found.values())


def midnight(day: dt.date) -> dt.datetime:
    """When a day begins, in UTC."""
    return dt.datetime.combine(day, dt.time(), dt.UTC)


def days(first: dt.date, last: dt.date) -> list[dt.date]:
    """Every day from one to another, both included."""
    return [first + dt.timedelta(days=number) for number in range((last - first).days + 1)]
