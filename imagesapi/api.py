"""The images API's views: authenticate, parse, gateway, render; nothing else."""

from __future__ import annotations

import time
from typing import ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import FileResponse, HttpResponse, HttpResponseBase
from rest_framework.request import Request

from accounts import keys
from accounts.api import ApiView
from accounts.authentication import SpendingKeyAuthentication
from core import api, errors, ids, memory
from imagesapi import catalog, gateway, history, inputs, links, listing, outputs, store
from imagesapi.models import Image
from imagesapi.values import ImageRequest

_JSON_TYPES = ("application/json", "")


class Generations(ApiView):
    """POST images/generations."""

    billable: ClassVar[bool] = True
    authentication_classes = (SpendingKeyAuthentication,)

    def post(self, request: Request) -> HttpResponse:
        started_s = time.monotonic()
        caller = self.caller(request)
        try:
            asked = _asked(request)
        except errors.PixelparError:
            keys.look_again(caller)  # a key that was revoked meanwhile is what there is to say
            raise
        if asked.dry_run:
            return api.render(outputs.dry_run(gateway.plan(keys.look_again(caller), asked)))
        with memory.scope():
            outcome = gateway.create(caller, asked, generation_id=request._request.id)  # type: ignore[attr-defined]
            response = api.render(
                outputs.images(outcome, caller=caller, request=asked),
                headers=outputs.headers(outcome, started_s=started_s),
            )
            sent = memory.hand_over()
            if sent is not None:
                response._resource_closers.append(sent)  # type: ignore[attr-defined]
            return response


def _asked(request: Request) -> ImageRequest:
    http = request._request
    content_type = http.content_type or ""
    if content_type not in _JSON_TYPES:
        raise errors.UnsupportedMediaType(
            f"images/generations takes JSON: send Content-Type: application/json, not {content_type[:60]!r}."
        )
    body = api.read_body(http)
    return inputs.generation(
        api.parse_object(body),
        default_model=settings.DEFAULT_MODEL,
        dry_run=_flag(request, "dryRun"),
        max_cost_header=request.headers.get("x-max-cost"),
        size_bytes=len(body),
    )


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "").lower()
    if value not in ("", "true", "false", "1", "0"):
        raise errors.InvalidRequest(f"'{name}' must be true or false.", param=name)
    return value in ("true", "1")


class Models(ApiView):
    """GET models."""

    def get(self, request: Request) -> HttpResponse:
        snapshot = catalog.snapshot(self.caller(request).catalogue_version)
        return api.render({"object": "list", "data": listing.models(snapshot)})


class ModelDetail(ApiView):
    """GET models/{id}; the id may hold slashes, raw or as %2F."""

    def get(self, request: Request, name: str) -> HttpResponse:
        snapshot = catalog.snapshot(self.caller(request).catalogue_version)
        return api.render(listing.model(snapshot, name))


class Requests(ApiView):
    """GET /v1/requests: this organization's requests, newest first."""

    def get(self, request: Request) -> HttpResponse:
        return api.render(history.page(self.caller(request), request.query_params, path=request.path))


class RequestDetail(ApiView):
    """GET /v1/requests/{id}."""

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(history.detail(self.caller(request), word))


class ImageContent(ApiView):
    """GET images/{id}/content: bytes for whoever has a signed link, or a key of the image's organization.

    With a signature any Authorization header is ignored: clients send theirs along with every address of the host.
    """

    permission_classes = ()

    def perform_authentication(self, request: Request) -> None:
        if not links.looks_signed(request.query_params):
            super().perform_authentication(request)

    def get(self, request: Request, word: str) -> HttpResponseBase:
        if links.looks_signed(request.query_params):
            if links.holds(word, query=request.META["QUERY_STRING"]):
                image = _find(Image.objects.filter(organization__suspended_at=None), word)
                if image is not None:
                    return _content(image)
            raise errors.PermissionDenied("This link is not valid, or its time is over.", code="link_expired")
        if request.auth is None:
            raise errors.InvalidApiKey("Open this image with its signed link, or send an API key.")
        image = _find(Image.objects.filter(organization_id=self.caller(request).organization_id), word)
        if image is None:
            raise errors.NotFound(f"There is no image {word[:40]!r}.")
        return _content(image)


def _find(images: QuerySet[Image], word: str) -> Image | None:
    image_id = ids.parse("img", word)
    return images.filter(pk=image_id, deleted_at=None).first() if image_id else None


def _content(image: Image) -> HttpResponseBase:
    try:
        response = FileResponse(store.open_image(image.path), content_type=image.content_type)
    except FileNotFoundError as error:
        raise errors.NotFound(f"The image {ids.public('img', image.pk)} is no longer stored.") from error
    response.headers["Content-Length"] = str(image.size_bytes)
    response.headers["Cache-Control"] = "private, max-age=3600, immutable"
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
