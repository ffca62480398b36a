"""What providers billed, what was booked because of it, and how both compare by the day."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization


class BillLine(models.Model):
    """One line of a provider's bill as it was told. Append-only: a line that is told anew is a new revision."""

    provider = models.CharField(max_length=64)
    # Which of imagesapi.bills read it, and what the provider knows the line by.
    source = models.CharField(max_length=24)
    source_key = models.CharField(max_length=200)
    revision = models.SmallIntegerField(default=1)
    day = models.DateField()
    # Ours; blank where the line names nothing that is offered here.
    model = models.CharField(max_length=120, blank=True)
    line_item = models.CharField(max_length=200, blank=True)
    provider_request_id = models.CharField(max_length=200, blank=True, default="", db_default="")
    amount_nanos = models.BigIntegerField()
    # As the provider wrote it, before it was rounded to the nano.
    told = models.CharField(max_length=64)
    imported_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["provider", "source", "source_key", "revision"], name="bill_line_once_per_revision"
            ),
            models.CheckConstraint(name="bill_line_revision_positive", condition=Q(revision__gt=0)),
        )
        indexes = (models.Index(fields=["provider", "day"], name="bill_line_by_day"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.day} {self.line_item}: {self.amount_nanos}"


class BillDay(models.Model):
    """A day that a provider's bill covers, also when it holds nothing: what is not on the bill of such a day was not
    billed. A day has one source, since the same cost read twice would count twice."""

    provider = models.CharField(max_length=64)
    day = models.DateField()
    source = models.CharField(max_length=24)
    imported_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.UniqueConstraint(fields=["provider", "day"], name="bill_day_once"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.day}"


class BillAdjustment(models.Model):
    """One movement that a bill led to; its id is the reference of the ledger's transfer. Append-only."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    day = models.DateField()
    # A kind of the ledger: true_up, true_up_promo, bill_absorbed, bill_credited.
    kind = models.CharField(max_length=24)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, null=True, related_name="+")
    amount_nanos = models.BigIntegerField()
    # rounding, unknown, undercharge, overcharge.
    reason = models.CharField(max_length=16)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(name="bill_adjustment_positive", condition=Q(amount_nanos__gt=0)),
            models.CheckConstraint(
                name="bill_adjustment_of_an_organization_or_the_platform",
                condition=Q(kind__in=["true_up", "true_up_promo"], organization__isnull=False)
                | Q(kind__in=["bill_absorbed", "bill_credited"], organization__isnull=True),
            ),
            models.CheckConstraint(
                name="bill_adjustment_reason_known",
                condition=Q(reason__in=["rounding", "unknown", "undercharge", "overcharge"]),
            ),
        )
        indexes = (models.Index(fields=["provider", "day"], name="bill_adjustment_by_day"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.day} {self.kind} {self.amount_nanos}"


class Reconciliation(models.Model):
    """One comparison of bills with the ledger, and what it left for people to look at."""

    first = models.DateField()
    last = models.DateField()
    providers = models.JSONField()
    booked = models.IntegerField()
    closed_attempts = models.IntegerField()
    unexplained_nanos = models.BigIntegerField()
    # Cells that are unexplained, or where the bill disagrees with the price list.
    findings = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.first} to {self.last}: {self.unexplained_nanos} unexplained"


class ProviderDay(models.Model):
    """What was charged, carried, credited and billed for one model at one provider on one day of sending (UTC)."""

    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    day = models.DateField()
    calls = models.IntegerField(default=0)
    charged_wallet_nanos = models.BigIntegerField(default=0)
    charged_promo_nanos = models.BigIntegerField(default=0)
    # By settlements and voids, then by what the bill said.
    absorbed_nanos = models.BigIntegerField(default=0)
    bill_absorbed_nanos = models.BigIntegerField(default=0)
    bill_credited_nanos = models.BigIntegerField(default=0)
    true_up_nanos = models.BigIntegerField(default=0)
    true_up_promo_nanos = models.BigIntegerField(default=0)
    # Null until the provider's bill covers the day.
    billed_nanos = models.BigIntegerField(null=True)
    unknown_attempts = models.IntegerField(default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["provider", "model", "day"], name="provider_day_once"),
            models.CheckConstraint(
                name="provider_day_credits_no_more_than_it_charged",
                condition=Q(true_up_nanos__lte=F("charged_wallet_nanos"))
                & Q(true_up_promo_nanos__lte=F("charged_promo_nanos")),
            ),
        )
        indexes = (models.Index(fields=["-day"], name="provider_day_by_day"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.model} {self.day}"
