"""Webhooks: who is told, what they are told, and that every ended asynchronous request is announced exactly once."""

from __future__ import annotations

import base64
import datetime as dt
import secrets
import time
import uuid
from collections.abc import Sequence
from typing import Any

import orjson
import structlog
from django.db import transaction
from django.db.models import Case, F, QuerySet, Value, When
from django.db.models.functions import Now
from django.dispatch import receiver
from django.views.decorators.debug import sensitive_variables

from accounts.models import Organization
from billing import signals
from core import crypto, errors, ids, outside, sql
from imagesapi import history, webhook_sending
from imagesapi.models import Generation, GenerationStatus
from imagesapi.webhook_models import DeliveryStatus, WebhookDelivery, WebhookEndpoint, WebhookEvent

log = structlog.get_logger(__name__)

ENDPOINTS_MAX = 20
URL_MAX_CHARS = 2_048
DESCRIPTION_MAX_CHARS = 200
KEPT_FOR = dt.timedelta(days=30)
_SECRET_BYTES = 32
# A job is looked for this long after its moment before a new one is made.
_OVERDUE_AFTER = dt.timedelta(minutes=1)
_BATCH = 200

_EVENTS = {
    GenerationStatus.COMPLETED: WebhookEvent.COMPLETED,
    GenerationStatus.UPSTREAM_FAILURE: WebhookEvent.FAILED,
    GenerationStatus.REJECTED: WebhookEvent.FAILED,
    GenerationStatus.CANCELLED: WebhookEvent.CANCELLED,
}


# --- who is told ------------------------------------------------------------------------------------------------------


def of(organization_id: int) -> QuerySet[WebhookEndpoint]:
    """An organization's endpoints, newest first."""
    return WebhookEndpoint.objects.filter(organization_id=organization_id).order_by("-pk")


@sensitive_variables("secret")
def create(
    organization_id: int, *, url: str, events: Sequence[str], description: str = "", enabled: bool = True
) -> tuple[WebhookEndpoint, str]:
    """A new endpoint and its signing secret, which is shown this once.

    Raises InvalidRequest for an address that may not be called, and for one endpoint too many.
    """
    _check(url)
    endpoint = WebhookEndpoint(
        organization_id=organization_id, url=url, events=list(events), description=description, enabled=enabled
    )
    secret = _seal(endpoint)
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization_id)  # one after the other
        if of(organization_id).count() >= ENDPOINTS_MAX:
            raise errors.InvalidRequest(
                f"An organization has at most {ENDPOINTS_MAX} webhooks: delete one first.", param="url"
            )
        endpoint.save(force_insert=True)
    endpoint.refresh_from_db()
    return endpoint, secret


def change(endpoint: WebhookEndpoint, **fields: Any) -> WebhookEndpoint:
    """Set url, events, description or enabled. What is on its way to one that is disabled ends there; one that is
    enabled begins anew. Raises InvalidRequest for an address that may not be called."""
    if "url" in fields:
        _check(fields["url"])
    if fields.get("enabled"):
        fields |= {"disabled_reason": "", "failing_since": None}
    with transaction.atomic():
        found = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=endpoint.pk).first()
        if found is None:
            raise _gone()
        for name, value in fields.items():
            setattr(found, name, value)
        found.save(update_fields=list(fields))
        if not found.enabled:
            webhook_sending.end_pending(found, "The webhook was disabled.")
    return found


@sensitive_variables("secret")
def rotate_secret(endpoint: WebhookEndpoint) -> str:
    """A new signing secret, shown this once; the next try of every delivery is signed with it."""
    secret = _seal(endpoint)
    if not WebhookEndpoint.objects.filter(pk=endpoint.pk).update(sealed=endpoint.sealed):
        raise _gone()
    return secret


