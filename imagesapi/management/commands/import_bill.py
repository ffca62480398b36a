"""`manage.py import_bill PROVIDER`: fetch a provider's bill, or read it from a table."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from imagesapi import bills
from imagesapi.bills import importing, table


class Command(BaseCommand):
    help = "Store the lines of a provider's bill, each once; from its API, or from a CSV table."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", metavar="PROVIDER", help="slug, for example openai")
        parser.add_argument("--from", dest="first", type=bills.day, help="first day (UTC); a week ago")
        parser.add_argument("--to", dest="last", type=bills.day, help="last day (UTC); yesterday")
        parser.add_argument("--file", type=Path, help="a CSV table in place of the provider's API")

    def handle(self, *args: Any, **options: Any) -> None:
        provider = options["provider"]
        try:
            if options["file"]:
                bill = table.read(options["file"].read_text(encoding="utf-8-sig"))
            else:
                first, last = importing.default_days(dt.datetime.now(dt.UTC).date())
                first, last = options["first"] or first, options["last"] or last
                if first > last:
                    raise CommandError("--from must not be later than --to")
                bill = bills.load(provider).fetch(first, last)
            done = importing.keep(provider, bill)
        except (bills.BillError, OSError, UnicodeDecodeError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"{provider}: {done.days} days covered; {done.new} new lines, {done.revised} revised, {done.known} known"
        )
        if done.unnamed:
            self.stdout.write(f"{done.unnamed} lines name nothing that is offered here; reconcile shows them")
