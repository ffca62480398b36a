"""The catalogue for API callers: OpenAI's model object plus prices, capabilities and life-cycle per provider."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.utils import timezone

from core import errors, money
from imagesapi import catalog, pricing
from imagesapi.catalog import Entry, Snapshot
from imagesapi.values import Offer


def models(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Every listed model, by name."""
    now = timezone.now()
    return [document(entry, now) for _, entry in sorted(snapshot.models.items()) if entry.offers]


def model(snapshot: Snapshot, name: str) -> dict[str, Any]:
    """One model by slug, alias or `provider/slug`. Raises ModelNotFound with the nearest name."""
    entry = snapshot.find(name)
    if entry is None and "/" in name:
        provider, _, rest = name.partition("/")
        found = snapshot.find(rest)
        if found is not None and any(offer.provider == provider for offer in found.offers):
            entry = found
    if entry is None:
        near = catalog.nearest(snapshot, name)
        hint = f" Did you mean {near!r}?" if near else " GET /v1/models lists those there are."
        raise errors.ModelNotFound(f"There is no model {name[:80]!r}.{hint}", param="model")
    return document(entry, timezone.now())


def document(entry: Entry, now: dt.datetime) -> dict[str, Any]:
    """One model as OpenAI's clients expect it, with what only a gateway knows beside it."""
    offers = [offer for offer in entry.offers if offer.enabled]
    states = [catalog.state(offer, now.date()) for offer in offers]
    starting = [pricing.starting_nanos(offer, now) for offer in offers]
    prices = [nanos for nanos in starting if nanos is not None]
    ends = [offer.retires_on for offer in offers]
    shutdown = max(end for end in ends if end) if ends and all(ends) else None
    released = dt.datetime.combine(entry.released_on, dt.time(), dt.UTC)
    return {
        "id": entry.slug,
        "object": "model",
        "created": int(released.timestamp()),
        "owned_by": entry.creator.lower() or "unknown",
        "shutdown_date": shutdown.isoformat() if shutdown else None,
        "name": entry.name,
        "description": entry.description,
        "creator_organization": entry.creator,
        "model_status": _best(states),
        "starting_price": money.decimal(min(prices)) if prices else None,
        "free": bool(prices) and max(prices) == 0,
        "tags": list(entry.tags),
        "aliases": list(entry.aliases),
        "capabilities": _capabilities(offers),
        "modality": "image",
        "modalities": {"input": _inputs(offers), "output": ["image"]},
        "providers": [_provider(*facts, now) for facts in zip(offers, states, starting, strict=True)],
        "model_page_path": f"/models/{entry.slug}",
        "image_url": None,
    }


def _best(states: list[catalog.State]) -> str:
    order: tuple[catalog.State, ...] = ("active", "deprecated", "retired")
    return next((state for state in order if state in states), "retired")


def _capabilities(offers: list[Offer]) -> list[str]:
    """What at least one offer can do, in the words of the API."""
    takes = [offer.capabilities for offer in offers]
    edits = [found.edits for found in takes if found.edits is not None]
    can = {
        "generation": any(found.generates for found in takes),
        "editing": bool(edits),
        "inpainting": any(found.mask for found in edits),
        "upscaling": any(found.scale_factors for found in edits),
        "streaming": any(found.streaming for found in takes),
    }
    return [name for name, is_so in can.items() if is_so]


def _inputs(offers: list[Offer]) -> list[str]:
    return ["text", "image"] if any(offer.capabilities.edits for offer in offers) else ["text"]


def _provider(offer: Offer, state: catalog.State, starting_nanos: int | None, now: dt.datetime) -> dict[str, Any]:
    takes = offer.capabilities
    return {
        "provider": offer.provider,
        "name": offer.provider_name,
        "executed_model": offer.executed_model,
        "status": state,
        "configured": offer.connection.configured,
        "deprecated_on": offer.deprecated_on.isoformat() if offer.deprecated_on else None,
        "retires_on": offer.retires_on.isoformat() if offer.retires_on else None,
        "starting_price": money.decimal(starting_nanos) if starting_nanos is not None else None,
        "prices": [
            {
                "meter": line.meter,
                "conditions": dict(line.conditions),
                "unit_price": money.decimal_picos(line.unit_price_picos),
                "basis": line.basis,
                "source": line.source,
                "as_of": line.as_of.isoformat(),
            }
            for line in offer.prices
            if line.valid_from <= now
        ],
        "max_n": takes.max_n,
        "sizes": list(takes.sizes) or takes.size_style,
        "qualities": list(takes.qualities),
        "output_formats": list(takes.output_formats),
    }
