"""An organization's journal for its API: what came in and what went out, newest first."""

from __future__ import annotations

import re
import uuid
from typing import Any

from django.db import connection
from django.http import QueryDict

from accounts.callers import Caller
from billing.models import TransferKind
from core import errors, ids, money, query, sql

_TAKES = ("limit", "starting_after", "ending_before")
# A reference names an event and a kind one movement within it, so the two name a row; its number would tell everybody
# how much is going on here.
_WORD = re.compile(r"(txn_[0-9a-z]{26})_([a-z_]{1,24})", re.ASCII)
_OUTSIDE = {TransferKind.CHARGE_PROMO.value: TransferKind.CHARGE.value}
# What a transaction can be for, in the words of the API.
KINDS = tuple(dict.fromkeys(_OUTSIDE.get(kind, kind) for kind in TransferKind.values))

_COLUMNS = "id, kind, reference_type, reference_id, note, created_at"
_CURSOR = """
SELECT t.id FROM billing_transfer t
WHERE t.reference_id = %(reference)s AND t.kind = %(kind)s AND EXISTS (
    SELECT 1 FROM billing_account a
    WHERE a.organization_id = %(organization_id)s AND a.id IN (t.debit_account_id, t.credit_account_id)
)
"""
# Each account's two sides are walked by an index of their own, as far as the page needs. Put, and sorted, so that no
# other index will do: the one of the ids alone would walk through everybody's movements in search of this account's.
_OLDER = f"""
SELECT a.kind, t.* FROM billing_account a CROSS JOIN LATERAL (
    (SELECT -amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE debit_account_id = ANY(ARRAY[a.id]) AND id < %(place)s ORDER BY debit_account_id, id DESC LIMIT %(rows)s)
    UNION ALL
    (SELECT amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE credit_account_id = ANY(ARRAY[a.id]) AND id < %(place)s ORDER BY credit_account_id, id DESC LIMIT %(rows)s)
) t WHERE a.organization_id = %(organization_id)s ORDER BY t.id DESC LIMIT %(rows)s
"""  # noqa: S608 - constants
_NEWER = f"""
SELECT a.kind, t.* FROM billing_account a CROSS JOIN LATERAL (
    (SELECT -amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE debit_account_id = ANY(ARRAY[a.id]) AND id > %(place)s ORDER BY debit_account_id DESC, id LIMIT %(rows)s)
    UNION ALL
    (SELECT amount_nanos, {_COLUMNS} FROM billing_transfer
     WHERE credit_account_id = ANY(ARRAY[a.id]) AND id > %(place)s ORDER BY credit_account_id DESC, id LIMIT %(rows)s)
) t WHERE a.organization_id = %(organization_id)s ORDER BY t.id LIMIT %(rows)s
"""  # noqa: S608 - constants


def page(caller: Caller, asked: QueryDict, *, path: str) -> dict[str, Any]:
    """Transactions of the caller's organization with links to the pages beside. Raises InvalidRequest or Overloaded."""
    query.check_known(asked, _TAKES, takes=_TAKES)
    query.one_cursor(asked)
    limit = query.limit(asked)
    with sql.reading():
        after, before = (_place(caller, asked, name) for name in ("starting_after", "ending_before"))
        place = before if before is not None else money.MAX_NANOS if after is None else after
        parameters = {"organization_id": caller.organization_id, "place": place, "rows": limit + 1}
        with connection.cursor() as cursor:
            if before is not None:
                cursor.execute(_NEWER, parameters)
            else:
                cursor.execute(_OLDER, parameters)
            rows = cursor.fetchall()
    more, rows = len(rows) > limit, rows[:limit]
    data = [_item(row) for row in (rows if before is None else rows[::-1])]
    more_older, more_newer = (more, after is not None) if before is None else (True, more)
    kept = {"limit": limit}
    return {
        "object": "list",
        "data": data,
        "next_page_url": query.link(path, kept, starting_after=data[-1]["id"]) if data and more_older else None,
        "previous_page_url": query.link(path, kept, ending_before=data[0]["id"]) if data and more_newer else None,
    }


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
        {"account": account, "kind": _KINDS.get(kind, kind), "amount": money.decimal(amount_nanos), "count": count}
        for account, kind, amount_nanos, count in rows
    ]


def _place(caller: Caller, asked: QueryDict, name: str) -> int | None:
    """The row a cursor names. One that is not the organization's names nothing."""
    word = asked.get(name)
    if word is None:
        return None
    match = _WORD.fullmatch(word)
    reference = ids.parse("txn", match[1]) if match else None
    found = None
    if match and reference:
        with connection.cursor() as cursor:
            parameters = {"organization_id": caller.organization_id, "reference": reference, "kind": match[2]}
            cursor.execute(_CURSOR, parameters)
            found = cursor.fetchone()
    if found is None:
        raise errors.InvalidRequest(f"{name!r} must be the id of one of your transactions.", param=name)
    place: int = found[0]
    return place


def _item(row: tuple[Any, ...]) -> dict[str, Any]:
    account, amount_nanos, _, kind, reference_type, reference_id, note, created_at = row
    return {
        "id": f"{ids.public('txn', reference_id)}_{kind}",
        "object": "transaction",
        "kind": _OUTSIDE.get(kind, kind),
        "amount": money.decimal(amount_nanos),
        "currency": "usd",
        "account": account,
        "created_at": int(created_at.timestamp()),
        "request_id": _request(reference_type, reference_id),
        "note": note or None,
    }


def _request(reference_type: str, reference_id: uuid.UUID) -> str | None:
    return ids.public("req", reference_id) if reference_type == "generation" else None
