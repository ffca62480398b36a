"""Which models and offers there are: a frozen snapshot in each process, read anew when the version rises."""

from __future__ import annotations

import datetime as dt
import difflib
import threading
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import structlog
from django.conf import settings
from django.utils import timezone

from core import errors
from imagesapi import catalogue_files, catalogue_version, configuration, values
from imagesapi.catalogue_loading import load
from imagesapi.models import Model, Offer, PriceLine, Provider, ProviderSecret

__all__ = ["Candidates", "Entry", "Snapshot", "candidates", "current_version", "load", "nearest", "snapshot", "state"]

log = structlog.get_logger(__name__)

MOCK = "mock"
# True in a statement while the catalogue is the one that was planned with.
STILL_CURRENT = "(SELECT number FROM imagesapi_catalogversion LIMIT 1) = %(catalogue_version)s"
# A charge uses the prices valid when its call was sent; no call stays open nearly as long as this.
_SUPERSEDED_KEPT = dt.timedelta(days=2)

State = Literal["active", "deprecated", "retired"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One model as callers see it, with every offer of it, disabled ones among them."""

    slug: str
    name: str
    description: str
    creator: str
    released_on: dt.date
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    successor: str
    redirects: bool
    offers: tuple[values.Offer, ...]
    provider_order: tuple[str, ...] = ()  # an operator's fixed order: these first


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The catalogue at one version. Nothing in it changes; readers need no lock."""

    version: int
    models: Mapping[str, Entry]
    aliases: Mapping[str, str]
    offers: Mapping[int, values.Offer]
    providers: frozenset[str]
    mock: values.Connection

    def find(self, name: str) -> Entry | None:
        """The model of a slug or an alias."""
        return self.models.get(self.aliases.get(name, name))


@dataclass(frozen=True, slots=True)
class Candidates:
    """The offers that may serve a name, unordered, all real or all simulated."""

    entry: Entry
    offers: tuple[values.Offer, ...]
    redirected_from: str | None = None  # the slug that the operator points to this model
    # Those of providers that the caller's organization brought a key for, whether or not the operator has one.
    brought: tuple[values.Offer, ...] = ()

    @property
    def model(self) -> str:
        return self.entry.slug


def state(offer: values.Offer, today: dt.date) -> State:
    """Where the provider's public endpoint stands on a day; an announced end makes an offer deprecated until then."""
    if offer.retires_on is not None and offer.retires_on <= today:
        return "retired"
    if offer.deprecated_on is None:
        return "active" if offer.retires_on is None else "deprecated"
    return "deprecated" if offer.deprecated_on <= today else "active"


def candidates(found: Snapshot, name: str, *, today: dt.date, own_keys_at: Container[str] = frozenset()) -> Candidates:
    """The offers for a slug, an alias or `provider/slug`; `own_keys_at` are the providers the organization has keys of.

    Raises ModelNotFound (with the nearest name), ModelRetired (with the successor) or NotConfigured. A model goes to
    its successor only where the operator said so.
    """
    entry, provider = _resolve(found, name)
    asked, passed = entry.slug, {entry.slug}
    while True:
        offers = _enabled(entry, provider)
        real = tuple(offer for offer in offers if offer.connection.configured and _serves(offer, today))
        brought = tuple(offer for offer in offers if offer.provider in own_keys_at and _serves(offer, today))
        if real or brought:
            return Candidates(entry, real, asked if entry.slug != asked else None, brought)
        following = found.models.get(entry.successor) if entry.redirects else None
        if following is None or following.slug in passed or all(state(o, today) != "retired" for o in offers):
            break
        passed.add(following.slug)
        entry = following
    if settings.SIMULATE_UNCONFIGURED and offers and not any(offer.connection.configured for offer in offers):
        stand_ins = tuple(replace(offer, simulated=True, adapter=MOCK, connection=found.mock) for offer in offers)
        return Candidates(entry, stand_ins, asked if entry.slug != asked else None)
    raise _refusal(entry, offers, today)


def nearest(found: Snapshot, name: str) -> str | None:
    """The slug or alias that looks most like an unknown name."""
    known = [*found.models, *found.aliases]
    close = difflib.get_close_matches(name[:200].rpartition("/")[2].lower(), known, n=1, cutoff=0.5)
    return close[0] if close else None


def _resolve(found: Snapshot, name: str) -> tuple[Entry, str | None]:
    """The model of a name, and the provider it is pinned to."""
    entry, provider = found.find(name), None
    if entry is None:
        head, _, tail = name.partition("/")
        if head in found.providers:
            entry, provider = found.find(tail), head
    if entry is None:
        close = nearest(found, name)
        hint = f" Did you mean {close}?" if close else " GET /v1/models lists those there are."
        raise errors.ModelNotFound(f"There is no model {name[:200]!r}.{hint}", param="model")
    if provider is not None and not _enabled(entry, provider):
        others = ", ".join(sorted(offer.provider for offer in _enabled(entry, None))) or "no provider"
        raise errors.ModelNotFound(f"{provider} does not offer {entry.slug}; it is offered by {others}.", param="model")
    return entry, provider


def _enabled(entry: Entry, provider: str | None) -> list[values.Offer]:
    return [offer for offer in entry.offers if offer.enabled and provider in (None, offer.provider)]


def _serves(offer: values.Offer, today: dt.date) -> bool:
    """The life-cycle belongs to the public endpoint: an address the operator chose stays in use."""
    return offer.connection.custom_endpoint or state(offer, today) != "retired"


def _refusal(entry: Entry, offers: list[values.Offer], today: dt.date) -> errors.PixelparError:
    instead = f" Use {entry.successor} instead." if entry.successor else ""
    if offers and all(state(offer, today) == "retired" for offer in offers):
        ends = max(offer.retires_on for offer in offers if offer.retires_on)
        return errors.ModelRetired(f"{entry.slug} was retired on {ends.isoformat()}.{instead}", param="model")
    waiting = sorted({offer.provider for offer in offers if not offer.connection.configured and _serves(offer, today)})
    return errors.NotConfigured(
        f"{entry.slug} is offered by {', '.join(waiting) or 'no provider'}, which this server has no key for.{instead}",
        param="model",
    )


_current: Snapshot | None = None
_reloading = threading.Lock()


def snapshot(version: int | None = None) -> Snapshot:
    """The catalogue as of `version`, the number just read with something else; None reads the number itself."""
    global _current
    if version is None:
        version = current_version()
    found = _current
    if found is not None and found.version == version:
        return found
    with _reloading:
        # A request that read its number just before a change must not make everyone read again.
        version = current_version()
        if _current is None or _current.version != version:
            _current = _read(version)
        return _current


def current_version() -> int:
    """The catalogue's number, for `snapshot`."""
    return catalogue_version.current()


def _read(version: int) -> Snapshot:
    """The tables as one frozen value. The number was read before them, so a change in between is read again."""
    sealed: dict[int, dict[str, bytes]] = {}
    for secret in ProviderSecret.objects.all():
        sealed.setdefault(secret.provider_id, {})[secret.name] = bytes(secret.sealed)
    providers = {row.pk: row for row in Provider.objects.all()}
    connections = {key: configuration.connection(row, sealed.get(key, {})) for key, row in providers.items()}
    lines = _lines()
    models = {row.pk: row for row in Model.objects.order_by("slug")}
    offers: dict[int, list[values.Offer]] = {}
    for row in Offer.objects.order_by("pk"):
        provider, model = providers.get(row.provider_id), models.get(row.model_id)
        if provider is None or model is None:
            continue  # they came meanwhile, with another number: whoever asks next reads all of it again
        made = _offer(row, model.slug, provider, connections[provider.pk], lines.get(row.pk, []))
        if made is not None:
            offers.setdefault(row.model_id, []).append(made)
    enabled = [row for row in models.values() if row.enabled]
    mock = next((connections[key] for key, row in providers.items() if row.adapter == MOCK), values.Connection())
    return Snapshot(
        version=version,
        models=MappingProxyType({row.slug: _entry(row, offers.get(row.pk, [])) for row in enabled}),
        aliases=MappingProxyType({alias: row.slug for row in enabled for alias in row.aliases}),
        offers=MappingProxyType({offer.id: offer for made in offers.values() for offer in made}),
        providers=frozenset(row.slug for row in providers.values()),
        mock=mock,
    )


def _lines() -> dict[int, list[values.PriceLine]]:
    """By offer: the prices that hold now, those to come, and those superseded a short while ago."""
    horizon = timezone.now() - _SUPERSEDED_KEPT
    lines: list[tuple[int, values.PriceLine]] = []
    newest: dict[Any, dt.datetime] = {}
    # A thousand rows as plain tuples: as objects they took most of the time that a new catalogue takes to be read.
    for offer_id, line in _priced():
        lines.append((offer_id, line))
        if line.valid_from <= horizon:
            newest[_key(offer_id, line)] = line.valid_from
    found: dict[int, list[values.PriceLine]] = {}
    for offer_id, line in lines:
        if line.valid_from >= newest.get(_key(offer_id, line), line.valid_from):
            found.setdefault(offer_id, []).append(line)
    return found


def _key(offer_id: int, line: values.PriceLine) -> tuple[Any, ...]:
    return offer_id, line.meter, line.basis, frozenset(line.conditions.items())


def _priced() -> Iterator[tuple[int, values.PriceLine]]:
    """Every price there is, with the key of its offer, the oldest first."""
    columns = ("offer_id", "id", "meter", "conditions", "unit_price_picos", "basis", "valid_from", "source", "as_of")
    for offer_id, *row in PriceLine.objects.order_by("valid_from").values_list(*columns):
        yield offer_id, values.PriceLine(*row)


def _entry(row: Model, offers: Iterable[values.Offer]) -> Entry:
    return Entry(
        slug=row.slug,
        name=row.name,
        description=row.description,
        creator=row.creator,
        released_on=row.released_on,
        aliases=tuple(row.aliases),
        tags=tuple(row.tags),
        successor=row.successor,
        redirects=row.redirects,
        offers=tuple(offers),
        provider_order=tuple(row.provider_order),
    )


def _offer(
    row: Offer, model: str, provider: Provider, connection: values.Connection, lines: list[values.PriceLine]
) -> values.Offer | None:
    """The offer as a value; None, and a line in the log, when an edit left capabilities that cannot be read."""
    try:
        able = catalogue_files.capabilities(row.capabilities)
    except catalogue_files.CatalogueError as error:
        log.error("offer_unreadable", offer=f"{provider.slug}/{model}", error=str(error))
        return None
    return values.Offer(
        id=row.pk,
        model=model,
        provider=provider.slug,
        provider_name=provider.name,
        adapter=provider.adapter,
        wire_id=row.wire_id,
        edit_wire_id=row.edit_wire_id,
        capabilities=able,
        prices=tuple(lines),
        pricing=row.pricing,
        deprecated_on=row.deprecated_on,
        retires_on=row.retires_on,
        enabled=row.enabled and provider.enabled,
        weight=row.weight,
        connection=connection,
    )
