"""BudgetAlert: that a budget's use passed a threshold, told once for each window."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from core import ids


class BudgetAlert(models.Model):
    """One telling; the row itself is what makes it happen once."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    limit = models.ForeignKey("billing.Limit", on_delete=models.CASCADE, related_name="alerts", db_index=False)
    starts_at = models.DateTimeField()
    threshold_percent = models.SmallIntegerField()
    cap_nanos = models.BigIntegerField()
    used_nanos = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now())
    # When mail went out; whoever sends it sets this first.
    mailed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["limit", "starts_at", "threshold_percent"], name="budget_alert_once_per_window"
            ),
            models.CheckConstraint(name="budget_alert_threshold_known", condition=Q(threshold_percent__in=[80, 100])),
        )

    def __str__(self) -> str:
        return f"{self.limit_id} at {self.threshold_percent} %"
