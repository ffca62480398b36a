"""`manage.py close_organization SLUG --confirm SLUG`: close it for good and print its final statement."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Organization
from billing import closing, ledger
from core import money
from core.errors import PixelparError


class Command(BaseCommand):
    help = "Close an organization: pay back, erase, keep the ledger. Prints the final statement, also later on."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug", metavar="SLUG")
        parser.add_argument("--confirm", metavar="SLUG", help="the same again; not needed for one that is closed")
        parser.add_argument("--write-off-debt", action="store_true", help="close it though it owes something")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = Organization.objects.filter(slug=options["slug"]).first()
        if organization is None:
            raise CommandError(f"There is no organization {options['slug']!r}: give its slug.")
        if organization.closed_at is None and options["confirm"] != organization.slug:
            raise CommandError(f"This cannot be undone. If you mean it: --confirm {organization.slug}")
        try:
            closing.begin(organization, write_off=options["write_off_debt"])
        except PixelparError as error:
            raise CommandError(error.message) from error
        found = closing.finish(organization.pk)
        for line in (found.statement or {}).get("totals", ()):
            self.stdout.write(f"{line['account']}: {line['kind']} x {line['count']}: {line['amount']} USD")
        self.stdout.write(f"promotional credit expired: ${money.decimal(found.expired_nanos)}")
        self.stdout.write(f"debt written off: ${money.decimal(found.written_off_nanos)}")
        self.stdout.write(f"paid back: ${money.decimal(found.refunded_nanos)}")
        self.stdout.write(f"owed, to be paid out by you: ${money.decimal(found.owed_nanos)}")
        self.stdout.write(f"in the wallet now: ${money.decimal(ledger.balance(organization.pk).wallet_nanos)}")
        self.stdout.write("erased" if found.emptied_at else "not all is erased yet; the worker goes on")
