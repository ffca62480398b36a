"""Provider keys that organizations bring: kept encrypted, used first, and nothing is charged here for their calls."""

from __future__ import annotations

import collections
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import structlog
from django.utils import timezone

from accounts.callers import Caller
from core import crypto, errors, sql
from imagesapi import configuration, values
from imagesapi.models import OwnProviderKey, Provider

log = structlog.get_logger(__name__)

SECRET_MIN_CHARS = 12
SECRET_MAX_CHARS = 500
_CACHED_MAX = 1_000

_VERSION = """
SELECT md5(string_agg(concat_ws('/', own.id, own.changed_at), ' ' ORDER BY own.id))
FROM imagesapi_ownproviderkey own WHERE own.enabled AND own.organization_id =
"""
# With every caller: which keys its organization has, and in what state; nothing where it has none.
FACT = f"{_VERSION} o.id"
# True in a statement while the organization's keys are those that were planned with.
STILL_CURRENT = f"(({_VERSION} %(organization_id)s) IS NOT DISTINCT FROM %(own_keys_version)s::text)"


@dataclass(frozen=True, slots=True)
class OwnKey:
    """What an organization brought for one provider: secret settings by name, and whether others may stand in."""

    secrets: Mapping[str, str] = field(repr=False)
    fallback: bool


NONE: Mapping[str, OwnKey] = MappingProxyType({})
_cached: collections.OrderedDict[tuple[int, str], Mapping[str, OwnKey]] = collections.OrderedDict()
_lock = threading.Lock()


def version(caller: Caller) -> str | None:
    """Names the state of the organization's keys; None when it has none."""
    return caller.facts.get("own_keys_version")


def of(caller: Caller) -> Mapping[str, OwnKey]:
    """The organization's keys by provider. Costs a round trip when they changed, and nothing when it has none."""
    current = version(caller)
    if current is None:
        return NONE
    key = (caller.organization_id, current)
    with _lock:
        if key in _cached:
            _cached.move_to_end(key)
            return _cached[key]
    found = read(caller.organization_id)
    with _lock:
        _cached[key] = found
        while len(_cached) > _CACHED_MAX:
            _cached.popitem(last=False)
    return found


def read(organization_id: int) -> Mapping[str, OwnKey]:
    """The enabled keys of an organization as they are now.

    One that no key of the ring opens stays there without its secret: a request that was to cost nothing here must not
    go elsewhere at a price.
    """
    rows = OwnProviderKey.objects.filter(organization_id=organization_id, enabled=True).select_related("provider")
    found: dict[str, OwnKey] = {}
    for row in rows:
        before = found.get(row.provider.slug, OwnKey({}, fallback=True))
        secrets = {**before.secrets, row.name: _opened(row)}
        found[row.provider.slug] = OwnKey(secrets, fallback=before.fallback and row.fallback)
    sql.give_back()
    return MappingProxyType(found)


def bring(offer: values.Offer, own: OwnKey) -> values.Offer:
    """The offer as this organization reaches it: addresses of the operator, secrets of the organization alone."""
    try:
        wanted = configuration.settings_of(offer.adapter, slug=offer.provider, options=offer.connection.options)
    except LookupError:  # an adapter that is gone: then nobody reaches the provider
        return replace(offer, connection=replace(offer.connection, configured=False))
    theirs = offer.connection.settings
    found = {
        setting.name: own.secrets.get(setting.name, "") if setting.secret else theirs.get(setting.name, setting.default)
        for setting in wanted
    }
    configured = all(found[setting.name] for setting in wanted if setting.required) and any(own.secrets.values())
    return replace(offer, connection=replace(offer.connection, settings=found, configured=configured))


def offer_of(offer: values.Offer, *, organization_id: int) -> values.Offer | None:
    """For work that goes on after a crash: the offer with the organization's key of now, None when it has none."""
    own = read(organization_id).get(offer.provider)
    found = bring(offer, own) if own else None
    return found if found and found.connection.configured else None


