"""An organization's months: opening balance, what came in and went out, closing balance."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import connection

from billing import words
from core import errors, money, sql
from imagesapi.models import Statement
from imagesapi.reports import ledger_days, statement_lines

log = structlog.get_logger(__name__)

MONTH = re.compile(r"(\d{4})-(0[1-9]|1[0-2])", re.ASCII)
MONTHS_MAX = 120

# One statement, so one snapshot: what is added up, what came since (by each account's own index), the closing before,
# and the balance that all of it must come to.
_OPEN = f"""
WITH mark AS (
    SELECT coalesce(max(last_transfer), 0) AS last, coalesce(max(next_month), DATE '1970-01-01') AS next_month
    FROM imagesapi_ledgermark
), own AS (
    SELECT id FROM billing_account WHERE organization_id = %(organization_id)s
), moved AS (
    SELECT s.* FROM own CROSS JOIN mark CROSS JOIN LATERAL (
        SELECT credit_account_id AS own_id, debit_account_id AS other_id, amount_nanos AS amount, kind, created_at,
               reference_type, reference_id FROM billing_transfer WHERE credit_account_id = own.id AND id > mark.last
        UNION ALL
        SELECT debit_account_id, credit_account_id, -amount_nanos, kind, created_at,
               reference_type, reference_id FROM billing_transfer WHERE debit_account_id = own.id AND id > mark.last
    ) s
)
SELECT 'line', date_trunc('month', greatest(day, mark.next_month))::date, kind, provider, model, sum(count)::bigint,
       sum(amount)::bigint
FROM mark CROSS JOIN (
    SELECT day, kind, provider, model, count, amount_nanos AS amount FROM imagesapi_ledgerday
    WHERE organization_id = %(organization_id)s AND day >= (SELECT next_month FROM mark)
    UNION ALL SELECT day, kind, provider, model, 1, amount FROM ({ledger_days.SIDES}) sides
) rows GROUP BY 2, 3, 4, 5
UNION ALL
SELECT 'opening', next_month, '', '', '', 0, coalesce((
    SELECT closing_nanos FROM imagesapi_statement WHERE organization_id = %(organization_id)s
    ORDER BY month DESC LIMIT 1
), 0) FROM mark
UNION ALL
SELECT 'balance', NULL, '', '', '', 0, coalesce(sum(posted_nanos), 0)::bigint FROM billing_account
WHERE organization_id = %(organization_id)s
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Month:
    """One month of an organization. `lines` add up to what lies between opening and closing."""

    month: dt.date
    opening_nanos: int
    closing_nanos: int
    lines: list[dict[str, Any]]
    closed: bool

    def __post_init__(self) -> None:
        if self.opening_nanos + sum(money.nanos(line["amount"]) for line in self.lines) != self.closing_nanos:
            raise ArithmeticError(f"the statement of {self.name} does not add up")

    @property
    def name(self) -> str:
        return f"{self.month:%Y-%m}"

    @property
    def totals(self) -> dict[str, int]:
        return statement_lines.totals(self.lines)

    @property
    def said(self) -> list[dict[str, Any]]:
        """The lines for people."""
        return [
            {**line, "said": words.say(line["kind"]), "amount_nanos": money.nanos(line["amount"])}
            for line in self.lines
        ]

    def summary(self) -> dict[str, Any]:
        return {
            "object": "statement",
            "month": self.name,
            "closed": self.closed,
            "currency": "usd",
            "timezone": "UTC",
            "opening": money.decimal(self.opening_nanos),
            **{name: money.decimal(amount_nanos) for name, amount_nanos in self.totals.items()},
            "closing": money.decimal(self.closing_nanos),
        }

    def as_dict(self) -> dict[str, Any]:
        return {**self.summary(), "lines": self.lines}


def months(organization_id: int) -> list[Month]:
    """The organization's months in which something moved, newest first, and the current one."""
    open_months = _open(organization_id)
    rows = Statement.objects.filter(organization_id=organization_id).order_by("-month")[:MONTHS_MAX]
    return [*open_months[::-1], *(_closed(row) for row in rows)][:MONTHS_MAX]


def get(organization_id: int, word: str | None) -> Month:
    """The statement of a month such as 2026-10, of the current one without. Raises InvalidRequest."""
    today = dt.datetime.now(dt.UTC).date().replace(day=1)
    month = _parse(word, today)
    open_months = _open(organization_id)
    found = next((one for one in open_months if one.month == month), None)
    if found is not None:
        return found
    row = Statement.objects.filter(organization_id=organization_id, month__lte=month).order_by("-month").first()
    earlier = [one for one in open_months if one.month < month]
    if row is not None and row.month == month:
        return _closed(row)
    standing = earlier[-1].closing_nanos if earlier else row.closing_nanos if row else 0
    return Month(month, standing, standing, [], closed=month < open_months[0].month)


def _parse(word: str | None, today: dt.date) -> dt.date:
    if word is None:
        return today
    match = MONTH.fullmatch(word)
    month = dt.date(int(match[1]), int(match[2]), 1) if match and int(match[1]) >= 1970 else None
    if month is None or month > today:
        raise errors.InvalidRequest("'month' must be a month that has begun, such as 2026-10.", param="month")
    return month


def _closed(row: Statement) -> Month:
    return Month(row.month, row.opening_nanos, row.closing_nanos, row.lines, closed=True)


def _open(organization_id: int) -> list[Month]:
    """The months that are not closed yet, oldest first, at least the current one; the last closing is the balance."""
    by_month: dict[dt.date, list[tuple[Any, ...]]] = {}
    opening_nanos = balance_nanos = 0
    next_month = dt.date(1970, 1, 1)
    with sql.reading(timeout_s=5), connection.cursor() as cursor:
        # The day from which rows count is a column here, and a value where the journal is added up.
        cursor.execute(_OPEN, {"organization_id": organization_id, "next_month": dt.date(1970, 1, 1)})
        for what, month, *row in cursor.fetchall():
            match what:
                case "line":
                    by_month.setdefault(month, []).append(tuple(row))
                case "opening":
                    opening_nanos, next_month = row[-1], month
                case _:
                    balance_nanos = row[-1]
    by_month.setdefault(max(dt.datetime.now(dt.UTC).date().replace(day=1), next_month), [])
    found = []
    for month in sorted(by_month):
        lines = statement_lines.fold(by_month[month])
        closing_nanos = opening_nanos + sum(money.nanos(line["amount"]) for line in lines)
        found.append(Month(month, opening_nanos, closing_nanos, lines, closed=False))
        opening_nanos = closing_nanos
    if opening_nanos != balance_nanos:
        log.error("a statement differs from the balance", organization=organization_id, differs=balance_nanos)
        raise errors.InternalError("This statement does not add up, so it is not shown. We have been told.")
    return found
