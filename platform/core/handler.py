"""Django's WSGI handler, which looks for the view of a fixed path once."""

from __future__ import annotations

from typing import Any

from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest
from django.urls import ResolverMatch


class Handler(WSGIHandler):
    """Matching a path against the list of routes takes as long as a small statement, and ends the same each time."""

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
