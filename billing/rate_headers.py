"""The headers that tell a caller where its limits stand, in the form that clients of OpenAI read."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from billing.ledger import Verdict

_MINUTE_S = 60


def rate_headers(verdict: Verdict) -> dict[str, str]:
    """`x-ratelimit-*` for the tightest limit of each kind; nothing where there is none."""
    found = {}
    if verdict.requests_limit is not None:
        found["x-ratelimit-limit-requests"] = str(verdict.requests_limit)
        found["x-ratelimit-remaining-requests"] = str(verdict.requests_remaining or 0)
        found["x-ratelimit-reset-requests"] = duration(verdict.requests_reset_s or 0)
    if verdict.in_flight_limit is not None:
        found["x-ratelimit-limit-concurrent"] = str(verdict.in_flight_limit)
        found["x-ratelimit-remaining-concurrent"] = str(verdict.in_flight_remaining or 0)
    return found


def duration(seconds: int) -> str:
    """As OpenAI writes how long something takes: 1s, 6m0s."""
    minutes, rest = divmod(seconds, _MINUTE_S)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
