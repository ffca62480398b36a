"""Django's middleware for pages, which the API passes by: its callers have no session, no cookie and no form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.utils.module_loading import import_string

GetResponse = Callable[[HttpRequest], HttpResponse]

_HOOKS = ("process_view", "process_exception", "process_template_response")


def _for_pages(path: str) -> Callable[[GetResponse], GetResponse]:
    """The middleware of that path, for requests outside the API; `request.is_api` was set by core.middleware."""

    def factory(get_response: GetResponse) -> GetResponse:
        inner = import_string(path)(get_response)

        def middleware(request: HttpRequest) -> HttpResponse:
            if request.is_api:  # type: ignore[attr-defined]
                return get_response(request)
            response: HttpResponse = inner(request)
            return response

        for name in _HOOKS:
            if hasattr(inner, name):
                setattr(middleware, name, _guarded(getattr(inner, name)))
        return middleware

    return factory


def _guarded(hook: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(request: HttpRequest, *rest: Any) -> Any:
        return None if request.is_api else hook(request, *rest)  # type: ignore[attr-defined]

    return guarded


sessions = _for_pages("django.contrib.sessions.middleware.SessionMiddleware")
common = _for_pages("django.middleware.common.CommonMiddleware")
csrf = _for_pages("django.middleware.csrf.CsrfViewMiddleware")
people = _for_pages("django.contrib.auth.middleware.AuthenticationMiddleware")
messages = _for_pages("django.contrib.messages.middleware.MessageMiddleware")
frames = _for_pages("django.middleware.clickjacking.XFrameOptionsMiddleware")
private = _for_pages("ui.middleware.private_pages")
static = _for_pages("whitenoise.middleware.WhiteNoiseMiddleware")
