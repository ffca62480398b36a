"""OpenAI's organization costs: daily buckets by line item, read with an administrator's key."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django.conf import settings

from imagesapi import bills
from imagesapi.bills import Bill, BillError, Line

SOURCE = "openai_costs"
_WHOSE = "OpenAI's cost report"
_BUCKETS_A_PAGE = 31


def fetch(first: dt.date, last: dt.date) -> Bill:
    """The costs of these days, by line item and project. Raises BillError."""
    if not settings.OPENAI_ADMIN_KEY:
        raise BillError("OPENAI_ADMIN_KEY is not set; OpenAI shows costs to an administrator's key only.")
    asked: list[tuple[str, Any]] = [
        ("start_time", int(bills.midnight(first).timestamp())),
        ("end_time", int(bills.midnight(last + dt.timedelta(days=1)).timestamp())),
        ("bucket_width", "1d"),
        ("limit", _BUCKETS_A_PAGE),
        ("group_by", "line_item"),
        ("group_by", "project_id"),
        *(("project_ids", project) for project in settings.OPENAI_BILL_PROJECTS),
    ]
    bill, page = Bill(SOURCE), None
    for _ in range(bills.PAGES_MAX):
        document = _page([*asked, *([("page", page)] if page else [])])
        try:
            for bucket in document["data"]:
                _read(bucket, bill)
            page = document.get("next_page") if document.get("has_more") else None
        except (KeyError, TypeError, AttributeError) as error:
            raise BillError(f"{_WHOSE} has another form than is known here.") from error
        if page is None:
            bill.lines = bills.merged(bill.lines)
            return bill
    raise BillError(f"{_WHOSE} does not come to an end.")


def _page(asked: list[tuple[str, Any]]) -> Any:
    address = f"{settings.OPENAI_ADMIN_URL.rstrip('/')}/organization/costs?{urlencode(asked)}"
    return bills.get(address, headers={"Authorization": f"Bearer {settings.OPENAI_ADMIN_KEY}"}, whose=_WHOSE)


def _read(bucket: dict[str, Any], bill: Bill) -> None:
    day = dt.datetime.fromtimestamp(bucket["start_time"], dt.UTC).date()
    bill.days.add(day)
    for result in bucket["results"]:
        amount, item = result["amount"], str(result.get("line_item") or "")
        if str(amount["currency"]).lower() != "usd":
            raise BillError(f"{_WHOSE} tells an amount in {amount['currency']!r}; only dollars are booked.")
        told = amount["value"]
        bill.lines.append(
            Line(
                key=f"{day}|{result.get('project_id') or ''}|{item}"[:200],
                day=day,
                item=item[:200],
                amount_nanos=bills.nanos(told, whose=_WHOSE),
                told=str(told)[:64],
                # "gpt-image-1, image output" is one of the things that the model costs by.
                wire_id=item.partition(",")[0].strip(),
            )
        )
