"""An organization's journal for its API and pages: what came in and what went out, newest first, with the balance."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection

from billing import words
from core import errors, ids, money, query, sql

_TAKES = ("limit", "starting_after", "ending_before", "kind", "created_after", "created_before")
# A reference names an event and a kind one movement within it, so the two name a row; its number would tell everybody
# how much is going on here.
_WORD = re.compile(r"(txn_[0-9a-z]{26})_([a-z_]{1,24})", re.ASCII)
# A row's time is when its transaction began, so rows may be this much out of the order of their times.
_DISORDER = dt.timedelta(minutes=10)
_FIRST, _LAST = dt.datetime(1970, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)

_COLUMNS = "id, kind, reference_type, reference_id, note, created_at, balance_nanos"
_CURSOR = """
SELECT t.id FROM billing_transfer t
WHERE t.reference_id = %(reference)s AND t.kind = %(kind)s AND EXISTS (
    SELECT 1 FROM billing_account a
    WHERE a.organization_id = %(organization_id)s AND a.id IN (t.debit_account_id, t.credit_account_id)
)
"""
_PLACES = "SELECT ledger_place(%(after)s::timestamptz), ledger_place(%(before)s::timestamptz)"

_WHEN = "created_at >= %(created_after)s AND created_at < %(created_before)s"
_OLDER_PLACE = f"id < %(place)s AND id >= %(bound)s AND {_WHEN}"
_NEWER_PLACE = f"id > %(place)s AND id < %(bound)s AND {_WHEN}"
_OF_KIND = "AND kind = ANY(%(kinds)s)"
# Charges are nearly all there is: the others have an index of their own, which this literal condition lets be used.
_BESIDE_USAGE = "AND kind NOT IN ('charge', 'charge_promo') AND kind = ANY(%(kinds)s)"

# Each account's two sides are walked by an index of their own, as far as the page needs. Put, and sorted, so that no
# other index will do: the one of the ids alone would walk through everybody's movements in search of this account's.
_OLDER_START = f"""
SELECT a.kind, t.* FROM billing_account a CROSS JOIN LATERAL (
    (SELECT -amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE debit_account_id = ANY(ARRAY[a.id]) AND {_OLDER_PLACE}
"""  # noqa: S608 - constants
_OLDER_MIDDLE = f"""
     ORDER BY debit_account_id, id DESC LIMIT %(rows)s)
    UNION ALL
    (SELECT amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE credit_account_id = ANY(ARRAY[a.id]) AND {_OLDER_PLACE}
"""  # noqa: S608 - constants
_OLDER_END = """
     ORDER BY credit_account_id, id DESC LIMIT %(rows)s)
) t WHERE a.organization_id = %(organization_id)s ORDER BY t.id DESC LIMIT %(rows)s
"""
_NEWER_START = f"""
SELECT a.kind, t.* FROM billing_account a CROSS JOIN LATERAL (
    (SELECT -amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE debit_account_id = ANY(ARRAY[a.id]) AND {_NEWER_PLACE}
"""  # noqa: S608 - constants
_NEWER_MIDDLE = f"""
     ORDER BY debit_account_id DESC, id LIMIT %(rows)s)
    UNION ALL
    (SELECT amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE credit_account_id = ANY(ARRAY[a.id]) AND {_NEWER_PLACE}
"""  # noqa: S608 - constants
_NEWER_END = """
     ORDER BY credit_account_id DESC, id LIMIT %(rows)s)
) t WHERE a.organization_id = %(organization_id)s ORDER BY t.id LIMIT %(rows)s
"""
_OLDER = f"{_OLDER_START} {_OLDER_MIDDLE} {_OLDER_END}"
_NEWER = f"{_NEWER_START} {_NEWER_MIDDLE} {_NEWER_END}"
_OLDER_CHARGES = f"{_OLDER_START} {_OF_KIND} {_OLDER_MIDDLE} {_OF_KIND} {_OLDER_END}"
_NEWER_CHARGES = f"{_NEWER_START} {_OF_KIND} {_NEWER_MIDDLE} {_OF_KIND} {_NEWER_END}"
_OLDER_BESIDE = f"{_OLDER_START} {_BESIDE_USAGE} {_OLDER_MIDDLE} {_BESIDE_USAGE} {_OLDER_END}"
_NEWER_BESIDE = f"{_NEWER_START} {_BESIDE_USAGE} {_NEWER_MIDDLE} {_BESIDE_USAGE} {_NEWER_END}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement on one of the organization's two accounts, with what that account had after it."""

    account: str
    amount_nanos: int
    id: int
    journal_kind: str
    reference_type: str
    reference_id: uuid.UUID
    note: str
    created_at: dt.datetime
    balance_nanos: int

    @property
    def word(self) -> str:
        """Its public id."""
        return f"{ids.public('txn', self.reference_id)}_{self.journal_kind}"

    @property
    def kind(self) -> str:
        return words.public(self.journal_kind)

    @property
    def said(self) -> str:
        """Its kind in words."""
        return words.say(self.journal_kind)

    @property
    def request(self) -> str | None:
        """The public id of the request it was charged for."""
        return ids.public("req", self.reference_id) if self.reference_type == "generation" else None

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.word,
            "object": "transaction",
            "kind": self.kind,
            "amount": money.decimal(self.amount_nanos),
            "currency": "usd",
            "account": self.account,
            "balance_after": money.decimal(self.balance_nanos),
            "created_at": int(self.created_at.timestamp()),
            "request_id": self.request,
            "note": self.note or None,
        }


