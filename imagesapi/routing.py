"""Which offers may serve a request, in what order, each with its translated parameters and its worst case."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core import errors
from imagesapi import catalog, fitting, pricing, providers
from imagesapi.values import Adjustment, Fitted, ImageRequest, Offer


@dataclass(frozen=True, slots=True)
class Candidate:
    """One offer that can do the request: what it would be sent, and what it would cost."""

    offer: Offer
    fitted: Fitted
    body: Mapping[str, Any]
    worst_case: pricing.Estimate
    expected: pricing.Estimate


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates in the order they are tried, never empty, and the amount that covers the dearest of them."""

    model: str
    candidates: tuple[Candidate, ...]
    hold_nanos: int
    at: dt.datetime
    catalogue_version: int

    @property
    def first(self) -> Candidate:
        return self.candidates[0]

    @property
    def simulated(self) -> bool:
        return self.first.offer.simulated


def plan(request: ImageRequest, snapshot: catalog.Snapshot, *, at: dt.datetime) -> Plan:
    """Find and order the candidates: fewest adjustments, then price, then the operator's weight.

    Raises the catalogue's errors for a model that is unknown, retired or not configured; Unpriced when no offer has a
    price; InvalidRequest when no offer can do what is asked, or under `strict` when none can do it without a change.
    """
    found = catalog.candidates(snapshot, request.model, today=at.date())
    told = _redirection(found)
    able: list[Candidate] = []
    refusals: list[errors.PixelparError] = []
    for offer in found.offers:
        try:
            able.append(_candidate(request, offer, told, at=at))
        except (errors.InvalidRequest, errors.Unpriced) as refusal:
            refusals.append(refusal)
    if not able:
        raise refusals[0]
    able.sort(
        key=lambda candidate: (
            len(candidate.fitted.adjustments),
            candidate.expected.total_nanos,
            -candidate.offer.weight,
            candidate.offer.provider,
        )
    )
    if request.strict:
        able = _unchanged_only(able)
    hold_nanos = max(candidate.worst_case.total_nanos for candidate in able)
    return Plan(
        model=found.model, candidates=tuple(able), hold_nanos=hold_nanos, at=at, catalogue_version=snapshot.version
    )


def _redirection(found: catalog.Candidates) -> tuple[Adjustment, ...]:
    """An operator may send an old slug to its successor; the caller is told. An alias is the same model."""
    if found.redirected_from is None:
        return ()
    why = "the operator of this server points the one to the other"
    return (Adjustment("model", found.redirected_from, found.model, why),)


def _candidate(request: ImageRequest, offer: Offer, told: tuple[Adjustment, ...], *, at: dt.datetime) -> Candidate:
    fitted = fitting.fit(request, offer)
    if told:
        fitted = dataclasses.replace(fitted, adjustments=(*told, *fitted.adjustments))
    return Candidate(
        offer=offer,
        fitted=fitted,
        body=providers.load(offer.adapter).build(fitted, offer),
        worst_case=pricing.worst_case(offer, fitted, at),
        expected=pricing.expected(offer, fitted, at),
    )


def _unchanged_only(able: list[Candidate]) -> list[Candidate]:
    unchanged = [candidate for candidate in able if not candidate.fitted.adjustments]
    if unchanged:
        return unchanged
    change = able[0].fitted.adjustments[0]
    raise errors.InvalidRequest(
        f"'strict' is set and {change.parameter} would have to change from {change.asked!r} to {change.used!r}: "
        f"{change.why}.",
        param=change.parameter,
        code="adjustment_refused",
    )
