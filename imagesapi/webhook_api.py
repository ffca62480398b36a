"""`/v1/webhooks`: who is told how asynchronous requests end, and what was sent to them."""

from __future__ import annotations

import datetime as dt
from typing import Any, ClassVar

from django.http import HttpResponse
from django.views.decorators.debug import sensitive_variables
from rest_framework.request import Request

from accounts import scopes
from accounts.api import ApiView
from accounts.callers import Caller
from core import api, errors, ids, paging
from imagesapi import parameters, webhooks
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent

_FIELDS = ("url", "events", "description", "enabled")


class Webhooks(ApiView):
    """GET lists the organization's webhooks; POST makes one and shows its signing secret this once."""

    scope: ClassVar[str | None] = scopes.WEBHOOKS

    def get(self, request: Request) -> HttpResponse:
        data = [_document(endpoint) for endpoint in webhooks.of(self.caller(request).organization_id)]
        return api.render({"object": "list", "data": data})

    @sensitive_variables("secret")
    def post(self, request: Request) -> HttpResponse:
        asked = _asked(request)
        if "url" not in asked:
            raise errors.MissingParameter("'url' is required: where events are posted to.", param="url")
        asked.setdefault("events", WebhookEvent.values)
        endpoint, secret = webhooks.create(self.caller(request).organization_id, **asked)
        return api.render({**_document(endpoint), "secret": secret}, status=201)


class WebhookDetail(ApiView):
    """One webhook: GET shows it, PATCH changes what is given, DELETE ends it and forgets what was sent there."""

    scope: ClassVar[str | None] = scopes.WEBHOOKS

    def get(self, request: Request, word: str) -> HttpResponse:
        return api.render(_document(_find(self.caller(request), word)))

    def patch(self, request: Request, word: str) -> HttpResponse:
        endpoint = _find(self.caller(request), word)
        return api.render(_document(webhooks.change(endpoint, **_asked(request))))

    def delete(self, request: Request, word: str) -> HttpResponse:
        endpoint = _find(self.caller(request), word)
        webhooks.delete(endpoint)
        return api.render({"id": ids.public("whk", endpoint.pk), "object": "webhook", "deleted": True})


class WebhookSecret(ApiView):
    """POST replaces the signing secret and shows the new one this once."""

    scope: ClassVar[str | None] = scopes.WEBHOOKS

    @sensitive_variables("secret")
    def post(self, request: Request, word: str) -> HttpResponse:
        endpoint = _find(self.caller(request), word)
        secret = webhooks.rotate_secret(endpoint)
        return api.render({**_document(endpoint), "secret": secret})


class WebhookDeliveries(ApiView):
    """GET: what was sent to a webhook, newest first."""

    scope: ClassVar[str | None] = scopes.WEBHOOKS
    reads_query = ("get",)

    def get(self, request: Request, word: str) -> HttpResponse:
        endpoint = _find(self.caller(request), word)
        asked = request.query_params
        page = paging.read(
            WebhookDelivery.objects.filter(endpoint=endpoint).defer("payload"),
            asked,
            place=lambda name: ids.parse("whd", name),
            noun="a delivery, such as whd_01…",
        )
        data = [_delivery(row) for row in page.rows]
        document = paging.document(
            page, data, path=request.path, asked=asked.dict(), word=lambda row: ids.public("whd", row.pk)
        )
        return api.render(document)


class WebhookReplay(ApiView):
    """POST sends one delivery again, with the same body and a signature of now."""

    scope: ClassVar[str | None] = scopes.WEBHOOKS

    def post(self, request: Request, word: str, delivery: str) -> HttpResponse:
        endpoint = _find(self.caller(request), word)
        row_id = ids.parse("whd", delivery)
        rows = WebhookDelivery.objects.filter(endpoint=endpoint).select_related("endpoint")
        row = rows.filter(pk=row_id).first() if row_id else None
        if row is None:
            raise errors.NotFound(f"This webhook has no delivery {delivery[:40]!r}.")
        return api.render(_delivery(webhooks.replay(row)))


def _find(caller: Caller, word: str) -> WebhookEndpoint:
    endpoint_id = ids.parse("whk", word)
    found = webhooks.of(caller.organization_id).filter(pk=endpoint_id).first() if endpoint_id else None
    if found is None:
        raise errors.NotFound(f"There is no webhook {word[:40]!r}.")
    return found


def _asked(request: Request) -> dict[str, Any]:
    """What the body sets, checked; a misspelled name is refused, since its writer believes something is set."""
    body = api.read_object(request._request)
    parameters.refuse_unstorable(body)
    for name in body:
        if name not in _FIELDS:
            raise errors.UnknownParameter(
                f"{name[:60]!r} does not exist here; there are {', '.join(_FIELDS)}.", param=name[:64]
            )
    asked = {name: value for name, value in body.items() if value is not None}
    read = {"url": _text, "events": _events, "description": _text, "enabled": parameters.boolean}
    return {name: read[name](asked, name) for name in asked}


def _text(asked: dict[str, Any], name: str) -> str:
    most_chars = {"url": webhooks.URL_MAX_CHARS, "description": webhooks.DESCRIPTION_MAX_CHARS}[name]
    return parameters.text(asked, name, max_chars=most_chars) or ""


def _events(asked: dict[str, Any], name: str) -> list[str]:
    value = asked[name]
    if not isinstance(value, list):
        raise parameters.wrong_type(name, value, "an array of event names")
    if not value or any(not isinstance(event, str) or event not in WebhookEvent.values for event in value):
        allowed = ", ".join(WebhookEvent.values)
        raise errors.InvalidRequest(f"'events' must hold one or more of {allowed}.", param=name)
    return sorted(set(value))


def _document(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {
        "id": ids.public("whk", endpoint.pk),
        "object": "webhook",
        "url": endpoint.url,
        "events": endpoint.events,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "disabled_reason": endpoint.disabled_reason or None,
        "created_at": _seconds(endpoint.created_at),
    }


def _delivery(row: WebhookDelivery) -> dict[str, Any]:
    return {
        "id": ids.public("whd", row.pk),
        "object": "webhook_delivery",
        "event_id": ids.public("evt", row.event_id),
        "event_type": row.event_type,
        "request_id": ids.public("req", row.generation_id) if row.generation_id else None,
        "status": row.status,
        "tries": row.tries,
        "next_try_at": _seconds(row.next_try_at),
        "last_status": row.last_status,
        "last_error": row.last_error or None,
        "last_duration_ms": row.last_duration_ms,
        "created_at": _seconds(row.created_at),
        "delivered_at": _seconds(row.delivered_at),
    }


def _seconds(moment: dt.datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
