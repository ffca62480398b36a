"""`manage.py set_budget ORG`: what an organization, a member or a key may spend, whole; what is absent has no limit."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import organizations
from accounts.models import normalise_email
from billing import budgets
from core.errors import PixelparError


class Command(BaseCommand):
    help = "Set the budgets of an organization, a member or a key, whole: what is not given has no limit."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--member", metavar="EMAIL")
        whose.add_argument("--key", metavar="ID")
        for window in ("day", "month", "total"):
            parser.add_argument(f"--{window}", metavar="DOLLARS")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']!r}: give its slug or its id.")
        asked = {name: options[window] for name, window in budgets.WINDOWS.items() if options[window] is not None}
        try:
            if options["member"]:
                budgets.set_for_member(organization, normalise_email(options["member"]), asked)
            elif options["key"]:
                key = organization.api_keys.filter(public_id=options["key"]).first()
                if key is None:
                    raise CommandError(f"{organization.slug} has no such key.")
                budgets.set_for_key(key, asked)
            else:
                budgets.set_for_organization(organization, asked)
        except PixelparError as error:
            raise CommandError(error.message) from error
        for found in budgets.documents(organization.pk):
            whose = found["key_id"] or found["member"] or organization.slug
            self.stdout.write(f"{whose}: ${found['limit']} by {found['window']}, ${found['used']} used")
