"""The images API's views: authenticate, parse, gateway, render; nothing else."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.db.models import QuerySet
from django.http import FileResponse, HttpResponse, HttpResponseBase, QueryDict
from rest_framework.request import Request

from accounts import keys, scopes
from accounts.api import ApiView
from accounts.authentication import SpendingKeyAuthentication
from core import api, errors, ids, query
from imagesapi import catalog, creating, gateway, inputs, links, listing, outputs, parameters, replays, store, uploads
from imagesapi.models import Image
from imagesapi.values import ImageRequest

Reader = Callable[[Mapping[str, Any], inputs.Context], ImageRequest]


class _Create(ApiView):
    """What the three creating routes share: one story from the body to the answer, at once, streamed, or later."""

    billable: ClassVar[bool] = True
    scope: ClassVar[str | None] = scopes.IMAGES
    authentication_classes = (SpendingKeyAuthentication,)
    # Besides `dryRun` it reads past what stands there, as OpenAI does: other gateways' clients send `api-version`.
    reads_query = ("post",)

    @abc.abstractmethod
    def asked(self, request: Request) -> ImageRequest:
        """The request as the route's body says it. Raises errors.InvalidRequest and its kinds."""

    def post(self, request: Request) -> HttpResponseBase:
        started_s = time.monotonic()
        caller = self.caller(request)
        try:
            asked = self.asked(request)
            is_async = creating.wants_async(request.META)
            marks = replays.marks(request.META, asked, is_async=is_async)
        except errors.PixelparError:
            keys.look_again(caller, scope=scopes.IMAGES)  # a key that was revoked meanwhile is what there is to say
            raise
        if asked.dry_run:
            return api.render(outputs.dry_run(gateway.plan(keys.look_again(caller, scope=scopes.IMAGES), asked)))
        return creating.respond(
            creating.Creation(
                caller=caller,
                asked=asked,
                marks=marks,
                generation_id=request._request.id,  # type: ignore[attr-defined]
                started_s=started_s,
            )
        )


def _generation(request: Request) -> ImageRequest:
    http = request._request
    content_type = http.content_type or ""
    if content_type not in ("application/json", ""):
        raise errors.UnsupportedMediaType(
            f"images/generations takes JSON: send Content-Type: application/json, not {content_type[:60]!r}."
        )
    body = api.read_body(http)
    return inputs.generation(api.parse_object(body), _context(request, size_bytes=len(body)))


def _from_pictures(request: Request, read: Reader, *, route: str) -> ImageRequest:
    http = request._request
    with uploads.guarded(http):
        upload = uploads.read(http, route)
        if route == inputs.VARIATION and (upload.mask or upload.markup):
            raise inputs.not_of_variations("mask" if upload.mask else "markup")
        return uploads.complete(read(upload.fields, _context(request, size_bytes=upload.size_bytes)), upload)


class Generations(_Create):
    """POST images/generations."""

    def asked(self, request: Request) -> ImageRequest:
        return _generation(request)


class Edits(_Create):
    """POST images/edits."""

    def asked(self, request: Request) -> ImageRequest:
        return _from_pictures(request, inputs.edit, route=inputs.EDIT)


class Variations(_Create):
    """POST images/variations: emulated by an edit, for clients that still ask for them."""

    def asked(self, request: Request) -> ImageRequest:
        return _from_pictures(request, inputs.variation, route=inputs.VARIATION)


def _context(request: Request, *, size_bytes: int) -> inputs.Context:
    environ = request._request.META
    return inputs.Context(
        default_model=settings.DEFAULT_MODEL,
        dry_run=bool(environ.get("QUERY_STRING")) and _is_dry_run(request.query_params),
        max_cost_header=environ.get("HTTP_X_MAX_COST"),
        size_bytes=size_bytes,
    )


def _is_dry_run(asked: QueryDict) -> bool:
    """Whether the address asks for the price alone. Who asks for it twice, or in another spelling, shall not pay."""
    for name in asked:
        parameters.refuse_misspelled_guard(name)
        if name == "max_cost":
            raise errors.UnknownParameter(
                "'max_cost' goes into the body, or into the header X-Max-Cost; in the address it is not read.",
                param=name,
            )
    if (times := len(asked.getlist("dryRun"))) > 1:
        raise errors.InvalidRequest(f"'dryRun' was sent {times} times; send it once.", param="dryRun")
    return query.flag(asked, "dryRun")


class Models(ApiView):
    """GET models. What stands in the address besides is read past, as at OpenAI."""

    reads_query = ("get",)

    def get(self, request: Request) -> HttpResponse:
        snapshot = catalog.snapshot(self.caller(request).catalogue_version)
        return api.render({"object": "list", "data": listing.models(snapshot)})


class ModelDetail(ApiView):
    """GET models/{id}; the id may hold slashes, raw or as %2F."""

    reads_query = ("get",)

    def get(self, request: Request, name: str) -> HttpResponse:
        snapshot = catalog.snapshot(self.caller(request).catalogue_version)
        return api.render(listing.model(snapshot, name))


class ImageContent(ApiView):
    """GET images/{id}/content: bytes for whoever has a signed link, or a key of the image's organization.

    With a signature any Authorization header is ignored: clients send theirs along with every address of the host.
    """

    permission_classes = ()
    scope: ClassVar[str | None] = scopes.REQUESTS
    reads_query = ("get",)

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
        caller = self.caller(request)
        caller.require(scopes.REQUESTS)
        image = _find(Image.objects.filter(organization_id=caller.organization_id), word)
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
