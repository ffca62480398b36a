"""UsageHour and UsageMark: what was used, added up by the hour, so that no sum ever walks through a whole history."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from accounts.models import ApiKey, Organization


class UsageHour(models.Model):
    """What one key made with one model at one provider in one hour. Written by `imagesapi.usage` alone."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField()
    # A sum outlives its key; whole hours are rewritten, and nothing else is ever looked up by it.
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.DO_NOTHING, null=True, related_name="+", db_index=False, db_constraint=False
    )
    model = models.CharField(max_length=120)
    # Blank where the request was never sent, or is still under way.
    provider = models.CharField(max_length=64)
    requests = models.IntegerField()
    completed = models.IntegerField()
    failed = models.IntegerField()
    images = models.IntegerField()
    cost_nanos = models.BigIntegerField()

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "hour", "api_key", "model", "provider"],
                name="usage_hour_once",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="usage_hour_adds_up",
                condition=Q(
                    requests__gt=0,
                    completed__gte=0,
                    failed__gte=0,
                    images__gte=0,
                    cost_nanos__gte=0,
                    requests__gte=F("completed") + F("failed"),
                ),
            ),
        )
        indexes = (
            # Hours with requests that were still under way when they were added up: they are added up again.
            models.Index(
                fields=["hour"], name="usage_hour_unfinished", condition=Q(requests__gt=F("completed") + F("failed"))
            ),
        )

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}h {self.model}: {self.requests}"


class UsageMark(models.Model):
    """One row: the hours before it are added up; what came since is counted request by request."""

    id = models.SmallIntegerField(primary_key=True, default=1)
    rolled_up_to = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(name="usage_mark_is_one", condition=Q(id=1)),)

    def __str__(self) -> str:
        return f"{self.rolled_up_to:%Y-%m-%d %H}h"
