"""API requests prove themselves with one bearer key, and with nothing else."""

from __future__ import annotations

import re
from typing import Any

from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts import keys
from accounts.callers import Caller
from core.errors import InvalidApiKey

_HOW = "Send your API key in one header: Authorization: Bearer pxp_<id>.<secret>"
_OTHER_HEADERS = ("HTTP_X_API_KEY", "HTTP_API_KEY", "HTTP_X_AUTH_TOKEN", "HTTP_X_GOOG_API_KEY")
# Looked for in the raw text: parsing a hostile query string is work, and an encoded spelling is never accepted anyway.
_KEY_IN_QUERY = re.compile(r"(?:^|[&;])(?:x[-_])?(?:api[-_]?key|access[-_]token)=", re.IGNORECASE)


class ApiKeyAuthentication(BaseAuthentication):
    """Turns `Authorization: Bearer <key>` into `request.auth`, a Caller.

    A request without any credential passes as anonymous: whether that is enough is the permission's question.
    """

    # Whether what the request does is checked against the key once more, in the statement that does it.
    checked_later = False

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        raw = bearer(request.META)
        return None if raw is None else (None, keys.authenticate(raw, checked_later=self.checked_later))

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SpendingKeyAuthentication(ApiKeyAuthentication):
    """For views that spend: the hold's own statement looks at the key, which saves them a round trip of their own."""

    checked_later = True


class HasApiKey(BasePermission):
    """Lets in callers with a valid API key only, and with the scope that the view names."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not isinstance(request.auth, Caller):
            raise InvalidApiKey(f"No API key was sent. {_HOW}")
        scope = getattr(view, "scope", None)
        if scope is not None and scope not in request.auth.scopes:
            # What was read some seconds ago may let a key in, which is looked at again later; it never keeps one out.
            request.auth = keys.look_again(request.auth, scope=scope)
        return True


def bearer(headers: dict[str, Any]) -> str | None:
    """The raw key in a WSGI environment, None when no credential was sent in any way.

    Raises InvalidApiKey for every other carrier and for more than one credential: what one part of a system checks
    and another one reads must not differ.
    """
    authorization = headers.get("HTTP_AUTHORIZATION")
    if _KEY_IN_QUERY.search(headers.get("QUERY_STRING") or ""):
        raise InvalidApiKey(f"An API key in the address ends up in logs, so it is not accepted there. {_HOW}")
    for name in _OTHER_HEADERS:
        if name in headers:
            header = name.removeprefix("HTTP_").replace("_", "-").lower()
            problem = "Two credentials were sent" if authorization else f"The header {header} is not read"
            raise InvalidApiKey(f"{problem}. {_HOW}")
    if authorization is None:
        return None
    scheme, _, raw = str(authorization).strip().partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidApiKey(f"The Authorization header must use the Bearer scheme. {_HOW}")
    raw = raw.strip(" ")
    if not raw:
        raise InvalidApiKey(f"The Authorization header holds no API key. {_HOW}")
    if "," in raw:
        raise InvalidApiKey(f"Two credentials were sent. {_HOW}")
    return raw
