"""Offers as the shipped data files describe them, without a database."""

from __future__ import annotations

import datetime as dt
import functools
import itertools

from imagesapi import catalogue_files, values

NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)


@functools.cache
def catalogue() -> dict[str, values.Offer]:
    """Every offer by `provider/slug`."""
    found = catalogue_files.read()
    numbers = itertools.count(1)
    offers = {}
    for (model, provider), row in found.offers.items():
        offers[f"{provider}/{model}"] = values.Offer(
            id=next(numbers),
            model=model,
            provider=provider,
            provider_name=found.providers[provider]["name"],
            adapter=found.providers[provider]["adapter"],
            wire_id=row["wire_id"],
            edit_wire_id=row["edit_wire_id"],
            capabilities=catalogue_files.capabilities(row["capabilities"]),
            prices=tuple(
                values.PriceLine(
                    id=next(numbers),
                    meter=line.meter,
                    conditions=line.conditions,
                    unit_price_picos=line.unit_price_picos,
                    basis="billed" if line.basis == "billed" else "listed",
                    valid_from=line.valid_from,
                    source=line.source,
                    as_of=line.as_of,
                )
                for line in found.lines[model, provider]
            ),
            pricing=row["pricing"],
            deprecated_on=row["deprecated_on"],
            retires_on=row["retires_on"],
            enabled=True,
            weight=row["weight"],
            connection=values.Connection(configured=True),
        )
    return offers


def fitted(**changes: object) -> values.Fitted:
    """A small request: one square picture at low quality."""
    found: dict[str, object] = {
        "prompt": "a red fox",
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
        "background": None,
        "output_format": "png",
    }
    return values.Fitted(**{**found, **changes})  # type: ignore[arg-type]