def unusable(provider: str) -> errors.PixelparError:
    """What to say when a key that was brought cannot be read, or the provider refuses it and nobody may stand in."""
    return errors.PermissionDenied(
        f"The key that your organization brought for {provider} cannot be used: set it again under /v1/provider-keys, "
        "or remove it.",
        code="own_provider_key_unusable",
    )


def takers() -> dict[str, tuple[str, ...]]:
    """Providers for which a key can be brought, each with the names of its secret settings."""
    return {row.slug: names for row in Provider.objects.filter(enabled=True) if (names := tuple(_secret_names(row)))}


def store(
    organization_id: int,
    *,
    provider: str,
    name: str | None = None,
    secret: str | None = None,
    fallback: bool | None = None,
    enabled: bool | None = None,
) -> OwnProviderKey:
    """Make or change the organization's key of a provider; what is None stays as it is.

    Raises InvalidRequest for a provider or setting that takes none, a secret that cannot be one, or a key to be made
    without its secret.
    """
    row_of_provider, name = _place(provider, name)
    wanted: dict[str, Any] = {"organization_id": organization_id, "provider": row_of_provider, "name": name}
    changes: dict[str, Any] = {"changed_at": timezone.now()}
    changes |= {key: value for key, value in (("fallback", fallback), ("enabled", enabled)) if value is not None}
    if secret is None:
        if not OwnProviderKey.objects.filter(**wanted).update(**changes):
            message = f"There is no key of yours at {provider} yet: send its 'secret'."
            raise errors.MissingParameter(message, param="secret")
        return OwnProviderKey.objects.select_related("provider").get(**wanted)
    secret = _checked(secret)
    sealed = crypto.encrypt(secret, row=_row(organization_id, provider, name))
    changes |= {"sealed": sealed, "last_four": secret[-4:]}
    row, created = OwnProviderKey.objects.update_or_create(**wanted, defaults=changes)
    log.info("own provider key stored", organization=organization_id, provider=provider, name=name, created=created)
    return row


def remove(organization_id: int, key_id: uuid.UUID) -> bool:
    """Forget a key for good; False when the organization has none of this id."""
    deleted, _ = OwnProviderKey.objects.filter(organization_id=organization_id, pk=key_id).delete()
    return deleted > 0


def _place(provider: str, name: str | None) -> tuple[Provider, str]:
    """The provider, and the name of its setting that a key is brought for."""
    known = takers()
    if provider not in known:
        raise errors.InvalidRequest(
            f"A key can be brought for {', '.join(sorted(known)) or 'no provider'}, not for {provider[:64]!r}.",
            param="provider",
        )
    names = known[provider]
    if name is not None and name not in names:
        raise errors.InvalidRequest(f"Of yours {provider} takes {' and '.join(names)}, nothing else.", param="name")
    return Provider.objects.get(slug=provider), name or names[0]


def _checked(secret: str) -> str:
    secret = secret.strip()
    if not SECRET_MIN_CHARS <= len(secret) <= SECRET_MAX_CHARS or not secret.isascii() or not secret.isprintable():
        raise errors.InvalidRequest(
            f"'secret' must be one line of {SECRET_MIN_CHARS} to {SECRET_MAX_CHARS} printable ASCII characters.",
            param="secret",
        )
    return secret


def _secret_names(provider: Provider) -> Iterator[str]:
    try:
        wanted = configuration.settings_of(provider.adapter, slug=provider.slug, options=provider.options)
    except LookupError:
        return
    for setting in wanted:
        if setting.secret and not setting.is_base_url:
            yield setting.name


def _opened(row: OwnProviderKey) -> str:
    try:
        return crypto.decrypt(bytes(row.sealed), row=_row(row.organization_id, row.provider.slug, row.name))
    except ValueError:
        log.error("own_provider_key_unreadable", organization=row.organization_id, provider=row.provider.slug)
        return ""


def _row(organization_id: int, provider: str, name: str) -> str:
    return f"ownproviderkey:{organization_id}:{provider}:{name}"
