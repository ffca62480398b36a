"""The ground of the isolation sweep: what every address is, who may ask, and two organizations with real things."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from django.test import Client
from django.urls import URLPattern, URLResolver, reverse
from django.utils import timezone

from accounts import keys, organizations, scopes, users
from accounts.models import ApiKey, Organization, Role, User
from billing import budgets, ledger
from billing.stripe_models import StripeCustomer, TopUp
from core import ids
from imagesapi import own_keys, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery
from tests.imagesapi.canvas import data_uri, picture
from tests.people import IssuedKey, issue, sign_in

# --- the addresses ----------------------------------------------------------------------------------------------------

EVERYONE = frozenset(Role.values)
MAKERS = frozenset({Role.OWNER, Role.ADMIN, Role.DEVELOPER})
OWNERS = frozenset({Role.OWNER})
PAYERS = frozenset({Role.OWNER, Role.ADMIN, Role.BILLING})
REFUNDERS = frozenset({Role.OWNER, Role.BILLING})
PROMPT = "a lighthouse of {tenant}"


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
    # The same of the query string.
    strict_query: bool = False

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
    strict_query=True,
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
    "models_op": _api(),
    "models_v1": _api(),
    "model_op": _api(path_ids={"name": "model"}),
    "model_v1": _api(path_ids={"name": "model"}),
    "image_op": _IMAGE,
    "image_v1": _IMAGE,
    "requests": _api(
        query_ids={"starting_after": "request", "ending_before": "request", "key_id": "key"},
        lists="request",
        scope=scopes.REQUESTS,
        strict_query=True,
    ),
    "request_receipt": _api(path_ids={"word": "request"}, scope=scopes.REQUESTS),
    "request_payloads": Route(
        "api", {"DELETE": frozenset()}, path_ids={"word": "request"}, scope=scopes.REQUESTS, strict_query=True
    ),
    "usage": _api(scope=scopes.USAGE, strict_query=True),
    "transactions": _api(
        query_ids={"starting_after": "transaction", "ending_before": "transaction"},
        lists="transaction",
        scope=scopes.USAGE,
        strict_query=True,
    ),
    "request": _api(path_ids={"word": "request"}, scope=scopes.REQUESTS),
    "statements": _api(lists="balance", scope=scopes.USAGE, strict_query=True),
    "statement": _api(scope=scopes.USAGE, strict_query=True),
    "export-transactions": _api(lists="transaction", scope=scopes.USAGE, strict_query=True),
    "export-requests": _api(lists="request", scope=scopes.USAGE, strict_query=True),
    "export-focus": _api(scope=scopes.USAGE, strict_query=True),
    "export-statement": _api(lists="balance", scope=scopes.USAGE, strict_query=True),
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
    "webhook_deliveries": _api(strict_query=True, **_WEBHOOK),
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
        "parameters take which kind of id (a new kind of id goes into KINDS with the object that has one)."
        for address in found
        if address.name not in ROUTES
    ]
    complaints += [
        f"two addresses are called {name!r}: reverse finds one only" for name in names if names.count(name) > 1
    ]
    return complaints + [f"{name!r} is in ROUTES and no address any more" for name in ROUTES if name not in names]


# --- the people and their things --------------------------------------------------------------------------------------


@dataclass(slots=True)
class Tenant:
    """An organization, its people by role, and the public word of one real thing of every kind."""

    organization: Organization
    people: dict[str, User]
    key: IssuedKey
    words: dict[str, str]
    picture: bytes
    link: str
    secrets: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Asker:
    """Somebody, with whatever they prove themselves with."""

    name: str
    kind: Literal["visitor", "member", "key", "dead key"]
    client: Client
    tenant: Tenant | None = None
    role: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    refused_with: int = 401
    scopes: frozenset[str] = frozenset()

    @property
    def is_strongest(self) -> bool:
        """Whether nobody of the tenant may do more."""
        return self.role == Role.OWNER or self.scopes == frozenset(scopes.ALL)

    def has_scope(self, route: Route) -> bool:
        """Whether this key may use an API route at all."""
        return route.scope is None or route.scope in self.scopes


# A word of each kind that was never given out.
KINDS: dict[str, Callable[[], str]] = {
    "request": lambda: ids.public("req", ids.new()),
    "image": lambda: ids.public("img", ids.new()),
    "key": ApiKey.new_public_id,
    "webhook": lambda: ids.public("whk", ids.new()),
    "delivery": lambda: ids.public("whd", ids.new()),
    "provider_key": lambda: ids.public("pky", ids.new()),
    "organization": lambda: f"nobody-{ids.token(6)}",
    "model": lambda: f"no-model-{ids.token(6)}",
    "top_up": lambda: ids.public("top", ids.new()),
    "balance": lambda: "0.000000001",
    "budget": lambda: "0.000000002",
    "member": lambda: f"nobody-{ids.token(6)}@nowhere.example",
    "transaction": lambda: f"{ids.public('txn', ids.new())}_grant",
}
# What a key may be made with: everything, what is usual, or one thing alone; each is swept like a key of its own.
KEYS: dict[str, Mapping[str, Any]] = {
    "full": {"scopes": scopes.ALL},
    "usual": {},
    **{f"{scope} only": {"scopes": [scope]} for scope in scopes.ALL},
}


class _Missing(dict[str, str]):
    """Made when it is asked for: most routes take one word of fourteen."""

    def __missing__(self, kind: str) -> str:
        self[kind] = KINDS[kind]()
        return self[kind]


def missing() -> Mapping[str, str]:
    """One word of each kind that names nothing."""
    return _Missing()


def build_tenant(name: str, *, dollars: str) -> Tenant:
    """An organization with five people, money, two keys, a request and its image, all made through the product."""
    slug = name.lower()
    people = {role: users.create_verified(f"{role}@{slug}.example", name=f"{role} at {name}") for role in Role.values}
    organization = organizations.create(name, owner=people[Role.OWNER])
    for role, person in people.items():
        organizations.add_member(organization, user=person, role=role)
    ledger.grant(
        organization.pk, amount_nanos=int(dollars.replace(".", "")) * 1000, reason="sweep", reference=ids.new()
    )
    key = issue(organization, created_by=people[Role.OWNER], name=f"key of {name}")
    listed = issue(organization, created_by=people[Role.OWNER], name=f"second key of {name}")
    body = {
        "model": "mock-image",
        "size": "16x16",
        "response_format": "url",
        "prompt": PROMPT.format(tenant=name),
        "user": f"user-of-{slug}",
        "metadata": {"order": f"order-of-{slug}"},
    }
    answer = Client().post("/v1/images/generations", body, content_type="application/json", headers=key.headers)
    assert answer.status_code == 200, answer.content
    document = answer.json()
    link = document["data"][0]["url"].removeprefix("http://127.0.0.1:8000")
    cap = f"{dollars}99"
    budgets.set_for_organization(organization, {"spend_month_usd": cap})
    webhook, signing_secret = webhooks.create(
        organization.pk, url=f"https://{slug}.example/hook", events=["request.completed"], description=f"of {name}"
    )
    words = {
        "webhook": ids.public("whk", webhook.pk),
        "delivery": _told(document["id"]),
        "request": document["id"],
        "image": link.split("/")[4],
        "key": listed.row.public_id,
        "provider_key": ids.public(
            "pky", own_keys.store(organization.pk, provider="openai", secret=f"sk-of-{slug}-0123456789").pk
        ),
        "organization": organization.slug,
        "model": "mock-image",
        "top_up": _waiting_top_up(organization).word,
        "balance": dollars,
        "budget": cap,
        "member": people[Role.DEVELOPER].email,
        "transaction": Client().get("/v1/transactions", headers=key.headers).json()["data"][0]["id"],
    }
    picture = read(Client().get(link))
    texts = [name, slug, *(person.email for person in people.values()), key.row.public_id, key.raw, listed.raw]
    texts += [signing_secret, *(word for kind, word in words.items() if kind != "model")]
    return Tenant(organization, people, key, words, picture, link, (*(text.encode() for text in texts), picture))


def _waiting_top_up(organization: Organization) -> TopUp:
    """One that its bank wants confirmed, so that every page about top-ups has something to say."""
    StripeCustomer.objects.create(organization=organization, stripe_id=f"cus_of_{organization.slug}")
    return TopUp.objects.create(
        organization=organization,
        origin="automatic",
        state="action",
        amount_nanos=25 * 10**9,
        payment_intent=f"pi_of_{organization.slug}",
    )


def _told(request: str) -> str:
    """The delivery to the organization's webhook that is made when such a request has ended."""
    rows = Generation.objects.filter(pk=ids.parse("req", request) or "")
    rows.update(is_async=True)
    assert webhooks.announce(rows.get().pk) == 1
    return ids.public("whd", WebhookDelivery.objects.get(generation=rows.get()).pk)


