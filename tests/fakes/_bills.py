"""What providers show administrators of their bills: OpenAI's costs in daily buckets, fal's billing events, paged."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from tests.fakes._exchange import Reply, Seen

OPENAI_ADMIN_KEY = "sk-admin-test-0123456789abcdef"
FAL_ADMIN_KEY = "fal-admin-0123:secret-4567"
_DAY_S = 86_400


class Service:
    """Serves /bills. `costs` holds amounts by (day, project, line item), `events` fal's events by request."""

    prefix = "/bills/"
    creating: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.base = ""
        self.costs: dict[tuple[dt.date, str, str], float] = {}
        self.events: list[dict[str, Any]] = []

    def route(self, method: str, path: str) -> str:
        routes = {
            "/bills/openai/v1/organization/costs": "costs",
            "/bills/fal/v1/models/billing-events": "billing_events",
        }
        return routes.get(path, "unknown") if method == "GET" else "unknown"

    def work(self, seen: Seen) -> Reply:
        asked = parse_qs(seen.query, keep_blank_values=True)
        return self._costs(seen, asked) if seen.route == "costs" else self._events(seen, asked)

    def billed(self) -> int:
        return 0

    def reset(self) -> None:
        self.costs.clear()
        self.events.clear()

    # OpenAI

    def _costs(self, seen: Seen, asked: Mapping[str, list[str]]) -> Reply:
        if seen.headers.get("authorization") != f"Bearer {OPENAI_ADMIN_KEY}":
            message = "You have insufficient permissions for this operation. Missing scopes: api.usage.read."
            return Reply(403, {"error": {"message": message, "type": "invalid_request_error", "code": None}})
        known = {"start_time", "end_time", "bucket_width", "limit", "group_by", "page", "project_ids", "api_key_ids"}
        limit = int(asked.get("limit", ["7"])[0])
        if set(asked) - known or "start_time" not in asked or not 1 <= limit <= 180:
            return Reply(400, {"error": {"message": "Invalid query.", "type": "invalid_request_error", "code": None}})
        first = int(asked["start_time"][0]) // _DAY_S * _DAY_S
        last = int(asked["end_time"][0])
        starts = list(range(first, last, _DAY_S))
        place = int(asked["page"][0].removeprefix("page_")) if "page" in asked else 0
        shown = starts[place : place + limit]
        more = place + limit < len(starts)
        return Reply(
            200,
            {
                "object": "page",
                "data": [self._bucket(start, asked) for start in shown],
                "has_more": more,
                "next_page": f"page_{place + limit}" if more else None,
            },
        )

    def _bucket(self, start: int, asked: Mapping[str, list[str]]) -> dict[str, Any]:
        day = dt.datetime.fromtimestamp(start, dt.UTC).date()
        grouped, wanted = asked.get("group_by", []), asked.get("project_ids")
        sums: dict[tuple[str | None, str | None], float] = {}
        for (on, project, item), value in self.costs.items():
            if on != day or (wanted and project not in wanted):
                continue
            key = (project if "project_id" in grouped else None, item if "line_item" in grouped else None)
            sums[key] = sums.get(key, 0.0) + value
        results = [
            {
                "object": "organization.costs.result",
                "amount": {"value": value, "currency": "usd"},
                "line_item": item,
                "project_id": project,
            }
            for (project, item), value in sums.items()
        ]
        return {"object": "bucket", "start_time": start, "end_time": start + _DAY_S, "results": results}

    # fal

    def _events(self, seen: Seen, asked: Mapping[str, list[str]]) -> Reply:
        if seen.headers.get("authorization") != f"Key {FAL_ADMIN_KEY}":
            return Reply(403, {"error": {"type": "authorization_error", "message": "An admin key is needed."}})
        start, end = (dt.datetime.fromisoformat(asked[name][0]) for name in ("start", "end"))
        shown = [event for event in self.events if start <= _at(event) < end]
        place, limit = int(asked.get("cursor", ["0"])[0]), int(asked.get("limit", ["50"])[0])
        more = place + limit < len(shown)
        return Reply(
            200,
            {
                "billing_events": shown[place : place + limit],
                "next_cursor": str(place + limit) if more else None,
                "has_more": more,
            },
        )


def event(request: str, endpoint: str, at: dt.datetime, nanos: int, *, units: float = 1) -> dict[str, Any]:
    """One billing event as fal writes it."""
    return {
        "request_id": request,
        "endpoint_id": endpoint,
        "timestamp": at.isoformat().replace("+00:00", "Z"),
        "output_units": units,
        "unit_price": nanos / units / 1e9,
        "percent_discount": None,
        "cost_estimate_nano_usd": nanos,
    }


def _at(event: Mapping[str, Any]) -> dt.datetime:
    return dt.datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
