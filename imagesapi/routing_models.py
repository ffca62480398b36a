"""What routing keeps: which offers rest, how each did lately, and the provider keys that organizations brought."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Organization
from core import ids


class Breaker(models.Model):
    """An offer that failed too often: open until a time, then half open for one probe; no row while it is well."""

    offer = models.OneToOneField("imagesapi.Offer", on_delete=models.CASCADE, related_name="breaker")
    state = models.CharField(max_length=16, default="open", db_default="open")
    opened_at = models.DateTimeField(db_default=Now())
    open_until = models.DateTimeField()
    # While somebody's probe is on its way; past it the prober is presumed dead.
    probe_until = models.DateTimeField(null=True)
    reason = models.CharField(max_length=200, default="", db_default="")

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="breaker_probes_when_half_open",
                condition=Q(state="open", probe_until__isnull=True) | Q(state="half_open", probe_until__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.offer} {self.state} until {self.open_until}"


class OfferHealth(models.Model):
    """How an offer did lately, by our own attempts; measured anew each minute."""

    offer = models.OneToOneField("imagesapi.Offer", on_delete=models.CASCADE, related_name="health")
    calls = models.IntegerField()
    failures = models.IntegerField()
    p50_ms = models.IntegerField(null=True)
    p95_ms = models.IntegerField(null=True)
    measured_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(name="offer_health_adds_up", condition=Q(failures__gte=0, calls__gte=1)),
            models.CheckConstraint(
                name="offer_health_failures_are_calls", condition=Q(failures__lte=models.F("calls"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.offer}: {self.failures} of {self.calls} failed"


class OwnProviderKey(models.Model):
    """A provider's key that an organization brought, encrypted; requests that use it are charged nothing here."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="own_provider_keys", db_index=False
    )
    provider = models.ForeignKey("imagesapi.Provider", on_delete=models.CASCADE, related_name="own_keys")
    # Which of the adapter's secret settings this is.
    name = models.CharField(max_length=64)
    sealed = models.BinaryField()
    last_four = models.CharField(max_length=4)
    # Whether others serve the request, at their price, when this key cannot.
    fallback = models.BooleanField(default=True, db_default=True)
    enabled = models.BooleanField(default=True, db_default=True)
    created_at = models.DateTimeField(db_default=Now())
    changed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["organization", "provider", "name"], name="own_provider_key_once"),
        )

    def __str__(self) -> str:
        return ids.public("pky", self.id)
