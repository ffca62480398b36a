"""`manage.py grant_credit ORG DOLLARS --reason R`: promotional credit by an operator."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import organizations
from billing import ledger
from core import ids, money


class Command(BaseCommand):
    help = "Give an organization promotional credit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        parser.add_argument("dollars", metavar="DOLLARS", help="a decimal amount, such as 5 or 2.50")
        parser.add_argument("--reason", required=True)
        parser.add_argument("--reference", type=uuid.UUID, help="a UUID; the same one is booked only once")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"there is no organization {options['organization']!r}")
        try:
            amount_nanos = money.nanos(options["dollars"])
            booked = ledger.grant(
                organization.pk,
                amount_nanos=amount_nanos,
                reason=options["reason"],
                reference=options["reference"] or ids.new(),
            )
        except ValueError as error:
            raise CommandError(str(error)) from error
        word = "granted" if booked else "had been granted already"
        available = money.decimal(ledger.balance(organization.pk).available_nanos)
        self.stdout.write(f"${money.decimal(amount_nanos)} {word} to {organization.slug}; ${available} available")
