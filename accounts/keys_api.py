"""`/v1/keys`: an organization's keys for programs that manage them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request

from accounts import key_limits, keys, scopes
from accounts.api import ApiView
from accounts.callers import Caller
from accounts.models import KEY_ID_LENGTH, ApiKey
from core import api, errors, paging

_CREATE = ("name", "scopes", "rules", "limits", "expires_at")
_CHANGE = ("name", "scopes", "rules", "limits")
# The year 3000: what is farther off is a mistake, such as milliseconds.
EXPIRES_MAX_S = 32_503_680_000


class Keys(ApiView):
    """GET lists the organization's keys, newest first; POST makes one and shows it this once."""

    scope: ClassVar[str | None] = scopes.KEYS
    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        mine = _mine(self.caller(request))
        page = paging.read(mine, request.query_params, place=lambda word: _place(mine, word), noun="a key of yours")
        limits = key_limits.keeper().of([key.pk for key in page.rows])
        data = [_document(key, limits[key.pk]) for key in page.rows]
        return api.render(
            paging.document(
                page, data, path=request.path, asked=request.query_params.dict(), word=lambda key: key.public_id
            )
        )

    @sensitive_variables("raw")
    def post(self, request: Request) -> HttpResponse:
        by = _maker(self.caller(request))
        asked = _asked(request, _CREATE)
        if "name" not in asked:
            raise errors.MissingParameter("'name' is required: it says where the key is used.", param="name")
        key, raw = keys.create(
            by.organization,
            name=_name(asked["name"]),
            expires_at=_moment(asked.get("expires_at")),
            scopes=asked.get("scopes"),
            rules=asked.get("rules"),
            limits=asked.get("limits"),
            by=by,
        )
        return api.render({**_shown(key), "key": raw}, status=201)


class KeyDetail(ApiView):
    """One key: GET shows it, PATCH (or POST) changes what is given, DELETE ends it; a key may end itself."""

    scope: ClassVar[str | None] = scopes.KEYS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(_shown(_find(self.caller(request), word)))

    def patch(self, request: Request, word: str) -> HttpResponse:
        caller = self.caller(request)
        key = _find(caller, word)
        asked = _asked(request, _CHANGE)
        changed = keys.update(
            key,
            name=_name(asked["name"]) if "name" in asked else None,
            scopes=asked.get("scopes"),
            rules=asked.get("rules"),
            limits=asked.get("limits"),
            by=_maker(caller),
        )
        return api.render(_shown(changed))

    post = patch

    def delete(self, request: Request, word: str) -> HttpResponse:
        key = _find(self.caller(request), word)
        keys.revoke(key)
        return api.render({"id": key.public_id, "object": "key", "deleted": True})


def _mine(caller: Caller) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(organization_id=caller.organization_id)


def _maker(caller: Caller) -> ApiKey:
    """The key that asks, whole."""
    return ApiKey.objects.select_related("organization", "created_by").get(pk=caller.key_id)


def _row(mine: QuerySet[ApiKey], word: str) -> ApiKey | None:
    if len(word) != KEY_ID_LENGTH or not word.isascii() or not word.isalnum():
        return None
    return mine.filter(public_id=word).first()


def _place(mine: QuerySet[ApiKey], word: str) -> int | None:
    key = _row(mine, word)
    return None if key is None else key.pk


def _find(caller: Caller, word: str) -> ApiKey:
    key = _row(_mine(caller), word)
    if key is None:
        # What was sent may be a raw key, so it is not repeated.
        raise errors.NotFound("There is no such key: give its id, the part between pxp_ and the dot.")
    return key


def _asked(request: Request, known: tuple[str, ...]) -> dict[str, Any]:
    """The body, of which nothing is passed over in silence: a misspelled 'scopes' would make a key that may more."""
    body = api.read_object(request._request)
    for name in body:
        if name not in known:
            raise errors.UnknownParameter(
                f"{name[:60]!r} does not exist here; there are {', '.join(known)}.", param=name[:64]
            )
    return {name: value for name, value in body.items() if value is not None}


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise errors.InvalidRequest("'name' must be a string.", param="name", code="invalid_type")
    return value


def _moment(value: object) -> dt.datetime | None:
    if value is None:
        return None
    rule = "'expires_at' must be a Unix time in seconds."
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise errors.InvalidRequest(rule, param="expires_at", code="invalid_type")
    if not isinstance(value, int) or not 0 < value <= EXPIRES_MAX_S:  # a very large integer is read as a double
        raise errors.InvalidRequest(rule, param="expires_at")
    return dt.datetime.fromtimestamp(value, tz=dt.UTC)


def _shown(key: ApiKey) -> dict[str, Any]:
    return _document(key, key_limits.keeper().of([key.pk])[key.pk])


def _document(key: ApiKey, limits: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": key.public_id,
        "object": "key",
        "name": key.name,
        "last_four": key.last_four,
        "status": key.status(timezone.now()),
        "created_at": _seconds(key.created_at),
        "last_used_at": _seconds(key.last_used_at),
        "expires_at": _seconds(key.expires_at),
        "scopes": key.scopes,
        "rules": key.key_rules.as_dict(),
        "limits": limits,
    }


def _seconds(moment: dt.datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
