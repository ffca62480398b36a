"""The addresses of the isolation sweep: what each one is, who may use it how, and which kinds of ids it takes."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from django.urls import URLPattern, URLResolver

from accounts import scopes
from accounts.models import Role
from tests.imagesapi.canvas import data_uri, picture

EVERYONE = frozenset(Role.values)
MAKERS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
OWNERS = frozenset({Role.OWNER})
PAYERS = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
REFUNDERS = frozenset({Role.OWNER, Role.BILLING})


@dataclass(frozen=True, slots=True)
class Route:
    """What one address is: who may use each of its methods, and which kinds of ids it takes where."""

    # public: anybody. document: anybody, and the same for all, so caches may keep it. page: members, by role. api:
    # keys. link: keys, or whoever has a signed link. signed: whoever signs what they send, so nobody here.
    kind: Literal["public", "document", "page", "api", "link", "signed"]
    methods: Mapping[str, frozenset[str]]
    path_ids: Mapping[str, str] = field(default_factory=dict)
    query_ids: Mapping[str, str] = field(default_factory=dict)
    body_ids: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    # A list, which must show the asker's own things of this kind and nobody else's.
    lists: str | None = None
    # What a key must be allowed to do; None for what every key may.
    scope: str | None = None
    # Whether a body with a field that it does not know is refused rather than read without it.
    strict: bool = False
    # The same of the query string; where nothing is said, every route of the API does.
    strict_query: bool | None = None

    @property
    def refuses_query(self) -> bool:
        return self.kind == "api" if self.strict_query is None else self.strict_query

    @property
    def takes_ids(self) -> bool:
        return bool(self.path_ids or self.body_ids)

    @property
    def names_an_object(self) -> bool:
        """Whether it takes an id of something that one organization has and another has not."""
        return self.takes_ids and "model" not in self.path_ids.values()


def _api(**more: Any) -> Route:
    return Route("api", {"GET": frozenset()}, **more)


_GENERATIONS = Route(
    "api",
    {"POST": frozenset()},
    body={"model": "mock-image", "prompt": "a red fox", "size": "16x16", "response_format": "url"},
    scope=scopes.IMAGES,
    strict_query=False,
)
_PICTURE = {"images": [{"image_url": data_uri(picture())}]}
_EDITS = replace(_GENERATIONS, body={**_GENERATIONS.body, **_PICTURE})
_VARIATIONS = replace(_GENERATIONS, body={"model": "mock-image", "size": "16x16", **_PICTURE})
_CONTENT = Route("link", {"GET": frozenset()}, path_ids={"word": "image"}, scope=scopes.REQUESTS)
_IMAGE = Route("api", {"GET": frozenset(), "DELETE": frozenset()}, path_ids={"word": "image"}, scope=scopes.REQUESTS)
_KEYS = Route(
    "api",
    {"GET": frozenset(), "POST": frozenset()},
    query_ids={"starting_after": "key", "ending_before": "key"},
    # What a key with this scope alone can give.
    body={"name": "made by the sweep", "scopes": ["keys"]},
    lists="key",
    scope=scopes.KEYS,
    strict=True,
)
_KEY = Route(
    "api",
    {method: frozenset() for method in ("GET", "PATCH", "POST", "DELETE")},
    path_ids={"word": "key"},
    body={"name": "renamed by the sweep"},
    scope=scopes.KEYS,
    strict=True,
)

_WEBHOOK: dict[str, Any] = {"path_ids": {"word": "webhook"}, "scope": scopes.WEBHOOKS}

_NEW_KEY = {"name": "made by the sweep", "scopes": ["images"]}

ROUTES: dict[str, Route] = {
    "generations_op": _GENERATIONS,
    "generations_v1": _GENERATIONS,
    "edits_op": _EDITS,
    "edits_v1": _EDITS,
    "variations_op": _VARIATIONS,
    "variations_v1": _VARIATIONS,
    "image_content_op": _CONTENT,
    "image_content_v1": _CONTENT,
    "models_op": _api(strict_query=False),
    "models_v1": _api(strict_query=False),
    "model_op": _api(path_ids={"name": "model"}, strict_query=False),
    "model_v1": _api(path_ids={"name": "model"}, strict_query=False),
    "image_op": _IMAGE,
    "image_v1": _IMAGE,
    "requests": _api(
        query_ids={"starting_after": "request", "ending_before": "request", "key_id": "key"},
        lists="request",
        scope=scopes.REQUESTS,
    ),
    "request_receipt": _api(path_ids={"word": "request"}, scope=scopes.REQUESTS),
    "request_payloads": Route("api", {"DELETE": frozenset()}, path_ids={"word": "request"}, scope=scopes.REQUESTS),
    "usage": _api(scope=scopes.USAGE),
    "transactions": _api(
        query_ids={"starting_after": "transaction", "ending_before": "transaction"},
        lists="transaction",
        scope=scopes.USAGE,
    ),
    "request": _api(path_ids={"word": "request"}, scope=scopes.REQUESTS),
    "statements": _api(lists="balance", scope=scopes.USAGE),
    "statement": _api(scope=scopes.USAGE),
    "export-transactions": _api(lists="transaction", scope=scopes.USAGE),
    "export-requests": _api(lists="request", scope=scopes.USAGE),
    "export-focus": _api(scope=scopes.USAGE),
    "export-statement": _api(lists="balance", scope=scopes.USAGE),
    "balance": _api(lists="balance", scope=scopes.USAGE),
    "budgets": _api(lists="budget", scope=scopes.KEYS),
    "key-budgets": Route(
        "api",
        {"GET": frozenset(), "PUT": frozenset()},
        path_ids={"word": "key"},
        body={"spend_month_usd": "12.34"},
        scope=scopes.KEYS,
        strict=True,
    ),
    "budgets:page": Route("page", {"GET": EVERYONE}, lists="budget"),
    "budgets:organization": Route("page", {"POST": PAYERS}, body={"spend_day_usd": "5.00"}),
    "budgets:member": Route("page", {"POST": PAYERS}, body={"spend_day_usd": "5.00"}, body_ids={"member": "member"}),
    "budgets:key": Route("page", {"POST": PAYERS}, path_ids={"public_id": "key"}, body={"spend_day_usd": "5.00"}),
    # Whoever types another name than that of their own organization changes nothing.
    "closing:page": Route("page", {"GET": OWNERS, "POST": OWNERS}, body={"confirm": "another"}),
    "provider-keys": Route(
        "api",
        {"GET": frozenset(), "PUT": frozenset()},
        body={"provider": "openai", "secret": "sk-of-the-sweep-0123456789"},
        lists="provider_key",
        scope=scopes.KEYS,
        strict=True,
    ),
    "provider-key": Route("api", {"DELETE": frozenset()}, path_ids={"word": "provider_key"}, scope=scopes.KEYS),
    "keys": _KEYS,
    "key": _KEY,
    "webhooks": Route(
        "api",
        {"GET": frozenset(), "POST": frozenset()},
        body={"url": "https://receiver.example/sweep"},
        lists="webhook",
        scope=scopes.WEBHOOKS,
        strict=True,
    ),
    "webhook": Route(
        "api",
        {method: frozenset() for method in ("GET", "PATCH", "DELETE")},
        body={"description": "changed by the sweep"},
        strict=True,
        **_WEBHOOK,
    ),
    "webhook_secret": Route("api", {"POST": frozenset()}, **_WEBHOOK),
    "webhook_deliveries": _api(**_WEBHOOK),
    "webhook_replay": Route(
        "api",
        {"POST": frozenset()},
        path_ids={"word": "webhook", "delivery": "delivery"},
        scope=scopes.WEBHOOKS,
    ),
    "transactions-page": Route("page", {"GET": EVERYONE}, lists="balance", strict_query=True),
    "statements-page": Route("page", {"GET": EVERYONE}, lists="balance", strict_query=True),
    "statement-page": Route("page", {"GET": EVERYONE}, lists="balance", strict_query=True),
    "receipt-page": Route("page", {"GET": EVERYONE}, path_ids={"word": "request"}),
    "export-transactions-page": Route("page", {"GET": EVERYONE}, lists="transaction", strict_query=True),
    "export-requests-page": Route("page", {"GET": EVERYONE}, lists="request", strict_query=True),
    "export-focus-page": Route("page", {"GET": EVERYONE}, strict_query=True),
    "export-statement-page": Route("page", {"GET": EVERYONE}, lists="balance", strict_query=True),
    "zero-markup": Route("public", {"GET": EVERYONE}, strict_query=True),
    "zero-markup-json": Route("public", {"GET": EVERYONE}, strict_query=True),
    "accounts:keys": Route("page", {"GET": EVERYONE, "POST": MAKERS}, body=_NEW_KEY, lists="key"),
    "accounts:key-revoke": Route("page", {"POST": MAKERS}, path_ids={"public_id": "key"}),
    "accounts:switch": Route("page", {"POST": EVERYONE}, body_ids={"organization": "organization"}),
    "billing:page": Route("page", {"GET": EVERYONE}, lists="top_up"),
    "billing:top-up": Route("page", {"POST": PAYERS}, body={"amount": "25"}),
    "billing:top-up-done": Route("page", {"GET": EVERYONE}, path_ids={"word": "top_up"}),
    "billing:top-up-confirm": Route("page", {"GET": PAYERS, "POST": PAYERS}, path_ids={"word": "top_up"}),
    "billing:automatic": Route("page", {"POST": PAYERS}, body={"threshold": "5", "target": "25", "ceiling": "100"}),
    "billing:card-remove": Route("page", {"POST": PAYERS}),
    "billing:portal": Route("page", {"POST": PAYERS}),
    "billing:refund": Route("page", {"POST": REFUNDERS}, body={"amount": "0.01", "key": str(uuid.UUID(int=7))}),
    "billing:stripe-webhook": Route("signed", {"POST": frozenset()}),
    "web:landing": Route("public", {"GET": EVERYONE}),
    "web:openapi": Route("document", {"GET": EVERYONE}),
    "web:llms": Route("document", {"GET": EVERYONE}),
    "web:model-llms": Route("document", {"GET": EVERYONE}, path_ids={"slug": "model"}),
    "web:api-reference": Route("public", {"GET": EVERYONE}),
    "web:overview": Route("page", {"GET": EVERYONE}, lists="balance"),
}
# Whole rooms of others' views, by the prefix of their addresses and the package their code must come from.
GROUPS = {"accounts/": "allauth."}


@dataclass(frozen=True, slots=True)
class Address:
    """One leaf of the URL table."""

    name: str
    pattern: str
    view: Callable[..., Any]

    @property
    def group(self) -> str | None:
        module = getattr(self.view, "view_class", self.view).__module__
        return next((p for p, code in GROUPS.items() if self.pattern.startswith(p) and module.startswith(code)), None)


def addresses(resolver: URLResolver, *, namespace: str = "", prefix: str = "") -> Iterator[Address]:
    """Every leaf below a resolver, at whatever depth."""
    for entry in resolver.url_patterns:
        pattern = f"{prefix}{entry.pattern}"
        if isinstance(entry, URLPattern):
            yield Address(f"{namespace}{entry.name or ''}", pattern, entry.callback)
        else:
            inner = f"{namespace}{entry.namespace}:" if entry.namespace else namespace
            yield from addresses(entry, namespace=inner, prefix=pattern)


def unknown(resolver: URLResolver) -> list[str]:
    """What the table lacks or has too much, each with what to do."""
    found = [address for address in addresses(resolver) if address.group is None]
    names = [address.name for address in found]
    complaints = [
        f"/{address.pattern} has the name {address.name!r}, which the isolation sweep does not know: add it to ROUTES "
        "in tests/tenancy.py, saying whether it is public, a page (for which roles), api or link, and which of its "
        "parameters take which kind of id (a new kind of id goes into KINDS in tests/tenants.py with the object that "
        "has one)."
        for address in found
        if address.name not in ROUTES
    ]
    complaints += [
        f"two addresses are called {name!r}: reverse finds one only" for name in names if names.count(name) > 1
    ]
    return complaints + [f"{name!r} is in ROUTES and no address any more" for name in ROUTES if name not in names]
