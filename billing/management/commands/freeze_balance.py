"""`manage.py freeze_balance ORG`: refuse an organization's new requests, or with --off take them again."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import organizations
from billing import ledger


class Command(BaseCommand):
    help = "Freeze an organization's balance: nothing new is held, what runs settles."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        parser.add_argument("--off", action="store_true", help="take it back")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"there is no organization {options['organization']!r}")
        ledger.freeze(organization.pk, frozen=not options["off"])
        self.stdout.write(f"{organization.slug} is {'not frozen' if options['off'] else 'frozen'}")
