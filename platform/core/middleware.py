"""What wraps every request: an id that logs and answers share, and JSON for every error under the API's roots."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import structlog
from corsheaders.middleware import CorsMiddleware
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware.security import SecurityMiddleware
from django.utils.cache import patch_vary_headers

from core import api, errors, ids

GetResponse = Callable[[HttpRequest], HttpResponse]

_BY_STATUS: dict[int, type[errors.PixelparError]] = {
    400: errors.InvalidRequest,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: errors.BodyTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.TooManyRequests,
}


def is_api(path: str) -> bool:
    """Whether a path belongs to the API, whose every answer is JSON."""
    return path.startswith(settings.API_ROOTS) or f"{path}/" in settings.API_ROOTS


def request_id(get_response: GetResponse) -> GetResponse:
    """Give each request an id, bind it to the log lines, and send it back; ours, never one a caller chose."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.is_api = is_api(request.path_info)  # type: ignore[attr-defined]
        request.id = ids.new()  # type: ignore[attr-defined]
        word = ids.public("req", request.id)  # type: ignore[attr-defined]
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=word)
        response = get_response(request)
        response.headers.setdefault("x-request-id", word)
        return response

    return middleware


def security(get_response: GetResponse) -> GetResponse:
    """Django's SecurityMiddleware; what it would tell every caller of the API is asked once, not for each answer."""
    inner = SecurityMiddleware(get_response)
    told: dict[bool, list[tuple[str, str]]] = {}

    def middleware(request: HttpRequest) -> HttpResponse:
        if inner.redirect or not request.is_api:  # type: ignore[attr-defined]
            return cast(HttpResponse, inner(request))
        response = get_response(request)
        is_secure = request.is_secure()
        if is_secure not in told:
            told[is_secure] = list(inner.process_response(request, HttpResponse(content_type="")).items())
        for name, value in told[is_secure]:
            response.headers.setdefault(name, value)
        return response

    return middleware


def one_host(get_response: GetResponse) -> GetResponse:
    """Refuse a host that is not ours, and a request line that names another one than the Host header does: two readers
    would see two requests."""

    def middleware(request: HttpRequest) -> HttpResponse:
        request.get_host()  # raises DisallowedHost
        target = request.META.get("RAW_URI", "/")  # the request line's, as gunicorn read it
        if not target.startswith(("/", "*")):
            authority = target.partition("://")[2].partition("/")[0]
            if authority != request.META.get("HTTP_HOST"):
                raise DisallowedHost("the request line names another host than the Host header")
        return get_response(request)

    return middleware


def cors(get_response: GetResponse) -> GetResponse:
    """django-cors-headers for requests of browsers, which say where they come from. Others have nothing to be told but
    that the answer may vary, and reading all their headers for that takes its time."""
    inner = CorsMiddleware(get_response)

    def middleware(request: HttpRequest) -> HttpResponse:
        if "HTTP_ORIGIN" in request.META or request.method == "OPTIONS":
            return cast(HttpResponse, inner(request))
        response = get_response(request)
        if inner.is_enabled(request):
            if "Vary" in response.headers:
                patch_vary_headers(response, ("origin",))
            else:
                response.headers["Vary"] = "origin"
        return response

    return middleware


def api_errors(get_response: GetResponse) -> GetResponse:
    """Turn what Django itself refuses under the API's roots (bad host, missing route, a crash) into OpenAI's shape."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if response.status_code < 400 or not is_api(request.path_info):
            return response
        if response.headers.get("Content-Type", "").startswith("application/json"):
            return response
        replacement = api.render_error(_explain(request, response.status_code))
        for name in ("x-request-id", "Allow", "Access-Control-Allow-Origin", "Vary"):
            if name in response.headers:
                replacement.headers[name] = response.headers[name]
        return replacement

    return middleware


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
    }.get(status, "Something went wrong on our side. The request id in this answer's headers finds it in our log.")
    return kind(message)
