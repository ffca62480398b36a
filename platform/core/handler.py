"""Django's WSGI handler, which looks for the view of a fixed path once, and whose requests have any content type."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest
from django.urls import ResolverMatch


class Request(WSGIRequest):
    """A request exists before anything that could answer for it: what cannot be read in its head must not end it."""

    def _set_content_type_params(self, meta: Any) -> None:
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc] # Django's, which its types leave out
        except ValueError:  # a parameter in a character set that nobody knows (RFC 2231): read without parameters
            meta["CONTENT_TYPE"] = meta["CONTENT_TYPE"].partition(";")[0]
            super()._set_content_type_params(meta)  # type: ignore[misc]


class Handler(WSGIHandler):
    """Matching a path against the list of routes takes as long as a small statement, and ends the same each time."""

    request_class = Request

    def __init__(self) -> None:
        super().__init__()
        # As many as there are routes without parameters.
        self._fixed: dict[str, ResolverMatch] = {}

    def resolve_request(self, request: HttpRequest) -> Any:
        """The view of the request's path with its arguments. Raises Resolver404."""
        found = self._fixed.get(request.path_info)
        if found is not None and not hasattr(request, "urlconf"):
            request.resolver_match = found
            return found
        match: ResolverMatch = super().resolve_request(request)
        if not match.args and not match.kwargs and not hasattr(request, "urlconf"):
            self._fixed[request.path_info] = match
        return match