@dataclass(frozen=True, slots=True)
class Page:
    """Some movements, newest first, and the links to the pages beside."""

    entries: list[Entry]
    next_page_url: str | None
    previous_page_url: str | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "object": "list",
            "data": [entry.as_dict() for entry in self.entries],
            "next_page_url": self.next_page_url,
            "previous_page_url": self.previous_page_url,
        }


def page(organization_id: int, asked: Any, *, path: str) -> Page:
    """The organization's movements that a query string (a QueryDict) asks for. Raises InvalidRequest or Overloaded."""
    query.check_known(asked, _TAKES, takes=_TAKES)
    query.one_cursor(asked)
    limit = query.limit(asked)
    kind = query.choice(asked, "kind", words.KINDS)
    after_ms, before_ms = (query.moment_ms(asked, name) for name in ("created_after", "created_before"))
    with sql.reading():
        after, before = (_place(organization_id, asked, name) for name in ("starting_after", "ending_before"))
        found = _read(
            organization_id,
            limit=limit + 1,
            newer_than=before,
            older_than=after,
            kind=kind,
            created_after=_moment(after_ms, _FIRST),
            created_before=_moment(before_ms, _LAST),
        )
    more, found = len(found) > limit, found[:limit]
    entries = found if before is None else found[::-1]
    more_older, more_newer = (more, after is not None) if before is None else (True, more)
    named = ("limit", "kind", "created_after", "created_before")
    kept = {"limit": limit, **{name: asked[name] for name in named if name in asked}}
    return Page(
        entries,
        query.link(path, kept, starting_after=entries[-1].word) if entries and more_older else None,
        query.link(path, kept, ending_before=entries[0].word) if entries and more_newer else None,
    )


def after(organization_id: int, place: int, *, limit: int, since: dt.datetime, until: dt.datetime) -> list[Entry]:
    """The next movements behind a row's number, oldest first, of a span of time: how an export walks."""
    with sql.reading(timeout_s=10):
        return _read(
            organization_id,
            limit=limit,
            newer_than=place,
            older_than=None,
            kind=None,
            created_after=since,
            created_before=until,
        )


def _read(
    organization_id: int,
    *,
    limit: int,
    newer_than: int | None,
    older_than: int | None,
    kind: str | None,
    created_after: dt.datetime,
    created_before: dt.datetime,
) -> list[Entry]:
    low, high = _bounds(created_after, created_before)
    newer = newer_than is not None
    parameters: Mapping[str, Any] = {
        "organization_id": organization_id,
        "place": max(newer_than or 0, low - 1) if newer else min(older_than or money.MAX_NANOS, high),
        "bound": high if newer else low,
        "created_after": created_after,
        "created_before": created_before,
        "kinds": words.journal(kind) if kind else None,
        "rows": limit,
    }
    with connection.cursor() as cursor:
        match (newer, kind):
            case (True, None):
                cursor.execute(_NEWER, parameters)
            case (False, None):
                cursor.execute(_OLDER, parameters)
            case (True, "charge"):
                cursor.execute(_NEWER_CHARGES, parameters)
            case (False, "charge"):
                cursor.execute(_OLDER_CHARGES, parameters)
            case (True, _):
                cursor.execute(_NEWER_BESIDE, parameters)
            case _:
                cursor.execute(_OLDER_BESIDE, parameters)
        return [Entry(*row) for row in cursor.fetchall()]


_TOTALS = """
SELECT a.kind, t.kind, sum(CASE WHEN t.credit_account_id = a.id THEN t.amount_nanos ELSE -t.amount_nanos END)::bigint,
       count(*)
FROM billing_account a JOIN billing_transfer t ON a.id IN (t.debit_account_id, t.credit_account_id)
WHERE a.organization_id = %(organization_id)s GROUP BY 1, 2 ORDER BY 1, 2
"""


def totals(organization_id: int) -> list[dict[str, Any]]:
    """Everything that ever came to and went from an organization's accounts, summed by what it was."""
    with connection.cursor() as cursor:
        cursor.execute(_TOTALS, {"organization_id": organization_id})
        rows = cursor.fetchall()
    return [
        {"account": account, "kind": words.public(kind), "amount": money.decimal(amount_nanos), "count": count}
        for account, kind, amount_nanos, count in rows
    ]


def _bounds(created_after: dt.datetime, created_before: dt.datetime) -> tuple[int, int]:
    """Numbers between which every row of that time lies; a few of them may lie outside the time."""
    low, high = 0, money.MAX_NANOS
    if created_after > _FIRST or created_before < _LAST:
        with connection.cursor() as cursor:
            cursor.execute(
                _PLACES,
                {"after": max(created_after, _FIRST + _DISORDER) - _DISORDER, "before": created_before + _DISORDER},
            )
            low, high = cursor.fetchone()
    return low, high


def _moment(ms: int | None, default: dt.datetime) -> dt.datetime:
    return default if ms is None else min(dt.datetime.fromtimestamp(ms // 1000, dt.UTC), _LAST)


def _place(organization_id: int, asked: Mapping[str, str], name: str) -> int | None:
    """The row a cursor names. One that is not the organization's names nothing."""
    word = asked.get(name)
    if word is None:
        return None
    match = _WORD.fullmatch(word)
    reference = ids.parse("txn", match[1]) if match else None
    found = None
    if match and reference:
        with connection.cursor() as cursor:
            parameters = {"organization_id": organization_id, "reference": reference, "kind": match[2]}
            cursor.execute(_CURSOR, parameters)
            found = cursor.fetchone()
    if found is None:
        raise errors.InvalidRequest(f"{name!r} must be the id of one of your transactions.", param=name)
    place: int = found[0]
    return place
