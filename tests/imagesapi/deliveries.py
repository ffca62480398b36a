"""Webhooks for tests: an endpoint, a request that is over, its delivery, and the worker's jobs without a worker."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.db.models.functions import Now
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob

from accounts.models import Organization
from imagesapi import webhook_sending, webhooks
from imagesapi.models import Generation
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint, WebhookEvent
from tests.sites import Site


def make(organization: Organization, site: Site, **more: Any) -> tuple[WebhookEndpoint, str]:
    """An endpoint at this site that hears of everything, and its secret."""
    fields = {"url": f"{site.url}/hook?token=hidden-in-the-address", "events": WebhookEvent.values, **more}
    return webhooks.create(organization.pk, **fields)


def ended(organization: Organization, status: str = "completed", **more: Any) -> Generation:
    """An asynchronous request that is over."""
    fields: dict[str, Any] = {
        "endpoint": "images/generations",
        "model": "gpt-image-1",
        "asked": {},
        "metadata": {"order": "Ünïcode \u2028 17"},
        "is_async": True,
        "finished_at": timezone.now(),
        "cost_nanos": 42_000_000 if status == "completed" else None,
        "error_code": "" if status == "completed" else "all_providers_failed",
    }
    return Generation.objects.create(organization=organization, status=status, **{**fields, **more})


def told(organization: Organization, status: str = "completed") -> WebhookDelivery:
    """The delivery that announcing such a request makes."""
    row = ended(organization, status)
    assert webhooks.announce(row.pk) == 1
    return WebhookDelivery.objects.get(generation=row)


def jobs() -> list[ProcrastinateJob]:
    return list(ProcrastinateJob.objects.filter(task_name=webhook_sending.TASK, status="todo").order_by("id"))


def run_jobs() -> None:
    """What the worker does with the jobs whose moment has come; they are done afterwards."""
    for job in jobs():
        if job.scheduled_at is None or job.scheduled_at <= timezone.now():
            with connection.cursor() as cursor:
                cursor.execute("DELETE FROM procrastinate_jobs WHERE id = %s", [job.id])
            app.tasks[job.task_name].func(**job.args)


def come_due(delivery: WebhookDelivery) -> None:
    """As if the time until its next try had passed."""
    WebhookDelivery.objects.filter(pk=delivery.pk, status="pending").update(next_try_at=Now())