def build_askers(tenants: list[Tenant], suspended: Organization) -> list[Asker]:
    """Nobody, a person without organization, every role and kind of key of each tenant, and keys that have ended."""
    outsider = users.create_verified("outsider@elsewhere.example")
    askers = [
        Asker("a visitor", "visitor", Client()),
        Asker("somebody without an organization", "member", sign_in(outsider)),
    ]
    for tenant in tenants:
        slug = tenant.organization.slug
        for role, person in tenant.people.items():
            askers.append(Asker(f"{role} of {slug}", "member", sign_in(person), tenant, role))
        for kind, arguments in KEYS.items():
            issued = issue(tenant.organization, **arguments)
            may = frozenset(issued.row.scopes)
            askers.append(Asker(f"{kind} key of {slug}", "key", Client(), tenant, headers=issued.headers, scopes=may))
    revoked, expired, frozen = issue(tenants[0].organization), issue(tenants[0].organization), issue(suspended)
    keys.revoke(revoked.row)
    day = dt.timedelta(days=1)
    now = timezone.now()
    ApiKey.objects.filter(pk=expired.row.pk).update(created_at=now - 2 * day, expires_at=now - day)
    Organization.objects.filter(pk=suspended.pk).update(suspended_at=now)
    askers.append(Asker("a revoked key", "dead key", Client(), headers=revoked.headers))
    askers.append(Asker("an expired key", "dead key", Client(), headers=expired.headers))
    askers.append(Asker("a suspended key", "dead key", Client(), headers=frozen.headers, refused_with=403))
    return askers


