"""What wraps every request: an id that logs and answers share, one host, safety headers, and the API's errors as JSON.

One class and not a chain of five: each link of Django's costs an API request a handful of calls on either way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import structlog
from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.exception import convert_exception_to_response, response_for_exception
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware
from django.utils.cache import patch_vary_headers

from core import api, errors, health, ids

_SLASHES = re.compile("/{2,}")

GetResponse = Callable[[HttpRequest], HttpResponse]

_BY_STATUS: dict[int, type[errors.PixelparError]] = {
    400: errors.InvalidRequest,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.TooManyRequests,
    503: errors.Overloaded,
}


def is_api(path: str) -> bool:
    """Whether a path belongs to the API, whose every answer is JSON; also one that a slash too much led astray."""
    if "//" in path:
        path = _SLASHES.sub("/", path)
    return path.startswith(settings.API_ROOTS) or f"{path}/" in settings.API_ROOTS


class Entrance:
    """The first thing of ours that a request meets, and the last one that its answer does."""

    def __init__(self, get_response: GetResponse) -> None:
        self._next = get_response
        self._cors = CorsMiddleware(get_response)
        self._security = SecurityMiddleware(convert_exception_to_response(self._cors))
        self._with_all = convert_exception_to_response(self._security)
        # What SecurityMiddleware tells every caller, by whether the request came encrypted: asked once.
        self._told: dict[bool, list[tuple[str, str]]] = {}

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info in health.PATHS:  # before hosts are looked at: who asks may know our address only
            return health.answer(request)
        request.is_api = is_api(request.path_info)  # type: ignore[attr-defined]
        # Ours, never one that a caller chose.
        request.id = ids.new()  # type: ignore[attr-defined]
        word = ids.public("req", request.id)  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=word)
        try:
            _check_host(request)
        except DisallowedHost as error:
            response = response_for_exception(request, error)
        else:
            response = self._answer(request)
        response.headers.setdefault("x-request-id", word)
        if response.status_code >= 400 and request.is_api:  # type: ignore[attr-defined]
            return _as_json(request, response)
        return response

    def _answer(self, request: HttpRequest) -> HttpResponse:
        """Past the browsers' rules where no browser asks: then there is nothing to be told but that an answer may vary,
        and what is the same for everybody."""
        is_plain = request.is_api and request.method != "OPTIONS" and "HTTP_ORIGIN" not in request.META  # type: ignore[attr-defined]
        if self._security.redirect or not is_plain:
            return cast(HttpResponse, self._with_all(request))
        response = self._next(request)
        is_secure = request.is_secure()
        if is_secure not in self._told:
            empty = self._security.process_response(request, HttpResponse(content_type=""))
            self._told[is_secure] = list(empty.items())
        headers = response.headers
        for name, value in self._told[is_secure]:
            if name not in headers:
                headers[name] = value
        if self._cors.is_enabled(request):
            if "Vary" in headers:
                patch_vary_headers(response, ("origin",))
            else:
                headers["Vary"] = "origin"
        return response


def _check_host(request: HttpRequest) -> None:
    """Refuse a host that is not ours, and a request line that names another one than the Host header does: two readers
    would see two requests. Raises DisallowedHost."""
    request.get_host()
    target = request.META.get("RAW_URI", "/")  # the request line's, as gunicorn read it
    if not target.startswith(("/", "*")):
        authority = target.partition("://")[2].partition("/")[0]
        if authority != request.META.get("HTTP_HOST"):
            raise DisallowedHost("the request line names another host than the Host header")


def _as_json(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """What Django itself refuses under the API's roots (bad host, missing route, a crash), in OpenAI's shape."""
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    replacement = api.render_error(_explain(request, response.status_code))
    for name in ("x-request-id", "Allow", "Access-Control-Allow-Origin", "Vary"):
        if name in response.headers:
            replacement.headers[name] = response.headers[name]
    return replacement


def _explain(request: HttpRequest, status: int) -> errors.PixelparError:
    if status == 404:
        return errors.NotFound(
            f"There is no {request.method} {request.path_info[:200]!r}. The images API is under /openai/v1 "
            "(images/generations, models); balance and requests are under /v1."
        )
    if status == 400:
        return errors.InvalidRequest("The request could not be read: its host, its headers or its encoding is wrong.")
    kind = _BY_STATUS.get(status, errors.InternalError)
    message = {
        403: "This is not allowed.",
        405: f"{request.method} is not possible here.",
        413: "The request is too large.",
        503: "This is not available just now. Try again shortly.",
    }.get(status, "Something went wrong on our side. The request id in this answer's headers finds it in our log.")
    return kind(message)
