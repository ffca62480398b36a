"""Offers that failed too often rest for a while, in all processes; looking who does costs a request no round trip.

The table decides, by the database's clock. What a process knows of it is a view that comes with its callers' keys.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

import structlog

from accounts.callers import Caller
from core import errors, sql

if TYPE_CHECKING:
    from imagesapi.routing import Candidate

log = structlog.get_logger(__name__)

CALLS_MIN = 20
FAILED_SHARE_MIN_PERCENT = 50
WINDOW_S = 30
OPEN_S = 15
# A prober that says nothing for this long is presumed dead, and another one goes.
PROBE_S = 60
# Calls older than this do not count any more, however late they end: it bounds what one failure has to look at.
_SENT_WITHIN_S = 600
# What was written at a moment may be missing from what others read just after it.
_MARGIN_MS = 50
_RETRY_WHILE_PROBED_S = 5
_LOST_FOR_MS = 1000
# How long accounts.keys lets a request that spends use what was read of its key before, and some time to get here.
_CALLER_MAX_AGE_MS = 12_000

_NOW_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_OPEN_UNTIL_MS = "(extract(epoch FROM open_until) * 1000)::bigint"
_PROBE_UNTIL_MS = "coalesce((extract(epoch FROM probe_until) * 1000)::bigint, 0)"
# The database's time, then `offer:open until:probed until` of every offer that rests, in milliseconds; nothing while
# nobody does.
FACT = f"""
SELECT concat({_NOW_MS},
    string_agg(concat_ws(':', '', offer_id, {_OPEN_UNTIL_MS}, {_PROBE_UNTIL_MS}), '' ORDER BY offer_id))
FROM imagesapi_breaker HAVING count(*) > 0
"""  # noqa: S608 - constants

_FAILED = f"""
WITH probed AS (
    UPDATE imagesapi_breaker SET state = 'open', opened_at = now(), probe_until = NULL,
        open_until = now() + make_interval(secs => {OPEN_S}), reason = 'the probe failed'
    WHERE offer_id = %(offer_id)s AND state = 'half_open' RETURNING open_until, reason
), counted AS (
    SELECT count(*) AS calls, count(*) FILTER (WHERE status <> 'succeeded') AS failures FROM imagesapi_attempt
    WHERE offer_id = %(offer_id)s AND sent_at > now() - make_interval(secs => {_SENT_WITHIN_S})
      AND finished_at > now() - make_interval(secs => {WINDOW_S}) AND NOT own_key
      AND (status = 'succeeded' OR status <> 'refused' AND error_code NOT IN ('', 'cancelled'))
), opened AS (
    INSERT INTO imagesapi_breaker (offer_id, opened_at, open_until, reason)
    SELECT %(offer_id)s, now(), now() + make_interval(secs => {OPEN_S}),
        format('%s of %s calls failed within {WINDOW_S} seconds', failures, calls)
    FROM counted WHERE calls >= {CALLS_MIN} AND failures * 100 >= calls * {FAILED_SHARE_MIN_PERCENT}
    ON CONFLICT (offer_id) DO NOTHING RETURNING open_until, reason
)
SELECT {_NOW_MS}, {_OPEN_UNTIL_MS}, reason
FROM (SELECT * FROM probed UNION ALL SELECT * FROM opened) AS changed
"""  # noqa: S608 - constants

_SUCCEEDED = f"""
WITH closed AS (
    DELETE FROM imagesapi_breaker WHERE offer_id = %(offer_id)s AND state = 'half_open' RETURNING 1
)
SELECT {_NOW_MS} FROM closed
"""  # noqa: S608 - constants

_CLAIM = f"""
WITH claimed AS (
    UPDATE imagesapi_breaker
    SET state = 'half_open', probe_until = now() + make_interval(secs => {PROBE_S})
    WHERE offer_id = %(offer_id)s AND open_until <= now() AND (probe_until IS NULL OR probe_until <= now())
    RETURNING probe_until
)
SELECT {_NOW_MS}, EXISTS (SELECT 1 FROM claimed), {_OPEN_UNTIL_MS}, {_PROBE_UNTIL_MS}
FROM (SELECT 1) AS always LEFT JOIN (
    SELECT open_until, coalesce((SELECT probe_until FROM claimed), probe_until) AS probe_until
    FROM imagesapi_breaker WHERE offer_id = %(offer_id)s
) AS breaker ON true
"""  # noqa: S608 - constants

_RELEASE = f"""
UPDATE imagesapi_breaker SET state = 'open', probe_until = NULL WHERE offer_id = %(offer_id)s AND state = 'half_open'
RETURNING {_NOW_MS}
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class _Rest:
    """One offer that rests: until when, and until when somebody probes it (0 while nobody does)."""

    open_until_ms: int
    probe_until_ms: int = 0


@dataclass(frozen=True, slots=True)
class _View:
    """What this process knows, as of a moment on the database's clock."""

    as_of_ms: int = 0
    resting: Mapping[int, _Rest] = field(default_factory=dict)


_view = _View()
_lock = threading.Lock()