def smuggled(tenant: Tenant) -> dict[str, dict[str, Any]]:
    """A tenant's ids under the names by which such things are often read, to be sent where no route asks for them."""
    words, pk, owner = tenant.words, str(tenant.organization.pk), tenant.people[Role.OWNER].email
    slug, request = words["organization"], words["request"]
    named = {
        "organization": slug,
        "org": slug,
        "project": slug,
        "tenant": pk,
        "organization_id": pk,
        "user_id": owner,
        "id": request,
        "request_id": request,
        "image_id": words["image"],
        "key_id": words["key"],
        "owner": owner,
    }
    headers = {
        "OpenAI-Organization": slug,
        "OpenAI-Project": slug,
        "X-Organization": slug,
        "X-Organization-Id": pk,
        "X-Request-Id": request,
        "Idempotency-Key": request,
        "X-Forwarded-User": owner,
        "Remote-User": owner,
        "X-Original-Url": f"/v1/requests/{request}",
        "X-Http-Method-Override": "DELETE",
    }
    metadata = {"metadata": dict(list(named.items())[:16]), "user": request}
    return {"query": named, "headers": headers, "body": {**named, **metadata}}


# --- asking -----------------------------------------------------------------------------------------------------------

_CSRF = re.compile(rb'name="csrfmiddlewaretoken" value="\w+"')


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, with the words that were sent taken out: they are an echo, no news."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def read(response: Any) -> bytes:
    """A body, streamed or not."""
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)


def ask(
    asker: Asker,
    name: str,
    method: str,
    words: Mapping[str, str],
    *,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Mapping[str, Any] | None = None,
    echoes: tuple[str, ...] = (),
) -> Reply:
    """Ask for a route with these words in its path and body, and with whatever else is smuggled in."""
    route = ROUTES[name]
    path_words = {argument: words[kind] for argument, kind in route.path_ids.items()}
    body_words = {argument: words[kind] for argument, kind in route.body_ids.items()}
    path = reverse(name, kwargs=path_words)
    content = {**route.body, **body_words, **(body or {})}
    more: dict[str, Any] = {"headers": {**asker.headers, **(headers or {})}, "query_params": dict(query or {})}
    if method in ("POST", "PUT", "PATCH"):
        more["data"] = content
        if route.kind != "page" or method != "POST":
            more["content_type"] = "application/json"
    asker.client.cookies.pop("messages", None)  # what the last form said waits there for whichever page comes next
    response = getattr(asker.client, method.lower())(path, **more)
    text = _CSRF.sub(b"", read(response))
    found = {header: value for header, value in response.headers.items() if header.lower() != "x-request-id"}
    for word in (*path_words.values(), *body_words.values(), *echoes):
        text = text.replace(word.encode(), b"<id>")
        found = {header: value.replace(word, "<id>") for header, value in found.items()}
    return Reply(response.status_code, text, found)


def expected(asker: Asker, name: str, method: str, *, exists: bool) -> set[int]:
    """The statuses a route may answer this asker with; `exists` when the words name things of theirs."""
    route = ROUTES[name]
    if route.kind in ("public", "document"):
        return {404} if route.takes_ids and not exists else {200}
    if route.kind == "signed":
        return {503}  # until the operator has set the secret; 400 after that
    if route.kind == "page":
        if asker.kind != "member":
            return {302}
        if asker.tenant is None:
            return {200}
        if asker.role not in route.methods[method]:
            return {403}
        return {404} if route.names_an_object and not exists else {200, 201, 302}
    if asker.kind != "key":
        return {asker.refused_with}
    if not asker.has_scope(route):
        return {403}
    return {404} if route.takes_ids and not exists else {200, 201}
