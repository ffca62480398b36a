"""LedgerDay and LedgerMark, the journal added up by the day, and Statement, what an organization's month came to."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization


class LedgerDay(models.Model):
    """An organization's movements of one kind on one day (UTC). Written by `imagesapi.reports.ledger_days` alone."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    account = models.CharField(max_length=8)
    kind = models.CharField(max_length=24)
    # Of charges and what is credited back for them; "simulated" where nobody is paid.
    provider = models.CharField(max_length=64)
    model = models.CharField(max_length=120)
    count = models.IntegerField()
    amount_nanos = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "day", "account", "kind", "provider", "model"], name="ledger_day_once"
            ),
            models.CheckConstraint(name="ledger_day_counts", condition=Q(count__gt=0)),
        )
        indexes = (models.Index(fields=["day"], name="ledger_day_by_day"),)

    def __str__(self) -> str:
        return f"{self.day} {self.kind}: {self.amount_nanos}"


class LedgerMark(models.Model):
    """One row: the journal up to this number is added up, and with it every moment before `complete_until`."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    last_transfer = models.BigIntegerField(default=0)
    complete_until = models.DateTimeField()
    # The first month whose statements are not written yet.
    next_month = models.DateField()

    class Meta:
        constraints = (models.CheckConstraint(name="ledger_mark_is_one", condition=Q(id=1)),)

    def __str__(self) -> str:
        return f"up to {self.last_transfer}"


class Statement(models.Model):
    """A closed month of an organization: written once when the month is over, and never changed."""

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="statements", db_index=False)
    month = models.DateField()
    opening_nanos = models.BigIntegerField()
    change_nanos = models.BigIntegerField()
    closing_nanos = models.BigIntegerField()
    lines = models.JSONField()
    closed_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["organization", "month"], name="statement_once_a_month"),
            models.CheckConstraint(
                name="statement_adds_up", condition=Q(closing_nanos=F("opening_nanos") + F("change_nanos"))
            ),
            models.CheckConstraint(name="statement_of_a_month", condition=Q(month__day=1)),
        )

    def __str__(self) -> str:
        return f"{self.organization} {self.month:%Y-%m}"
