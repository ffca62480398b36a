"""`manage.py grant_credit ORG DOLLARS --reason R`: promotional credit by an operator."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import organizations
from billing import ledger
from core import ids, money

_MAX_DAYS = 3650
_REASON_MAX_CHARS = 200


class Command(BaseCommand):
    help = "Give an organization promotional credit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        parser.add_argument("dollars", metavar="DOLLARS", help="a decimal amount, such as 5 or 2.50")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--expires-in-days", type=int, metavar="N", help="what is not spent by then expires")
        parser.add_argument("--reference", type=uuid.UUID, help="a UUID; the same one is booked only once")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"there is no organization {options['organization']!r}")
        if organization.closed_at is not None:
            raise CommandError(f"{organization.slug} was closed on {organization.closed_at:%Y-%m-%d}")
        reason = options["reason"].strip()
        if not 0 < len(reason) <= _REASON_MAX_CHARS or not reason.isprintable():
            raise CommandError(
                f"--reason takes 1 to {_REASON_MAX_CHARS} characters on one line: the journal keeps them"
            )
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= _MAX_DAYS:
            raise CommandError(f"--expires-in-days takes 1 to {_MAX_DAYS} days")
        reference = options["reference"] or ids.new()
        try:
            amount_nanos = money.nanos(options["dollars"])
            booked = ledger.grant(
                organization.pk,
                amount_nanos=amount_nanos,
                reason=reason,
                reference=reference,
                expires_at=None if days is None else timezone.now() + dt.timedelta(days=days),
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        if not booked and not ledger.was_granted(organization.pk, amount_nanos=amount_nanos, reference=reference):
            raise CommandError(f"the reference {reference} stands for another grant; nothing was booked")
        word = "granted" if booked else "had been granted already"
        available = money.decimal(ledger.balance(organization.pk).available_nanos)
        self.stdout.write(f"${money.decimal(amount_nanos)} {word} to {organization.slug}; ${available} available")
