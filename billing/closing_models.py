"""Closing: how an organization left, and its final statement, which is kept."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Organization


class Closing(models.Model):
    """One organization's end: frozen when the row is made, settled when its money is dealt with, then emptied."""

    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="closing")
    # Who asked for it, as the operator's record; blank for a command.
    asked_by = models.CharField(max_length=254, blank=True, default="")
    # The owners' addresses, until the statement has gone out to them.
    mail_to = ArrayField(models.CharField(max_length=254), default=list, blank=True)
    frozen_at = models.DateTimeField(db_default=Now())
    settled_at = models.DateTimeField(null=True)
    emptied_at = models.DateTimeField(null=True)
    # Whoever works on it, so that nothing is paid back by two at once; who died is waited for no longer than a while.
    claimed_at = models.DateTimeField(null=True)
    # The wallet when it was frozen.
    wallet_nanos = models.BigIntegerField(default=0)
    expired_nanos = models.BigIntegerField(default=0)
    refunded_nanos = models.BigIntegerField(default=0)
    # What could not be paid back and stays in the wallet until the operator pays it out.
    owed_nanos = models.BigIntegerField(default=0)
    written_off_nanos = models.BigIntegerField(default=0)
    statement = models.JSONField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="closing_amounts_not_negative",
                condition=Q(expired_nanos__gte=0, refunded_nanos__gte=0, owed_nanos__gte=0, written_off_nanos__gte=0),
            ),
            models.CheckConstraint(
                name="closing_has_its_statement_when_settled",
                condition=Q(settled_at__isnull=True, statement__isnull=True)
                | Q(settled_at__isnull=False, statement__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"closing of {self.organization_id}"
