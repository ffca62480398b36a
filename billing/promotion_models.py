"""SignupCredit and DailyCount: who had credit for signing up, and what was counted in a day."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Organization


class SignupCredit(models.Model):
    """One mailbox that had its credit. It is kept as a keyed hash, and outlives the account: the credit was given."""

    mailbox_hash = models.BinaryField(max_length=32, unique=True)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    amount_nanos = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (models.CheckConstraint(name="signup_credit_positive", condition=Q(amount_nanos__gt=0)),)

    def __str__(self) -> str:
        return f"{self.amount_nanos} to {self.organization_id}"


class DailyCount(models.Model):
    """How much of something was taken on one day in UTC; raised only by the SQL function `count_daily`."""

    name = models.CharField(max_length=100)
    day = models.DateField()
    used = models.BigIntegerField(db_default=0, default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["day", "name"], name="daily_count_once"),
            models.CheckConstraint(name="daily_count_not_negative", condition=Q(used__gte=0)),
        )

    def __str__(self) -> str:
        return f"{self.name} on {self.day}: {self.used}"