def delete(endpoint: WebhookEndpoint) -> None:
    """With everything that was on its way there, and the record of what was sent."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk).delete()


def _gone() -> errors.NotFound:
    return errors.NotFound("This webhook was deleted just now.")


def _check(url: str) -> None:
    try:
        if len(url) > URL_MAX_CHARS:
            raise errors.InvalidRequest(f"'url' may have {URL_MAX_CHARS} characters.", param="url")
        outside.check(url)
    except outside.Refused as refused:
        raise errors.InvalidRequest(f"'url' cannot be used. {refused.message}", param="url") from refused


@sensitive_variables("secret")
def _seal(endpoint: WebhookEndpoint) -> str:
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"
    endpoint.sealed = crypto.encrypt(secret, row=webhook_sending.sealed_row(endpoint.pk))
    return secret


# --- what they are told -----------------------------------------------------------------------------------------------


def announce(generation_id: uuid.UUID) -> int:
    """Write down a delivery for every endpoint that wants to know how this request ended, and send them soon.

    Happens once, whoever calls it and however often: nothing for requests that are not asynchronous, not over, or
    announced already. Returns how many deliveries there are.
    """
    try:
        with transaction.atomic():
            return _announce(generation_id)
    finally:
        sql.give_back()


def _announce(generation_id: uuid.UUID) -> int:
    ended = Generation.objects.filter(pk=generation_id, is_async=True, finished_at__isnull=False)
    if not ended.filter(announced_at=None).update(announced_at=Now()):
        return 0
    row = Generation.objects.select_related("api_key").get(pk=generation_id)
    event = _EVENTS[GenerationStatus(row.status)]
    event_id = ids.new()
    payload = _payload(event_id, event, history.item(row), created_at_s=int(time.time()))
    return _tell(row.organization_id, event_id, event, payload=payload, generation=row)


@receiver(signals.budget_reached)
def announce_budget(sender: Any, *, organization_id: int, event_id: uuid.UUID, data: dict[str, Any], **_: Any) -> None:
    """A budget has passed a threshold; what is written down is of the transaction that notes it, so once and surely."""
    payload = _payload(event_id, WebhookEvent.BUDGET, data, created_at_s=int(time.time()))
    _tell(organization_id, event_id, WebhookEvent.BUDGET, payload=payload)


def _tell(
    organization_id: int, event_id: uuid.UUID, event: str, *, payload: str, generation: Generation | None = None
) -> int:
    deliveries = [
        WebhookDelivery(
            endpoint=endpoint,
            organization_id=organization_id,
            event_id=event_id,
            event_type=event,
            generation=generation,
            payload=payload,
            next_try_at=Now(),
        )
        for endpoint in of(organization_id).filter(enabled=True, events__contains=[event])
    ]
    WebhookDelivery.objects.bulk_create(deliveries)
    for delivery in deliveries:
        webhook_sending.enqueue(delivery.pk, tries=0)
    return len(deliveries)


def _payload(event_id: uuid.UUID, event: str, data: dict[str, Any], *, created_at_s: int) -> str:
    return orjson.dumps(
        {"id": ids.public("evt", event_id), "type": event, "created_at": created_at_s, "data": data}
    ).decode()


def announce_pending(limit: int = _BATCH) -> int:
    """What ended and was not announced, because somebody died in between; the oldest first. Returns how many."""
    waiting = Generation.objects.filter(is_async=True, finished_at__isnull=False, announced_at=None)
    found = list(waiting.order_by("finished_at").values_list("pk", flat=True)[:limit])
    for generation_id in found:
        try:
            announce(generation_id)
        except Exception:  # one that cannot be announced must not keep the others waiting
            log.exception("a request could not be announced; trying again", generation=str(generation_id))
    return len(found)


def redeliver_due(limit: int = _BATCH) -> int:
    """Deliveries whose moment has passed and whose job was lost, or cannot keep up; returns how many."""
    overdue = WebhookDelivery.objects.filter(status=DeliveryStatus.PENDING, next_try_at__lt=Now() - _OVERDUE_AFTER)
    found = list(overdue.order_by("next_try_at").values_list("pk", "tries")[:limit])
    for delivery_id, tries in found:
        webhook_sending.enqueue(delivery_id, tries=tries)
    sql.give_back()
    return len(found)


def replay(delivery: WebhookDelivery) -> WebhookDelivery:
    """Send it again, now, with all its tries before it; one that is on its way is hurried. Raises InvalidRequest."""
    if not delivery.endpoint.enabled:
        raise errors.InvalidRequest("This webhook is disabled: set 'enabled' to true first, then replay.")
    with transaction.atomic():
        found = WebhookDelivery.objects.filter(pk=delivery.pk).update(
            tries=Case(When(status=DeliveryStatus.PENDING, then=F("tries")), default=Value(0)),
            status=DeliveryStatus.PENDING,
            next_try_at=Now(),
            delivered_at=None,
        )
        if not found:
            raise _gone()
        delivery.refresh_from_db()
        webhook_sending.enqueue(delivery.pk, tries=delivery.tries)
    return delivery


def forget(generation_id: uuid.UUID) -> None:
    """After a request was purged: what its deliveries carry is told anew from what is left of it."""
    row = Generation.objects.select_related("api_key").get(pk=generation_id)
    for delivery in WebhookDelivery.objects.filter(generation=row):
        created_at_s = int(delivery.created_at.timestamp())
        payload = _payload(delivery.event_id, delivery.event_type, history.item(row), created_at_s=created_at_s)
        WebhookDelivery.objects.filter(pk=delivery.pk).update(payload=payload)


def drop_old() -> int:
    """The record of what was sent is kept for a month; returns how many deliveries were dropped."""
    old = WebhookDelivery.objects.exclude(status=DeliveryStatus.PENDING).filter(created_at__lt=Now() - KEPT_FOR)
    return old.delete()[0]
