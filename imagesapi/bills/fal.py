"""fal's billing events: one for each request, with billable units, unit price and the amount in nano-dollars."""

from __future__ import annotations

import datetime as dt
from typing import Any
from urllib.parse import urlencode

from django.conf import settings

from imagesapi import bills
from imagesapi.bills import Bill, BillError, Line

SOURCE = "fal_events"
_WHOSE = "fal's billing"
_EVENTS_A_PAGE = 500


def fetch(first: dt.date, last: dt.date) -> Bill:
    """The billing events of these days. Raises BillError."""
    if not settings.FAL_ADMIN_KEY:
        raise BillError("FAL_ADMIN_KEY is not set; fal shows its billing to an administrator's key only.")
    asked = {
        "start": bills.midnight(first).isoformat(),
        "end": bills.midnight(last + dt.timedelta(days=1)).isoformat(),
        "limit": _EVENTS_A_PAGE,
    }
    bill, cursor = Bill(SOURCE, days=set(bills.days(first, last))), None
    for _ in range(bills.PAGES_MAX):
        named = {**asked, **({"cursor": cursor} if cursor else {})}
        address = f"{settings.FAL_ADMIN_URL.rstrip('/')}/models/billing-events?{urlencode(named)}"
        document = bills.get(address, headers={"Authorization": f"Key {settings.FAL_ADMIN_KEY}"}, whose=_WHOSE)
        try:
            bill.lines += [_line(event) for event in document["billing_events"]]
            cursor = document.get("next_cursor") if document.get("has_more") else None
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BillError(f"{_WHOSE} has another form than is known here.") from error
        if cursor is None:
            bill.lines = bills.merged(bill.lines)
            return bill
    raise BillError(f"{_WHOSE} does not come to an end.")


def _line(event: dict[str, Any]) -> Line:
    at = dt.datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00")).astimezone(dt.UTC)
    endpoint, request = str(event["endpoint_id"]), str(event["request_id"])
    amount_nanos = event["cost_estimate_nano_usd"]
    if type(amount_nanos) is not int:
        raise TypeError("the amount is no whole number of nano-dollars")
    units, price = event.get("output_units"), event.get("unit_price")
    return Line(
        key=f"{request}|{endpoint}|{at.isoformat()}"[:200],
        day=at.date(),
        item=f"{endpoint} · {units} units at ${price}"[:200],
        amount_nanos=amount_nanos,
        told=f"{amount_nanos} nano-USD",
        wire_id=endpoint,
        request_id=request[:200],
    )
