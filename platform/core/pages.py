"""Django's middleware for pages, which the API passes by: its callers have no session, no cookie and no form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

GetResponse = Callable[[HttpRequest], HttpResponse]


class ForPages:
    """All of settings.PAGE_MIDDLEWARE as one: an API request takes one step past it, not two for each of them.

    `request.is_api` was set by core.middleware.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self._past = self._through = get_response
        # In the order in which Django calls them: views from outside in, what comes out of them from inside out.
        self._on_view: list[Callable[..., Any]] = []
        self._on_exception: list[Callable[..., Any]] = []
        self._on_template: list[Callable[..., Any]] = []
        for path in reversed(settings.PAGE_MIDDLEWARE):
            layer = import_string(path)(self._through)
            if hasattr(layer, "process_view"):
                self._on_view.insert(0, layer.process_view)
            if hasattr(layer, "process_exception"):
                self._on_exception.append(layer.process_exception)
            if hasattr(layer, "process_template_response"):
                self._on_template.append(layer.process_template_response)
            self._through = cast(GetResponse, convert_exception_to_response(layer))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._past(request) if request.is_api else self._through(request)  # type: ignore[attr-defined]

    def process_view(self, request: HttpRequest, *rest: Any) -> Any:
        """The first answer that one of them has instead of the view's, if any."""
        return _first(self._on_view, request, *rest)

    def process_exception(self, request: HttpRequest, error: Exception) -> Any:
        """The first answer that one of them has for what a view raised, if any."""
        return _first(self._on_exception, request, error)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        """An answer that is yet to be rendered, as all of them leave it."""
        for hook in () if request.is_api else self._on_template:  # type: ignore[attr-defined]
            response = hook(request, response)
        return response


def _first(hooks: list[Callable[..., Any]], request: HttpRequest, *rest: Any) -> Any:
    if request.is_api:  # type: ignore[attr-defined]
        return None
    return next((found for hook in hooks if (found := hook(request, *rest)) is not None), None)
