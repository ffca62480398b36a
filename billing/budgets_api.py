"""`/v1/budgets`: what may be spent, how much of it is used, and what single keys may spend."""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from accounts.callers import Caller
from accounts.models import KEY_ID_LENGTH, ApiKey
from billing import budgets
from core import api, errors


class Budgets(ApiView):
    """GET lists every budget of the organization, its own, its keys' and its members'."""

    scope: ClassVar[str | None] = scopes.KEYS

    def get(self, request: Request) -> HttpResponse:
        data = budgets.documents(self.caller(request).organization_id)
        return api.render({"object": "list", "data": data})


class KeyBudgets(ApiView):
    """One key's budgets: GET shows them, PUT makes them what the body says, whole.

    A program sets those of keys only, as with /v1/keys; the organization's and its members' are set by people.
    """

    scope: ClassVar[str | None] = scopes.KEYS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(_document(_find(self.caller(request), word)))

    def put(self, request: Request, word: str) -> HttpResponse:
        caller = self.caller(request)
        key = _find(caller, word)
        maker = ApiKey.objects.get(pk=caller.key_id)
        return api.render(_document(budgets.set_for_key(key, api.read_object(request._request), by=maker)))


def _find(caller: Caller, word: str) -> ApiKey:
    mine = ApiKey.objects.filter(organization_id=caller.organization_id)
    is_word = len(word) == KEY_ID_LENGTH and word.isascii() and word.isalnum()
    key = mine.filter(public_id=word).first() if is_word else None
    if key is None:
        # What was sent may be a raw key, so it is not repeated.
        raise errors.NotFound("There is no such key: give its id, the part between pxp_ and the dot.")
    return key


def _document(key: ApiKey) -> dict[str, Any]:
    return {"object": "list", "data": budgets.documents(key.organization_id, key=key)}
