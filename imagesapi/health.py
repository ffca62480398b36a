"""How offers did lately, by our own attempts: measured by the worker each minute, looked up without waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import orjson
import structlog

from core import sql

log = structlog.get_logger(__name__)

WINDOW_S = 3600
# Of each offer, newest first: enough for a median, and a bound on what measuring costs.
CALLS_MAX = 200
# Below this many calls a share says nothing.
CALLS_MIN = 10
_READ_EVERY_S = 30.0
# Older measurements are no longer believed: no worker runs.
_BELIEVED_S = 300
_BANDS_PERCENT = (95, 80, 50)

_MEASURE = f"""
WITH measured AS (
    SELECT o.id, count(*) AS calls, count(*) FILTER (WHERE NOT a.succeeded) AS failures,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY a.took_ms) FILTER (WHERE a.succeeded) AS p50_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY a.took_ms) FILTER (WHERE a.succeeded) AS p95_ms
    FROM imagesapi_offer o, LATERAL (
        SELECT t.status = 'succeeded' AS succeeded, extract(epoch FROM t.finished_at - t.sent_at) * 1000 AS took_ms
        FROM imagesapi_attempt t JOIN imagesapi_generation g ON g.id = t.generation_id
        WHERE t.offer_id = o.id AND t.sent_at > now() - make_interval(secs => {WINDOW_S})
          AND t.finished_at IS NOT NULL AND NOT t.own_key AND NOT g.simulated
          AND (t.status = 'succeeded' OR t.status <> 'refused' AND t.error_code NOT IN ('', 'cancelled'))
        ORDER BY t.sent_at DESC LIMIT {CALLS_MAX}
    ) a GROUP BY o.id
), written AS (
    INSERT INTO imagesapi_offerhealth (offer_id, calls, failures, p50_ms, p95_ms, measured_at)
    SELECT id, calls, failures, p50_ms, p95_ms, now() FROM measured
    ON CONFLICT (offer_id) DO UPDATE SET calls = excluded.calls, failures = excluded.failures,
        p50_ms = excluded.p50_ms, p95_ms = excluded.p95_ms, measured_at = excluded.measured_at
    RETURNING 1
), dropped AS (
    DELETE FROM imagesapi_offerhealth WHERE offer_id NOT IN (SELECT id FROM measured)
)
SELECT count(*) FROM written
"""  # noqa: S608 - constants

_READ = f"""
SELECT coalesce(json_agg(json_build_array(offer_id, calls, failures, p50_ms, p95_ms)), '[]')::text
FROM imagesapi_offerhealth WHERE measured_at > now() - make_interval(secs => {_BELIEVED_S})
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Health:
    """One offer's last hour, or its last calls where there were many."""

    calls: int
    failures: int
    p50_ms: int | None = None
    p95_ms: int | None = None

    @property
    def band(self) -> int:
        """0 for offers that do well or hardly did anything yet, up to 3 for those that mostly fail."""
        if self.calls < CALLS_MIN:
            return 0
        succeeded_percent = 100 * (self.calls - self.failures) / self.calls
        return next((band for band, least in enumerate(_BANDS_PERCENT) if succeeded_percent >= least), 3)


UNKNOWN = Health(calls=0, failures=0)


@dataclass(slots=True)
class _Known:
    """What this process read last, and when it last began to read."""

    offers: Mapping[int, Health] = field(default_factory=dict)
    asked_at_s: float = -_READ_EVERY_S
    lock: threading.Lock = field(default_factory=threading.Lock)


_known = _Known()


def measure() -> int:
    """Write how every offer did; returns how many were called at all. One statement, bounded by CALLS_MAX an offer."""
    (count,) = sql.row(_MEASURE, {}) or (0,)
    return int(count)


def current() -> Mapping[int, Health]:
    """By offer, as read last: never waits. At most every 30 seconds it lets a thread of its own read anew."""
    now_s = time.monotonic()
    if now_s - _known.asked_at_s >= _READ_EVERY_S and _known.lock.acquire(blocking=False):
        try:
            if now_s - _known.asked_at_s >= _READ_EVERY_S:
                _known.asked_at_s = now_s
                threading.Thread(target=_refresh, name="health", daemon=True).start()
        finally:
            _known.lock.release()
    return _known.offers


def read() -> Mapping[int, Health]:
    """What is written down now. One round trip."""
    (text,) = sql.row(_READ, {}) or ("[]",)
    return MappingProxyType({offer_id: Health(*numbers) for offer_id, *numbers in orjson.loads(text)})


def _refresh() -> None:
    try:
        _known.offers = read()
    except Exception:  # routing goes on with what it knew; an exception here would reach nobody
        log.warning("health could not be read; trying again", exc_info=True)
