"""Brings the data files into the tables: fields unless an operator changed them, prices only ever added."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db import transaction

from imagesapi import catalogue_files, catalogue_version
from imagesapi.catalogue_files import Catalogue, CatalogueError, Line
from imagesapi.models import CatalogRow, CatalogVersion, Model, Offer, PriceLine, Provider


@dataclass(slots=True)
class Report:
    """What a load did, in words; `kept` names fields that an operator changed and the files would set otherwise."""

    changes: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)


def load(paths: Sequence[Path] | None = None) -> Report:
    """Load the files (all of ours when none are named) in one transaction; a second run changes nothing.

    Raises CatalogueError for a file that is wrong, and for a price that differs from one already in force since the
    same moment: a changed price is a new block with its own `valid_from`.
    """
    wanted = catalogue_files.read(paths)
    report = Report()
    with transaction.atomic():
        # The one row is the lock: two nodes that start together load one after the other.
        CatalogVersion.objects.bulk_create([CatalogVersion(pk=1)], ignore_conflicts=True)
        CatalogVersion.objects.select_for_update().get(pk=1)
        _load(wanted, report)
    return report


def _load(wanted: Catalogue, report: Report) -> None:
    providers = {row.slug: row for row in Provider.objects.all()}
    for slug, fields in wanted.providers.items():
        _bring(providers.setdefault(slug, Provider()), fields, f"provider {slug}", report)
    models = {row.slug: row for row in Model.objects.all()}
    for slug, fields in wanted.models.items():
        _bring(models.setdefault(slug, Model()), fields, f"model {slug}", report)
    offers = {(row.model.slug, row.provider.slug): row for row in Offer.objects.select_related("model", "provider")}
    for (model, provider), fields in wanted.offers.items():
        row = offers.setdefault((model, provider), Offer(model=models[model], provider=providers[provider]))
        own = {name: value for name, value in fields.items() if name not in ("model", "provider")}
        _bring(row, own, f"offer {provider}/{model}", report)
    _add_prices(offers, wanted, report)


def _bring(row: CatalogRow, fields: Mapping[str, Any], what: str, report: Report) -> None:
    """Set what the files say, except where the field's value is no longer the one they gave last."""
    new = row.pk is None
    theirs = set() if new else {name for name in fields if _is_theirs(row, name)}
    changed = []
    for name, value in fields.items():
        if _plain(getattr(row, name)) == _plain(value):
            continue
        if name in theirs:
            if row.loaded.get(name, ...) != _plain(value):
                report.kept.append(f"{what}: {name}")
            continue
        setattr(row, name, value)
        changed.append(name)
    loaded = {name: _plain(value) for name, value in fields.items()}
    if new or changed or loaded != row.loaded:
        row.loaded = loaded
        row.save()
    if new:
        report.changes.append(f"{what} added")
    elif changed:
        report.changes.append(f"{what}: {', '.join(changed)} changed")


def _is_theirs(row: CatalogRow, name: str) -> bool:
    """Whether an operator set this field. A row that was never loaded is theirs as a whole; a field that earlier files
    did not have is nobody's yet."""
    if not row.loaded:
        return True
    return name in row.loaded and _plain(getattr(row, name)) != row.loaded[name]


def _plain(value: Any) -> Any:
    """A field's value as JSON holds it, to compare with what was loaded."""
    return value.isoformat() if isinstance(value, dt.date) else value


def _add_prices(offers: Mapping[tuple[str, str], Offer], wanted: Catalogue, report: Report) -> None:
    """Write the prices that are not there yet. Raises CatalogueError for one that is there and differs."""
    existing: dict[Any, int] = {
        (row.offer_id, row.meter, frozenset(row.conditions.items()), row.basis, row.valid_from): row.unit_price_picos
        for row in PriceLine.objects.all()
    }
    added: list[PriceLine] = []
    for (model, provider), lines in wanted.lines.items():
        offer, what, before = offers[model, provider], f"offer {provider}/{model}", len(added)
        for line in lines:
            known = existing.setdefault((offer.pk, *line.key), -1)
            if known == -1:
                existing[offer.pk, *line.key] = line.unit_price_picos
                added.append(_price_line(offer, line))
            elif known != line.unit_price_picos:
                raise _differs(what, line, known)
        if len(added) > before:
            report.changes.append(f"{what}: {len(added) - before} prices added")
    if added:
        PriceLine.objects.bulk_create(added)
        catalogue_version.increase()


def _price_line(offer: Offer, line: Line) -> PriceLine:
    return PriceLine(
        offer=offer,
        meter=line.meter,
        conditions=dict(line.conditions),
        unit_price_picos=line.unit_price_picos,
        basis=line.basis,
        valid_from=line.valid_from,
        source=line.source,
        as_of=line.as_of,
        confidence=line.confidence,
    )


def _differs(what: str, line: Line, known: int) -> CatalogueError:
    which = " ".join([line.meter, *line.conditions.values()])
    return CatalogueError(
        f"{what}: the {line.basis} price of {which} from {line.valid_from.date()} is {known} pico-dollars and cannot "
        f"become {line.unit_price_picos}; add a block with a later valid_from"
    )
