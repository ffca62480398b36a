"""Which offers may serve a request, in what order, each with its translated parameters and its worst case."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from accounts.callers import Caller
from core import errors
from imagesapi import breakers, catalog, fitting, own_keys, pricing, providers
from imagesapi import health as offer_health
from imagesapi import routing_preference as preferences
from imagesapi.health import Health
from imagesapi.own_keys import OwnKey
from imagesapi.providers.base import Cancelled, ProviderError
from imagesapi.values import Adjustment, Fitted, ImageRequest, Offer

_UNMEASURED: Mapping[int, Health] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One offer that can do the request: what it would be sent, and what it would cost."""

    offer: Offer
    fitted: Fitted
    body: Mapping[str, Any]
    worst_case: pricing.Estimate
    own_key: bool = False  # reached with a key of the organization: nothing is charged here

    @property
    def executed_model(self) -> str:
        """`provider/wire id`, as the answer names it: many providers have another id for edits."""
        wire_id = self.offer.edit_wire_id if self.fitted.operation == "edit" else ""
        return f"{self.offer.provider}/{wire_id or self.offer.wire_id}"

    @property
    def expected(self) -> pricing.Estimate:
        """What it should cost, worked out only where somebody wants to know."""
        return pricing.expected(self.offer, self.fitted, self.worst_case.at)

    @property
    def hold_nanos(self) -> int:
        """What must be held to be sure of the charge."""
        return 0 if self.own_key else self.worst_case.total_nanos


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates in the order they are tried, never empty, and the amount that covers the dearest of them."""

    model: str
    candidates: tuple[Candidate, ...]
    hold_nanos: int
    at: dt.datetime
    catalogue_version: int
    own_keys_version: str | None = None  # for own_keys.STILL_CURRENT

    @property
    def first(self) -> Candidate:
        return self.candidates[0]

    @property
    def simulated(self) -> bool:
        return self.first.offer.simulated


def plan_for(caller: Caller, request: ImageRequest, snapshot: catalog.Snapshot, *, at: dt.datetime) -> Plan:
    """The plan for this caller now: with the organization's own keys, by measured health, without offers that rest.

    No round trip, but after the organization changed its keys. A dry run is told prices even while everybody rests.
    Raises what `plan` raises, and Overloaded (`providers_resting`).
    """
    found = plan(request, snapshot, at=at, own=own_keys.of(caller), health=offer_health.current())
    found = dataclasses.replace(found, own_keys_version=own_keys.version(caller))
    return found if request.dry_run else _only(found, breakers.usable(found.candidates, caller))


def plan(
    request: ImageRequest,
    snapshot: catalog.Snapshot,
    *,
    at: dt.datetime,
    own: Mapping[str, OwnKey] = own_keys.NONE,
    health: Mapping[int, Health] = _UNMEASURED,
) -> Plan:
    """Find and order the candidates; docs/routing.md says how.

    Raises the catalogue's errors for a model that is unknown, retired or not configured; Unpriced when no offer has a
    price; InvalidRequest when no offer can do what is asked, when the request's own preference leaves none, or under
    `strict` when none can do it without a change.
    """
    found = catalog.candidates(snapshot, request.model, today=at.date(), own_keys_at=own)
    told = _redirection(found)
    able: list[Candidate] = []
    refusals: list[errors.PixelparError] = []
    for offer, is_own in _offers(request, found, snapshot, own):
        try:
            able.append(_candidate(request, offer, told, at=at, own_key=is_own))
        except (errors.InvalidRequest, errors.Unpriced, errors.PermissionDenied) as refusal:
            refusals.append(refusal)
    if not able:
        raise refusals[0]
    if len(able) > 1:
        able.sort(key=_order(request, found.entry, health))
    if request.strict:
        able = _unchanged_only(able)
    return Plan(
        model=found.model,
        candidates=tuple(able),
        hold_nanos=max(candidate.hold_nanos for candidate in able),
        at=at,
        catalogue_version=snapshot.version,
    )


def claim(found: Plan) -> Plan:
    """To be called right before the hold: the plan without half-open offers in front whose probe somebody else makes.

    A round trip only where the first offer is half open. When nothing is sent after all, `release` it. Raises
    Overloaded (`providers_resting`) when nobody is left.
    """
    candidates = found.candidates
    while candidates and not may_try(candidates[0]):
        candidates = candidates[1:]
    return _only(found, candidates) if candidates else breakers.refuse(found.candidates)


def release(found: Plan) -> None:
    """Nothing was sent to the first candidate: if its probe was ours, it is somebody else's turn."""
    breakers.release_probe(found.first)


