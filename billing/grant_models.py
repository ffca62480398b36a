"""Grant: promotional credit in lots, so that what is spent first and what expires can be told apart."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization


class Grant(models.Model):
    """One lot of promo: what a transfer brought, and what became of it. Written by the migrations' SQL functions.

    What settled requests spent is attributed to lots when a lot is added, expires or is read, not when it is charged:
    `spent_nanos` may lag behind the journal, and never runs ahead of it.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="grants", db_index=False)
    transfer = models.OneToOneField("billing.Transfer", on_delete=models.PROTECT, related_name="grant")
    amount_nanos = models.BigIntegerField()
    spent_nanos = models.BigIntegerField(default=0, db_default=0)
    expired_nanos = models.BigIntegerField(default=0, db_default=0)
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="grant_never_used_above_itself",
                condition=Q(spent_nanos__gte=0, expired_nanos__gte=0)
                & Q(amount_nanos__gte=F("spent_nanos") + F("expired_nanos")),
            ),
        )
        indexes = (
            models.Index(
                fields=["organization"],
                name="grant_of_which_some_is_left",
                condition=Q(amount_nanos__gt=F("spent_nanos") + F("expired_nanos")),
            ),
            models.Index(
                fields=["expires_at"],
                name="grant_to_expire",
                condition=Q(expires_at__isnull=False) & Q(amount_nanos__gt=F("spent_nanos") + F("expired_nanos")),
            ),
        )

    def __str__(self) -> str:
        return f"{self.amount_nanos} to {self.organization_id}"
