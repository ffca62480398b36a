"""Downloads of an organization's movements, requests and statements as CSV, a few rows in memory at a time."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from accounts.models import Organization
from billing import history, words
from core import errors, ids, query, sql, tables
from core.tables import Amount, Cell
from imagesapi.models import Generation
from imagesapi.reports import focus, statements

DAYS_DEFAULT = 31
DAYS_MAX = 400
ROWS_AT_ONCE = 500
_TAKES = ("from", "to")

TRANSACTIONS = (
    *("id", "created_at", "kind", "description", "account", "amount", "balance_after", "currency", "request_id"),
    "note",
)
REQUESTS = (
    *("id", "created_at", "finished_at", "status", "model", "provider", "endpoint", "key_id", "key_name", "user"),
    *("cost", "currency", "simulated", "error_code"),
)
STATEMENT = ("month", "line", "provider", "model", "count", "amount", "currency")
KINDS = ("transactions", "requests", "focus", "statement")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that is written while it is read."""

    filename: str
    pieces: Iterator[bytes]


def download(kind: str, organization: Organization, asked: Any) -> Download:
    """One of KINDS for an organization; of the days, or the month, that a query string names. Raises InvalidRequest."""
    if kind == "statement":
        query.check_known(asked, ("month",), takes=("month",))
        month = statements.get(organization.pk, asked.get("month"))
        return Download(f"statement-{month.name}.csv", tables.lines(STATEMENT, [_statement(month)]))
    query.check_known(asked, _TAKES, takes=_TAKES)
    first, last = _days(asked)
    since = dt.datetime.combine(first, dt.time(), dt.UTC)
    until = dt.datetime.combine(last + dt.timedelta(days=1), dt.time(), dt.UTC)
    written: dict[str, tuple[Sequence[str], Callable[..., Iterator[list[Sequence[Cell]]]]]] = {
        "transactions": (TRANSACTIONS, _transactions),
        "requests": (REQUESTS, _requests),
        "focus": (focus.COLUMNS, focus.rows),
    }
    header, chunks = written[kind]
    return Download(f"{kind}-{first}-{last}.csv", tables.lines(header, chunks(organization, since, until)))


def _days(asked: Any) -> tuple[dt.date, dt.date]:
    last = query.day(asked, "to") or dt.datetime.now(dt.UTC).date()
    first = query.day(asked, "from") or max(last, dt.date(1971, 1, 1)) - dt.timedelta(days=DAYS_DEFAULT - 1)
    if first > last:
        raise errors.InvalidRequest("'from' must not be later than 'to'.", param="from")
    if (last - first).days >= DAYS_MAX:
        raise errors.InvalidRequest(f"An export may have at most {DAYS_MAX} days.", param="from")
    return first, last


def _transactions(organization: Organization, since: dt.datetime, until: dt.datetime) -> Iterator[list[Sequence[Cell]]]:
    """Oldest first; each chunk begins behind the last row of the one before."""
    place = 0
    while found := history.after(organization.pk, place, limit=ROWS_AT_ONCE, since=since, until=until):
        sql.give_back()  # whoever reads slowly holds no connection
        yield [
            (
                *(entry.word, entry.created_at, entry.kind, words.say(entry.journal_kind), entry.account),
                *(Amount(entry.amount_nanos), Amount(entry.balance_nanos), "USD", entry.request, entry.note),
            )
            for entry in found
        ]
        place = found[-1].id


def _requests(organization: Organization, since: dt.datetime, until: dt.datetime) -> Iterator[list[Sequence[Cell]]]:
    for found in requests(organization, since, until):
        yield [
            (
                *(ids.public("req", row.pk), row.created_at, row.finished_at, row.status, row.model, row.provider),
                *(row.endpoint, *_key(row), row.user, Amount(row.cost_nanos or 0), "USD", row.simulated),
                row.error_code,
            )
            for row in found
        ]


def requests(organization: Organization, since: dt.datetime, until: dt.datetime) -> Iterator[list[Generation]]:
    """The organization's requests of a time, oldest first, in chunks by their ids."""
    mine = Generation.objects.filter(organization=organization).select_related("api_key")
    mine = mine.defer("asked", "sent", "adjustments", "metadata", "inputs", "answer", "error_message", "receipt")
    place, end = _before(ids.first_of(int(since.timestamp() * 1000))), ids.first_of(int(until.timestamp() * 1000))
    while True:
        with sql.reading(timeout_s=10):
            found = list(mine.filter(pk__gt=place, pk__lt=end).order_by("pk")[:ROWS_AT_ONCE])
        sql.give_back()
        if not found:
            return
        yield found
        place = found[-1].pk


def _before(value: uuid.UUID) -> uuid.UUID:
    return uuid.UUID(int=max(value.int - 1, 0))


def _key(row: Generation) -> tuple[str | None, str | None]:
    return (row.api_key.public_id, row.api_key.name) if row.api_key else (None, None)


def _statement(month: statements.Month) -> list[Sequence[Cell]]:
    lines: list[Sequence[Cell]] = [
        (month.name, line["said"], line["provider"], line["model"], line["count"], Amount(line["amount_nanos"]), "USD")
        for line in month.said
    ]
    opening = (month.name, "Opening balance", None, None, None, Amount(month.opening_nanos), "USD")
    closing = (month.name, "Closing balance", None, None, None, Amount(month.closing_nanos), "USD")
    return [opening, *lines, closing]
