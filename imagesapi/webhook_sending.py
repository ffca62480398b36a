"""One try to deliver one event: claimed, signed, posted, and its outcome written down with when to try again."""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import time
import uuid
from dataclasses import dataclass

import structlog
from django.db import transaction
from django.db.models import F
from django.db.models.functions import Now
from django.views.decorators.debug import sensitive_variables
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued
from standardwebhooks import Webhook

from core import crypto, http, ids, outside, sql
from imagesapi.webhook_models import DeliveryStatus, WebhookDelivery, WebhookEndpoint

log = structlog.get_logger(__name__)

TASK = "imagesapi.deliver_webhook"
QUEUE = "webhooks"
TIMEOUT_S = 10
REPLY_MAX_BYTES = 64 * 1024
# How long to wait after the first, second, third… try; after the last of them it has failed.
BACKOFF_S = (5, 30, 2 * 60, 10 * 60, 60 * 60, 6 * 60 * 60, 24 * 60 * 60)
_JITTER_PERCENT = 20
# Whoever claimed a try and died no longer keeps others from it after this.
_CLAIMED_FOR = dt.timedelta(seconds=60)
DISABLED_AFTER = dt.timedelta(days=5)

_FAILURES: dict[type[http.CallError], str] = {
    http.NotSent: "No connection: the host was not found, refused it, or has no valid certificate.",
    http.Broken: "The connection ended before a complete answer.",
    http.Late: f"There was no complete answer within {TIMEOUT_S} seconds.",
    http.TooLarge: f"The answer was larger than {REPLY_MAX_BYTES // 1024} KiB.",
}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a try ended; without an error it is delivered, with a final one it is not tried again."""

    duration_ms: int
    status: int | None = None
    error: str = ""
    final: bool = False


def sealed_row(endpoint_id: uuid.UUID) -> str:
    """What an endpoint's secret is bound to, so that it opens in its own row only."""
    return f"webhookendpoint:{endpoint_id}"


def enqueue(delivery_id: uuid.UUID, *, tries: int, at: dt.datetime | None = None) -> None:
    """A job for the next try, now or at a moment; in the caller's transaction, and never a second one like it."""
    lock = f"webhook/{delivery_id}/{tries}{'' if at else '/now'}"
    with contextlib.suppress(AlreadyEnqueued), transaction.atomic():
        job = app.configure_task(TASK, queue=QUEUE, queueing_lock=lock, schedule_at=at)
        job.defer(delivery_id=str(delivery_id))


def deliver(delivery_id: uuid.UUID) -> None:
    """Try it once, if it is due and nobody else is at it. No database connection is held while the receiver works."""
    delivery = _claim(delivery_id)
    sql.give_back()
    if delivery is None:
        return
    outcome = _try(delivery)
    with transaction.atomic():
        _record(delivery, outcome)
    sql.give_back()
    if outcome.error:
        # Its address may hold a secret of the receiver's, so the id stands for it.
        log.info("webhook not delivered", webhook=str(delivery.endpoint), tries=delivery.tries, why=outcome.error)


def _claim(delivery_id: uuid.UUID) -> WebhookDelivery | None:
    due = WebhookDelivery.objects.filter(pk=delivery_id, status=DeliveryStatus.PENDING, next_try_at__lte=Now())
    if not due.update(tries=F("tries") + 1, next_try_at=Now() + _CLAIMED_FOR):
        return None
    return WebhookDelivery.objects.select_related("endpoint").filter(pk=delivery_id).first()


def _try(delivery: WebhookDelivery) -> _Outcome:
    if not delivery.endpoint.enabled:
        return _Outcome(0, error="The webhook is disabled.", final=True)
    try:
        headers = _headers(delivery)
    except ValueError:
        log.exception("a webhook's secret cannot be read", webhook=str(delivery.endpoint))
        return _Outcome(0, error="The signing secret can no longer be read: rotate it, then replay.", final=True)
    started_s = time.monotonic()
    status, error, final = None, "", False
    try:
        status = outside.post(
            delivery.endpoint.url,
            deadline=started_s + TIMEOUT_S,
            max_bytes=REPLY_MAX_BYTES,
            headers=headers,
            body=delivery.payload.encode(),
        ).status
        error = _judge(status)
    except outside.Refused as refused:
        error, final = refused.message, True
    except http.CallError as failed:
        error = _FAILURES[type(failed)]
    return _Outcome(round((time.monotonic() - started_s) * 1000), status, error, final)


def _judge(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return f"The receiver answered {status}{'; redirects are not followed' if 300 <= status < 400 else ''}."


@sensitive_variables("secret")
def _headers(delivery: WebhookDelivery) -> dict[str, str]:
    """By the Standard Webhooks rules; timestamp and signature are of this try. Raises ValueError for a lost secret."""
    secret = crypto.decrypt(bytes(delivery.endpoint.sealed), row=sealed_row(delivery.endpoint_id))
    now, event = dt.datetime.now(dt.UTC), ids.public("evt", delivery.event_id)
    return {
        "Content-Type": "application/json",
        "webhook-id": event,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(event, now, delivery.payload),
    }


def _record(delivery: WebhookDelivery, outcome: _Outcome) -> None:
    """Only the outcome of the latest try counts: whoever took longer than its claim finds another number."""
    endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).filter(pk=delivery.endpoint_id).first()
    mine = WebhookDelivery.objects.filter(pk=delivery.pk, status=DeliveryStatus.PENDING, tries=delivery.tries)
    facts = {
        "last_status": outcome.status,
        "last_error": outcome.error[:300],
        "last_duration_ms": outcome.duration_ms,
    }
    if not outcome.error:
        done = mine.update(status=DeliveryStatus.DELIVERED, delivered_at=Now(), next_try_at=None, **facts)
    elif outcome.final or delivery.tries > len(BACKOFF_S):
        done = mine.update(status=DeliveryStatus.FAILED, next_try_at=None, **facts)
    else:
        done = mine.update(next_try_at=Now() + _wait(delivery.tries), **facts)
        if done:
            enqueue(delivery.pk, tries=delivery.tries, at=mine.values_list("next_try_at", flat=True).get())
    if done and endpoint is not None and endpoint.enabled:
        _count(endpoint, arrived=not outcome.error)


def _wait(tries: int) -> dt.timedelta:
    """Never less than promised, and not the same for all who failed together."""
    base_s = BACKOFF_S[tries - 1]
    return dt.timedelta(seconds=base_s * (1 + secrets.randbelow(_JITTER_PERCENT * 10) / 1000))


def _count(endpoint: WebhookEndpoint, *, arrived: bool) -> None:
    ours = WebhookEndpoint.objects.filter(pk=endpoint.pk)
    if arrived:
        if endpoint.failing_since is not None:
            ours.update(failing_since=None)
        return
    if endpoint.failing_since is None:
        ours.update(failing_since=Now())
        return
    reason = f"Nothing arrived there for {DISABLED_AFTER.days} days, so it was disabled."
    if ours.filter(failing_since__lte=Now() - DISABLED_AFTER).update(enabled=False, disabled_reason=reason):
        end_pending(endpoint, reason)
        log.warning("webhook disabled", webhook=str(endpoint))


def end_pending(endpoint: WebhookEndpoint, reason: str) -> None:
    """What is on its way to an endpoint has failed; it can be replayed later."""
    pending = WebhookDelivery.objects.filter(endpoint=endpoint, status=DeliveryStatus.PENDING)
    pending.update(status=DeliveryStatus.FAILED, next_try_at=None, last_error=reason[:300])