def may_try(candidate: Candidate) -> bool:
    """Whether the candidate may be called now; to be asked before each failover. A round trip only while it rests."""
    return breakers.may_call(candidate)


def note(candidate: Candidate, error: ProviderError | None) -> None:
    """Let the breaker know how a call ended; to be called once its attempt is closed in the log.

    What was refused for its content or its form was answered, so the offer is there. Calls with an organization's own
    key say nothing about it: their key or its quota may be what failed.
    """
    if candidate.own_key or candidate.offer.simulated:
        return
    if isinstance(error, Cancelled):
        breakers.release_probe(candidate)
        return
    breakers.note(candidate.offer.id, ok=error is None or error.refused)


def _only(found: Plan, candidates: tuple[Candidate, ...]) -> Plan:
    if len(candidates) == len(found.candidates):
        return found
    hold_nanos = max(candidate.hold_nanos for candidate in candidates)
    return dataclasses.replace(found, candidates=candidates, hold_nanos=hold_nanos)


def _offers(
    request: ImageRequest, found: catalog.Candidates, snapshot: catalog.Snapshot, own: Mapping[str, OwnKey]
) -> list[tuple[Offer, bool]]:
    """The offers to try, each with whether it is reached with the organization's own key.

    One own key that wants no fallback keeps every offer out that would cost something here.
    """
    offers = [(own_keys.bring(offer, own[offer.provider]), True) for offer in found.brought]
    if all(own[offer.provider].fallback for offer in found.brought):
        offers += [(offer, False) for offer in found.offers]
    preference = request.preference
    if preference is preferences.NO_PREFERENCE or preference == preferences.NO_PREFERENCE:
        return offers
    preferences.check(preference, snapshot.providers)
    allowed = [(offer, is_own) for offer, is_own in offers if preferences.allows(preference, offer)]
    if not allowed:
        raise preferences.nothing_left(found.model, [offer for offer, _ in offers])
    return allowed


def _order(
    request: ImageRequest, entry: catalog.Entry, health: Mapping[int, Health]
) -> Callable[[Candidate], tuple[Any, ...]]:
    """What candidates are sorted by: own keys, the request's order, the operator's, then what serves best."""
    order, sort = request.preference.order, request.preference.sort
    pinned = entry.provider_order if sort is None else ()

    def key(candidate: Candidate) -> tuple[Any, ...]:
        offer = candidate.offer
        measured = health.get(offer.id, offer_health.UNKNOWN)
        latency_ms = measured.p50_ms or 0  # nobody is measured without being tried
        price = candidate.expected.total_nanos
        sorted_by = price if sort == "price" else latency_ms if sort == "latency" else 0
        return (
            not candidate.own_key,
            preferences.place(order, offer.provider),
            preferences.place(pinned, offer.provider),
            sorted_by,
            len(candidate.fitted.adjustments),
            price,
            measured.band,
            latency_ms // 1000,  # whole seconds, so that chance does not outweigh the operator's weight
            -offer.weight,
            offer.provider,
        )

    return key


def _redirection(found: catalog.Candidates) -> tuple[Adjustment, ...]:
    """An operator may send an old slug to its successor; the caller is told. An alias is the same model."""
    if found.redirected_from is None:
        return ()
    why = "the operator of this server points the one to the other"
    return (Adjustment("model", found.redirected_from, found.model, why),)


def _candidate(
    request: ImageRequest, offer: Offer, told: tuple[Adjustment, ...], *, at: dt.datetime, own_key: bool
) -> Candidate:
    if own_key and not offer.connection.configured:
        raise own_keys.unusable(offer.provider)
    fitted = fitting.fit(request, offer)
    if told:
        fitted = dataclasses.replace(fitted, adjustments=(*told, *fitted.adjustments))
    found = Candidate(
        offer=offer,
        fitted=fitted,
        body=providers.load(offer.adapter).build(fitted, offer),
        worst_case=pricing.worst_case(offer, fitted, at),
        own_key=own_key,
    )
    if pricing.AUTO in (fitted.size, fitted.quality or pricing.AUTO):
        _ = found.expected  # an offer that has no price for what "auto" is taken for is refused here
    return found


def _unchanged_only(able: list[Candidate]) -> list[Candidate]:
    unchanged = [candidate for candidate in able if not candidate.fitted.adjustments]
    if unchanged:
        return unchanged
    change = able[0].fitted.adjustments[0]
    name = change.parameter[:64]
    how = "be left out" if change.used is None else f"change from {change.asked!r} to {change.used!r}"
    raise errors.InvalidRequest(
        f"'strict' is set and {name} would have to {how}: {change.why}.",
        param=name,
        code="adjustment_refused",
    )
