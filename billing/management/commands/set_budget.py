"""`manage.py set_budget ORG` shows budgets, and sets those of one: whole, so that what is not named has no limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import keys, organizations
from accounts.models import Organization, normalise_email
from billing import budgets
from core.errors import PixelparError


class Command(BaseCommand):
    help = "Set the budgets of an organization, a member or a key, whole: what is not given has no limit. Or show all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--member", metavar="EMAIL")
        whose.add_argument("--key", metavar="ID")
        for window in ("day", "month", "total"):
            parser.add_argument(f"--{window}", metavar="DOLLARS")
        parser.add_argument("--none", action="store_true", help="no limit any more; the only way to take all away")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']!r}: give its slug or its id.")
        asked = {name: options[window] for name, window in budgets.WINDOWS.items() if options[window] is not None}
        if asked and options["none"]:
            raise CommandError("Either amounts or --none.")
        # Whoever names nothing wants to look: a limit on spending is not taken away by leaving something out.
        if asked or options["none"]:
            try:
                self._set(organization, asked, member=options["member"], key=options["key"])
            except PixelparError as error:
                raise CommandError(error.message) from error
        for found in budgets.documents(organization.pk):
            whose = found["key_id"] or found["member"] or organization.slug
            self.stdout.write(f"{whose}: ${found['limit']} by {found['window']}, ${found['used']} used")

    def _set(
        self, organization: Organization, asked: Mapping[str, object], *, member: str | None, key: str | None
    ) -> None:
        # An empty word is nobody's, and never the whole organization.
        if member is not None:
            budgets.set_for_member(organization, normalise_email(member), asked)
        elif key is not None:
            found = keys.find(key)
            if found is None or found.organization_id != organization.pk:
                raise CommandError(f"{organization.slug} has no such key.")
            budgets.set_for_key(found, asked)
        else:
            budgets.set_for_organization(organization, asked)
