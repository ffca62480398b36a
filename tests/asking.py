"""Asking for an address as anybody there is, with more smuggled in, and what may be answered then."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts import keys, scopes, users
from accounts.models import ApiKey, Organization, Role
from tests.bodies import read
from tests.people import issue, sign_in
from tests.tenancy import ROUTES, Route
from tests.tenants import Tenant

_CSRF = re.compile(rb'name="csrfmiddlewaretoken" value="\w+"')
# What a key may be made with: everything, what is usual, or one thing alone; each is swept like a key of its own.
KEYS: dict[str, Mapping[str, Any]] = {
    "full": {"scopes": scopes.ALL},
    "usual": {},
    **{f"{scope} only": {"scopes": [scope]} for scope in scopes.ALL},
}


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


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, with the words that were sent taken out: they are an echo, no news."""

    status: int
    body: bytes
    headers: Mapping[str, str]


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
