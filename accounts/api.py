"""The base of every API view: a key in, JSON out, nothing of Django's pages in between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.authentication import ApiKeyAuthentication, HasApiKey
from accounts.callers import Caller
from core import query


class _OnlyJson(BaseContentNegotiation):
    """Views render by themselves, and always JSON: OpenAI's clients say Accept: application/json even for streams."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        return None

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], JSONRenderer.media_type


_ALLOWED: dict[type, str] = {}


class ApiView(APIView):
    """One endpoint for API keys. Views that ask for less say so in `permission_classes`."""

    authentication_classes = (ApiKeyAuthentication,)
    permission_classes: Sequence[type[BasePermission]] = (HasApiKey,)
    # Spends the organization's money: the sweep over all routes asks for a recorded hold.
    billable: ClassVar[bool] = False
    # What a key must be allowed to do (accounts.scopes); None for what every key may.
    scope: ClassVar[str | None] = None
    # Methods that judge the query themselves, with or without parameters of their own. Any other takes none, and says
    # so: whoever misspells a parameter, or sends it to the wrong address, believes that something is set.
    reads_query: ClassVar[Sequence[str]] = ()
    # What a browser asks before a call (OPTIONS) is answered in front of the views; they would say what they take.
    http_method_names = ("get", "head", "post", "put", "patch", "delete")
    content_negotiation_class = _OnlyJson

    @property
    def default_response_headers(self) -> dict[str, str]:
        """REST framework's, put together once for each kind of view."""
        kind = type(self)
        if kind not in _ALLOWED:
            _ALLOWED[kind] = ", ".join(self.allowed_methods)
        return {"Allow": _ALLOWED[kind]}

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """REST framework ties view, request and answer into a ring that only the collector would ever undo: megabytes
        of pictures would outlive their request by minutes."""
        response = super().dispatch(request, *args, **kwargs)
        self.__dict__.clear()
        return response

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Who asks, whether they may, and then that nothing stands in the address that nobody reads."""
        super().initial(request, *args, **kwargs)
        if request._request.META.get("QUERY_STRING") and self.refuses_query(str(request.method)):
            query.check_known(request.query_params, (), takes=())

    @classmethod
    def refuses_query(cls, method: str) -> bool:
        """Whether a method, of those that there are, takes no query parameters."""
        name = "get" if method == "HEAD" else method.lower()
        return name in cls.http_method_names and hasattr(cls, name) and name not in cls.reads_query

    @staticmethod
    def caller(request: Request) -> Caller:
        """Who asks; only after the permissions let the request in."""
        caller = request.auth
        if not isinstance(caller, Caller):
            raise TypeError("this view lets in requests without a key")
        return caller
