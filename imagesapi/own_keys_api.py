"""/v1/provider-keys: an organization's own keys at providers. A secret goes in and never comes out."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from core import api, errors, ids
from imagesapi import own_keys
from imagesapi.models import OwnProviderKey

_MEMBERS: dict[str, tuple[type, str]] = {
    **dict.fromkeys(("provider", "name", "secret"), (str, "a string")),
    **dict.fromkeys(("fallback", "enabled"), (bool, "true or false")),
}


class ProviderKeys(ApiView):
    """GET and PUT /v1/provider-keys."""

    scope: ClassVar[str | None] = scopes.KEYS

    def get(self, request: Request) -> HttpResponse:
        found = OwnProviderKey.objects.filter(organization_id=self.caller(request).organization_id)
        rows = found.select_related("provider").order_by("provider__slug", "name")
        return api.render({"object": "list", "data": [item(row) for row in rows]})

    def put(self, request: Request) -> HttpResponse:
        wanted = _members(api.read_object(request._request))
        return api.render(item(own_keys.store(self.caller(request).organization_id, **wanted)))


class ProviderKey(ApiView):
    """DELETE /v1/provider-keys/{id}."""

    scope: ClassVar[str | None] = scopes.KEYS

    def delete(self, request: Request, word: str) -> HttpResponse:
        key_id = ids.parse("pky", word)
        if key_id is None or not own_keys.remove(self.caller(request).organization_id, key_id):
            raise errors.NotFound(f"There is no provider key {word[:40]!r}.")
        return api.render({"id": word, "object": "provider_key", "deleted": True})


def item(row: OwnProviderKey) -> dict[str, Any]:
    """A key as the API shows it."""
    return {
        "id": ids.public("pky", row.pk),
        "object": "provider_key",
        "provider": row.provider.slug,
        "name": row.name,
        "last_four": row.last_four,
        "fallback": row.fallback,
        "enabled": row.enabled,
        "created_at": int(row.created_at.timestamp()),
    }


def _members(body: dict[str, Any]) -> dict[str, Any]:
    """What was sent, `null` being absent. Raises InvalidRequest and its kinds."""
    for name, value in body.items():
        if name not in _MEMBERS:
            takes = ", ".join(_MEMBERS)
            raise errors.UnknownParameter(f"There is no member {name[:64]!r} here; known are {takes}.", param=name[:64])
        kind, words = _MEMBERS[name]
        if value is not None and not isinstance(value, kind):
            raise errors.InvalidRequest(f"'{name}' must be {words}.", param=name, code="invalid_type")
    found = {name: value for name, value in body.items() if value is not None}
    if not found.get("provider"):
        raise errors.MissingParameter("Name the 'provider' the key is for.", param="provider")
    return found
