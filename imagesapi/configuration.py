"""Where a provider's keys and addresses come from: encrypted rows first, then the environment, then the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.utils import timezone

from core import crypto
from imagesapi import providers, values
from imagesapi.models import Provider, ProviderSecret
from imagesapi.providers.base import Setting

log = structlog.get_logger(__name__)


def settings_of(adapter: str, *, slug: str, options: Mapping[str, Any]) -> tuple[Setting, ...]:
    """What a provider's adapter needs to be told; one that serves several providers names its settings after each.

    Raises LookupError when there is no such adapter.
    """
    found = providers.load(adapter)
    named: Callable[..., tuple[Setting, ...]] | None = getattr(found, "settings_for", None)
    return named(slug, options) if named else found.SETTINGS


def connection(provider: Provider, sealed: Mapping[str, bytes]) -> values.Connection:
    """The provider's settings resolved; `sealed` holds its encrypted rows by name.

    A row that no key opens leaves the provider unconfigured: the environment may hold another account's key.
    """
    try:
        wanted = settings_of(provider.adapter, slug=provider.slug, options=provider.options)
    except LookupError:
        log.error("provider_without_adapter", provider=provider.slug, adapter=provider.adapter)
        return values.Connection()
    found, readable = {}, True
    for setting in wanted:
        if setting.name not in sealed:
            found[setting.name] = settings.ENV.str(setting.name, default="").strip() or setting.default
            continue
        try:
            found[setting.name] = crypto.decrypt(sealed[setting.name], row=_row(provider, setting.name))
        except ValueError:
            log.error("provider_secret_unreadable", provider=provider.slug, name=setting.name)
            found[setting.name], readable = "", False
    return values.Connection(
        settings=found,
        configured=readable and all(found[setting.name] for setting in wanted if setting.required),
        custom_endpoint=any(
            found[setting.name].rstrip("/") != setting.default.rstrip("/") for setting in wanted if setting.is_base_url
        ),
        options=provider.options,
    )


def store(provider: Provider, name: str, value: str) -> None:
    """Keep a key or base URL encrypted; an empty value removes it. Raises ValueError for one that cannot be right."""
    wanted = settings_of(provider.adapter, slug=provider.slug, options=provider.options)
    known = {setting.name: setting for setting in wanted}
    if name not in known:
        raise ValueError(f"{provider.slug} has no setting {name}; it takes {', '.join(known)}")
    value = value.strip()
    if not value:
        for secret in ProviderSecret.objects.filter(provider=provider, name=name):
            secret.delete()
        return
    if not value.isascii() or not value.isprintable():
        raise ValueError(f"{name} must be one line of printable ASCII")
    if known[name].is_base_url and not _is_base_url(value):
        raise ValueError(f"{name} must be an http or https address without user, query or fragment")
    ProviderSecret.objects.update_or_create(
        provider=provider,
        name=name,
        defaults={"sealed": crypto.encrypt(value, row=_row(provider, name)), "changed_at": timezone.now()},
    )


def _row(provider: Provider, name: str) -> str:
    return f"providersecret:{provider.slug}:{name}"


def _is_base_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain
