"""Who wants to be told how asynchronous requests end and budgets stand (WebhookEndpoint), and each telling."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Organization
from core import ids


class WebhookEvent(models.TextChoices):
    """How an asynchronous request can end, and what else is told."""

    COMPLETED = "request.completed"
    FAILED = "request.failed"
    CANCELLED = "request.cancelled"
    BUDGET = "budget.threshold_reached"


class WebhookEndpoint(models.Model):
    """An address of an organization's to which events are posted, with the secret that signs them."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="webhook_endpoints", db_index=False
    )
    url = models.CharField(max_length=2048)
    events = ArrayField(models.CharField(max_length=32, choices=WebhookEvent.choices))
    description = models.CharField(max_length=200, blank=True, default="")
    sealed = models.BinaryField()
    enabled = models.BooleanField(default=True)
    # Why we switched it off; blank when its owner did, or nobody.
    disabled_reason = models.CharField(max_length=300, blank=True, default="")
    # Since when nothing has arrived; cleared by every success.
    failing_since = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="webhook_endpoint_events_known",
                condition=Q(events__contained_by=WebhookEvent.values) & ~Q(events=[]),
            ),
            models.CheckConstraint(
                name="webhook_endpoint_reason_when_disabled", condition=Q(enabled=False) | Q(disabled_reason="")
            ),
        )
        indexes = (models.Index(fields=["organization", "-id"], name="webhook_by_organization"),)

    def __str__(self) -> str:
        return ids.public("whk", self.id)


class DeliveryStatus(models.TextChoices):
    """How one telling stands."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookDelivery(models.Model):
    """One event on its way to one endpoint."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    # The same for every endpoint that is told: by it a receiver knows what it has already seen.
    event_id = models.UUIDField()
    event_type = models.CharField(max_length=32, choices=WebhookEvent.choices)
    # None for what is no request's.
    generation = models.ForeignKey(
        "imagesapi.Generation", on_delete=models.CASCADE, null=True, related_name="webhook_deliveries"
    )
    # Written once, sent byte for byte: every try carries the same body under a signature of its own.
    payload = models.TextField()
    status = models.CharField(max_length=16, choices=DeliveryStatus.choices, default=DeliveryStatus.PENDING)
    tries = models.SmallIntegerField(default=0)
    # Of a pending one: not before this moment. While it is being tried, when somebody else may try it.
    next_try_at = models.DateTimeField(null=True)
    last_status = models.SmallIntegerField(null=True)
    last_error = models.CharField(max_length=300, blank=True, default="")
    last_duration_ms = models.IntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["endpoint", "event_id"], name="webhook_delivery_once_per_event"),
            models.CheckConstraint(name="webhook_delivery_status_known", condition=Q(status__in=DeliveryStatus.values)),
            models.CheckConstraint(
                name="webhook_delivery_event_known", condition=Q(event_type__in=WebhookEvent.values)
            ),
            models.CheckConstraint(
                name="webhook_delivery_tried_again_when_pending",
                condition=Q(status="pending", next_try_at__isnull=False)
                | (~Q(status="pending") & Q(next_try_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="webhook_delivery_time_when_delivered",
                condition=Q(status="delivered", delivered_at__isnull=False)
                | (~Q(status="delivered") & Q(delivered_at__isnull=True)),
            ),
        )
        indexes = (
            models.Index(fields=["endpoint", "-id"], name="webhook_delivery_by_endpoint"),
            models.Index(fields=["next_try_at"], name="webhook_delivery_due", condition=Q(status="pending")),
        )

    def __str__(self) -> str:
        return ids.public("whd", self.id)
