"""CSV that is safe to open: text that a spreadsheet would run is kept text, amounts stay numbers."""

from __future__ import annotations

import csv
import datetime as dt
import io
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from django.http import StreamingHttpResponse

from core import money

# What a spreadsheet takes for the beginning of a formula, in both widths.
_FORMULA = tuple("=+-@\t\r\n|%") + (
    "\uff1d",
    "\uff0b",
    "\uff0d",
    "\uff20",
    "\u2212",
    "\ufe63",
    "\ufe62",
    "\ufe66",
    "\ufe6b",
)


@dataclass(frozen=True, slots=True)
class Amount:
    """Nano-dollars, written as a plain decimal number of dollars."""

    nanos: int


Cell = str | int | bool | dt.datetime | dt.date | uuid.UUID | Amount | None


def safe(text: str) -> str:
    """A text as a cell: an apostrophe in front of what would be a formula, also behind blanks, and no NUL in it."""
    text = text.replace("\0", "")
    begins = text.lstrip(" \u00a0\u3000\ufeff\u200b")
    return f"'{text}" if begins.startswith(_FORMULA) or text.startswith(_FORMULA) else text


def written(cell: Cell) -> str:
    """A cell as it stands in the file."""
    match cell:
        case None:
            return ""
        case bool():
            return "true" if cell else "false"
        case Amount():
            return money.decimal(cell.nanos)
        case int():
            return str(cell)
        case dt.datetime():
            return cell.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case dt.date():
            return cell.isoformat()
        case uuid.UUID():
            return str(cell)
    return safe(cell)


def lines(header: Sequence[str], chunks: Iterable[Iterable[Sequence[Cell]]]) -> Iterator[bytes]:
    """The file, a piece for each chunk of rows: no more than one is in memory."""
    yield _piece([header])
    for chunk in chunks:
        yield _piece(chunk)


def _piece(rows: Iterable[Sequence[Cell]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    for row in rows:
        writer.writerow([written(cell) for cell in row])
    return text.getvalue().encode()


def response(pieces: Iterator[bytes], *, filename: str) -> StreamingHttpResponse:
    """A download that no cache keeps."""
    found = StreamingHttpResponse(pieces, content_type="text/csv; charset=utf-8")
    found.headers["Content-Disposition"] = f'attachment; filename="{filename}"'
    found.headers["Cache-Control"] = "no-store, private"
    found.headers["X-Content-Type-Options"] = "nosniff"
    return found