def note(offer_id: int, *, ok: bool) -> None:
    """How a call ended; to be called once its attempt is closed in the log.

    A failure costs a round trip, which counts the offer's calls and opens its breaker when too many failed; a success
    costs one only where this process knows that the offer rests. Only a success of the probe's time closes a breaker:
    calls sent before it opened end long afterwards, and half of them well.
    """
    known = _view.resting.get(offer_id)
    if ok:
        if known is not None and (closed := sql.row(_SUCCEEDED, {"offer_id": offer_id})):
            log.info("an offer is back", offer=offer_id)
            _change(offer_id, None, at_ms=closed[0])
        return
    if known is not None and known.open_until_ms > _now_ms():
        return
    found = sql.row(_FAILED, {"offer_id": offer_id})
    if found is not None:
        at_ms, open_until_ms, reason = found
        log.warning("an offer rests", offer=offer_id, reason=reason, rest_s=OPEN_S)
        _change(offer_id, _Rest(open_until_ms), at_ms=at_ms)


def usable(candidates: Sequence[Candidate], caller: Caller) -> tuple[Candidate, ...]:
    """Those that do not rest, in their order: the well ones, and the half-open ones whose probe nobody makes yet.

    No round trip. Keys that organizations brought and simulated offers have no breaker. Raises Overloaded
    (`providers_resting`) when nothing is left.
    """
    learn(caller)
    resting = _view.resting
    if not resting:
        return tuple(candidates)
    now_ms = _now_ms()
    kept = tuple(candidate for candidate in candidates if not _rests(candidate, resting, now_ms))
    if not kept:
        refuse(candidates)
    return kept


def may_call(candidate: Candidate) -> bool:
    """Whether the candidate may be called now. A round trip only where its offer is half open, to claim the probe."""
    rest = _view.resting.get(candidate.offer.id)
    if rest is None or not _has_breaker(candidate):
        return True
    return not _rests(candidate, {candidate.offer.id: rest}, _now_ms()) and claim_probe(candidate.offer.id)


def claim_probe(offer_id: int) -> bool:
    """Whether the offer may be called now: its breaker is gone, or its one probe is ours. One round trip."""
    at_ms, ours, open_until_ms, probe_until_ms = sql.row(_CLAIM, {"offer_id": offer_id}) or (0, True, None, 0)
    if open_until_ms is None:
        _change(offer_id, None, at_ms=at_ms)
        return True
    if not ours:  # somebody was faster by a hair, and when their probe ends is not told yet
        probe_until_ms = max(probe_until_ms, at_ms + _LOST_FOR_MS)
    _change(offer_id, _Rest(open_until_ms, probe_until_ms), at_ms=at_ms)
    return bool(ours)


def release_probe(candidate: Candidate) -> None:
    """A claimed probe says nothing after all, since the call was not made or was cancelled: somebody else's turn."""
    offer_id = candidate.offer.id
    known = _view.resting.get(offer_id)
    if known is None or not _has_breaker(candidate):
        return
    released = sql.row(_RELEASE, {"offer_id": offer_id})
    if released is not None:
        _change(offer_id, replace(known, probe_until_ms=0), at_ms=released[0])


def refuse(candidates: Sequence[Candidate]) -> NoReturn:
    """Raise Overloaded for candidates that all rest, with the time until the first may be tried."""
    now_ms = _now_ms()
    waits_s = [_wait_s(candidate.offer.id, now_ms) for candidate in candidates]
    names = ", ".join(sorted({candidate.offer.provider for candidate in candidates}))
    raise errors.Overloaded(
        f"Every provider that could do this failed too often just now and rests for a moment ({names}). Try again.",
        code="providers_resting",
        retry_after_s=min(waits_s, default=OPEN_S),
    )


def learn(caller: Caller) -> None:
    """Take over what was read with the caller, unless this process may know something newer."""
    text: str | None = caller.facts.get("breakers")
    if text is None:
        # It was read within the last seconds, when nobody rested: that outdates only what is older than it can be.
        if _view.resting:
            _take(_View(_now_ms() - _CALLER_MAX_AGE_MS))
        return
    moment, _, rest = text.partition(":")
    numbers = [int(number) for number in rest.split(":")]
    resting = {numbers[at]: _Rest(*numbers[at + 1 : at + 3]) for at in range(0, len(numbers), 3)}
    _take(_View(int(moment), resting))


def _take(newer: _View) -> None:
    global _view
    with _lock:
        if newer.as_of_ms > _view.as_of_ms:
            _view = newer


def forget() -> None:
    """Know nothing, as a process does that has just started."""
    global _view
    with _lock:
        _view = _View()


def _change(offer_id: int, rest: _Rest | None, *, at_ms: int) -> None:
    """Know this about one offer from now on, whatever callers that were read before may say."""
    global _view
    with _lock:
        resting = {known: value for known, value in _view.resting.items() if known != offer_id}
        if rest is not None:
            resting[offer_id] = rest
        _view = _View(max(at_ms + _MARGIN_MS, _view.as_of_ms), resting)


def _has_breaker(candidate: Candidate) -> bool:
    return not (candidate.own_key or candidate.offer.simulated)


def _rests(candidate: Candidate, resting: Mapping[int, _Rest], now_ms: int) -> bool:
    rest = resting.get(candidate.offer.id)
    return rest is not None and _has_breaker(candidate) and max(rest.open_until_ms, rest.probe_until_ms) > now_ms


def _wait_s(offer_id: int, now_ms: int) -> int:
    """Whole seconds until the offer may be tried; while it is probed nobody knows, and it is soon."""
    rest = _view.resting.get(offer_id, _Rest(0))
    if rest.open_until_ms > now_ms:
        return -(-(rest.open_until_ms - now_ms) // 1000)
    return _RETRY_WHILE_PROBED_S


def _now_ms() -> int:
    """This machine's clock, near enough to the database's: whoever is wrong asks it for a probe and is refused."""
    return int(time.time() * 1000)
