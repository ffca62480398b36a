"""The API's description for programs, and the page on which people read it and try it."""

from __future__ import annotations

import hashlib

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import condition, require_safe

from core import openapi

# The page runs scripts and styles of this server only; Swagger's own pictures are data URIs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def _etag(request: HttpRequest) -> str:
    return f'"{hashlib.sha256(openapi.compact()).hexdigest()[:32]}"'


@require_safe
@condition(etag_func=_etag)
def document(request: HttpRequest) -> HttpResponse:
    """The OpenAPI document: the same for everybody, so caches may keep it."""
    response = HttpResponse(openapi.compact(), content_type="application/json")
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


@require_safe
def page(request: HttpRequest) -> HttpResponse:
    """Swagger's view of it, from the files that drf-spectacular-sidecar brings."""
    response = render(request, "web/api_reference.html")
    response.headers["Content-Security-Policy"] = _POLICY
    return response
