"""What the API of statements and exports says of itself."""

from __future__ import annotations

from collections.abc import Sequence

from billing import words
from core import openapi
from core.openapi import Answer, Operation, Parameter
from core.schemas import (
    DAY,
    boolean,
    choice,
    constant,
    dollars,
    integer,
    listed,
    named,
    or_null,
    pattern,
    record,
    text,
)
from imagesapi.reports import api, exports, focus, statement_lines, statements

# --- statements -------------------------------------------------------------------------------------------------------

_MONTH = text("A month in UTC, such as 2026-10.", pattern=pattern(statements.MONTH))
_SAID = {
    "top_ups": "What was paid in.",
    "grants": "Granted credit, less what of it expired.",
    "charges": "What requests cost, with a minus.",
    "credited_back": "Given back after providers' bills.",
    "refunds": "What was paid back, with a minus.",
}
_MEMBERS = {
    "object": constant("statement"),
    "month": _MONTH,
    "closed": boolean("It will never change any more."),
    "currency": constant("usd"),
    "timezone": constant("UTC"),
    "opening": dollars("The balance when the month began."),
    **{name: dollars(_SAID[name]) for name in statement_lines.SECTIONS},
    "other": dollars("Everything else."),
    "closing": dollars("Opening and all sections, added up."),
}
_LINE = record(
    "All movements of a kind; of charges those of a model at a provider.",
    kind=choice(words.KINDS),
    provider=or_null(text()),
    model=or_null(text()),
    count=integer("How many movements.", minimum=0),
    amount=dollars(),
)
_SUMMARY = named("StatementSummary", record("One month of an organization's money.", **_MEMBERS))
_STATEMENT = named("Statement", record("One month, with its lines.", **_MEMBERS, lines=listed(_LINE)))
_SUMMARY_SHOWN = {
    "object": "statement",
    "month": "2026-10",
    "closed": True,
    "currency": "usd",
    "timezone": "UTC",
    "opening": "0.00",
    "top_ups": "25.00",
    "grants": "0.00",
    "charges": "-0.011",
    "credited_back": "0.00",
    "refunds": "0.00",
    "other": "0.00",
    "closing": "24.989",
}
_LINES_SHOWN = [
    {"kind": "top_up", "provider": None, "model": None, "count": 1, "amount": "25.00"},
    {"kind": "charge", "provider": "openai", "model": "gpt-image-1", "count": 1, "amount": "-0.011"},
]
_WHICH = (Parameter("month", _MONTH, "One that has begun; without it the current one.", example="2026-10"),)

openapi.describe(
    api.Statements,
    get=Operation(
        "list_statements",
        "The organization's months, newest first",
        "Statements",
        {
            200: openapi.answer(
                "The months in which money moved, and the current one.",
                record(object=constant("list"), data=listed(_SUMMARY, maxItems=statements.MONTHS_MAX)),
                example={"object": "list", "data": [_SUMMARY_SHOWN]},
            )
        },
    ),
)
openapi.describe(
    api.Statement,
    get=Operation(
        "get_statement",
        "One month with its lines",
        "Statements",
        {200: openapi.answer("The statement.", _STATEMENT, example={**_SUMMARY_SHOWN, "lines": _LINES_SHOWN})},
        faults=openapi.QUERY,
        parameters=_WHICH,
    ),
)

# --- exports ----------------------------------------------------------------------------------------------------------

_DAYS = (
    Parameter("from", DAY, f"The first day, in UTC; without it the last {exports.DAYS_DEFAULT} days."),
    Parameter("to", DAY, f"The last day, in UTC; {exports.DAYS_MAX} days at most. Without it today."),
)

_FILENAME = {
    "description": "The file's name: what it holds, and of when.",
    "required": True,
    "schema": text(pattern='^attachment; filename="[0-9a-z-]+[.]csv"$'),
}


def _export(name: str, summary: str, columns: Sequence[str], parameters: tuple[Parameter, ...]) -> Operation:
    """A table as CSV: its first line names the columns."""
    table = text(pattern=f"^{','.join(columns)}\\r\\n")
    return Operation(
        name,
        summary,
        "Exports",
        {200: Answer("The table, written while it is read.", {"text/csv": table}, {"Content-Disposition": _FILENAME})},
        description="Text that a spreadsheet would run has an apostrophe in front.",
        faults=openapi.QUERY,
        parameters=parameters,
    )


openapi.describe(
    api.TransactionsExport,
    get=_export("export_transactions", "The transactions as CSV, oldest first", exports.TRANSACTIONS, _DAYS),
)
openapi.describe(
    api.RequestsExport,
    get=_export("export_requests", "Your requests and their cost as CSV, oldest first", exports.REQUESTS, _DAYS),
)
openapi.describe(
    api.FocusExport,
    get=_export("export_focus", "Charges as CSV in the columns of FOCUS", focus.COLUMNS, _DAYS),
)
openapi.describe(
    api.StatementExport,
    get=_export("export_statement", "One month as CSV", exports.STATEMENT, _WHICH),
)
