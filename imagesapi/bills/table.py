"""Our own table of a provider's bill, as CSV, for providers whose bill nobody can fetch and for corrections by hand."""

from __future__ import annotations

import csv
import datetime as dt
import io

from core import money
from imagesapi import bills
from imagesapi.bills import Bill, BillError, Line

SOURCE = "csv"
COLUMNS = ("line", "day", "item", "model", "request", "amount")
LINES_MAX = 1_000_000
DAYS_MAX = 400


def read(text: str) -> Bill:
    """A bill from CSV with the columns line, day, item, model, request, amount, of which item, model and request may be
    empty. The amount is in dollars, negative for a credit. Every day from the first to the last counts as covered.
    Raises BillError, naming the row."""
    rows = csv.DictReader(io.StringIO(text))
    missing = [name for name in ("line", "day", "amount") if name not in (rows.fieldnames or ())]
    if missing:
        raise BillError(f"The table lacks the columns {', '.join(missing)}; it takes {', '.join(COLUMNS)}.")
    bill, keys = Bill(SOURCE, is_whole=False), set()
    for number, row in enumerate(rows, start=2):
        try:
            line = _line(row)
        except (ValueError, TypeError, AttributeError) as error:
            raise BillError(f"Row {number} of the table cannot be read: {error}.") from error
        if line.key in keys:
            raise BillError(f"Row {number} of the table has the line {line.key!r} again; each line needs its own name.")
        keys.add(line.key)
        bill.lines.append(line)
        if number > LINES_MAX:
            raise BillError(f"The table has more than {LINES_MAX} rows; split it.")
    if bill.lines:
        first, last = min(line.day for line in bill.lines), max(line.day for line in bill.lines)
        if (last - first).days >= DAYS_MAX:
            # All of them would count as covered, and what is covered and on no line is credited back.
            raise BillError(f"The table reaches from {first} to {last}, above {DAYS_MAX} days; correct it or split it.")
        bill.days = {first + dt.timedelta(days=number) for number in range((last - first).days + 1)}
    return bill


def _line(row: dict[str, str]) -> Line:
    if any("\0" in (row.get(name) or "") for name in COLUMNS):
        raise ValueError("it holds a NUL")
    key = row["line"].strip()
    if not 0 < len(key) <= 200:
        raise ValueError("the line needs a name of 1 to 200 characters")
    return Line(
        key=key,
        day=bills.day(row["day"].strip()),
        item=(row.get("item") or "").strip()[:200],
        amount_nanos=money.nearest_nanos(row["amount"]),
        told=row["amount"].strip()[:64],
        wire_id=(row.get("model") or "").strip(),
        request_id=(row.get("request") or "").strip()[:200],
    )
