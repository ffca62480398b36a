"""Views of what was made: requests, receipts, purge, stored images, usage."""

from __future__ import annotations

from typing import ClassVar

from django.http import HttpResponse
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from core import api
from imagesapi import cancelling, history, history_pages, purging, usage


class Requests(ApiView):
    """GET /v1/requests: this organization's requests, newest first."""

    scope: ClassVar[str | None] = scopes.REQUESTS
    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        return api.render(history_pages.page(self.caller(request), request.query_params, path=request.path))


class RequestDetail(ApiView):
    """GET /v1/requests/{id}; DELETE cancels."""

    scope: ClassVar[str | None] = scopes.REQUESTS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(history.detail(self.caller(request), word))

    def delete(self, request: Request, word: str) -> HttpResponse:
        row = cancelling.cancel(self.caller(request), word)
        return api.render(history.item(row), status=202 if row.status in history.OPEN else 200)


class RequestReceipt(ApiView):
    """GET /v1/requests/{id}/receipt: the proof of a charge, or that there is none."""

    scope: ClassVar[str | None] = scopes.REQUESTS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(history.receipt(self.caller(request), word))


class RequestPayloads(ApiView):
    """DELETE /v1/requests/{id}/payloads: erase what was sent and made; `?media=false` keeps the pictures."""

    scope: ClassVar[str | None] = scopes.REQUESTS
    reads_query = ("delete",)

    def delete(self, request: Request, word: str) -> HttpResponse:
        media = purging.media_too(request.query_params)
        return api.render(purging.purge(self.caller(request), word, media=media))


class ImageDetail(ApiView):
    """GET and DELETE images/{id}: one stored picture."""

    scope: ClassVar[str | None] = scopes.REQUESTS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(history.image(self.caller(request), word))

    def delete(self, request: Request, word: str) -> HttpResponse:
        return api.render(purging.delete_image(self.caller(request), word))


class Usage(ApiView):
    """GET /v1/usage: what was used, by day, model, key or provider."""

    scope: ClassVar[str | None] = scopes.USAGE
    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        return api.render(usage.report(self.caller(request), request.query_params))
