"""`manage.py reconcile`: compare provider bills with the ledger; exit 1 when something is unexplained."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import money
from imagesapi import bills
from imagesapi.bills import reconciling
from imagesapi.models import Provider, Reconciliation

_SAID = {
    "unexplained": "unexplained",
    "price": "bill and price list disagree by",
}


class Command(BaseCommand):
    help = "Compare provider bills with charges and attempts, and book what they lead to, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--provider", help="slug; all of them when absent")
        parser.add_argument("--from", dest="first", type=bills.day, help="first day (UTC); 35 days back")
        parser.add_argument("--to", dest="last", type=bills.day, help="last day (UTC); yesterday")
        parser.add_argument("--last", dest="shows_last", action="store_true", help="show the last run, compare nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["shows_last"]:
            self._show_last()
            return
        provider, first, last = options["provider"], options["first"], options["last"]
        if provider and not Provider.objects.filter(slug=provider).exists():
            raise CommandError(f"There is no provider {provider!r}.")
        first, last = reconciling.days(first, last)
        if first > last:
            raise CommandError(f"--from must not be later than --to: {first} to {last}")
        report = reconciling.run(provider=provider, first=first, last=last)
        self.stdout.write(
            f"{report.first} to {report.last}: {report.days} days on bills, {report.booked} movements booked, "
            f"{report.closed} unknown attempts closed"
        )
        self._findings(report.findings)
        if report.overdue:
            self.stdout.write(f"{report.overdue} unknown attempts are older than 48 h and on no bill that was imported")
        self._end(report.unexplained_nanos)

    def _show_last(self) -> None:
        found = Reconciliation.objects.order_by("pk").last()
        if found is None:
            self.stdout.write("nothing was reconciled yet")
            return
        self.stdout.write(f"{found.created_at:%Y-%m-%d %H:%M} UTC, {found.first} to {found.last}")
        self._findings(found.findings)
        self._end(found.unexplained_nanos)

    def _findings(self, findings: Sequence[Mapping[str, Any]]) -> None:
        for row in findings:
            self.stdout.write(
                f"{row['day']} {row['provider']} {row['model'] or '(nothing offered here)'}: {_SAID[row['what']]} "
                f"{_dollars(row['amount'])} (billed {_dollars(row['billed'])}, charged {_dollars(row['charged'])} "
                f"for {row['calls']} calls)"
            )

    def _end(self, unexplained_nanos: int) -> None:
        self.stdout.write(f"unexplained: {_dollars(money.decimal(unexplained_nanos))}")
        if unexplained_nanos:
            sys.exit(1)


def _dollars(amount: str) -> str:
    """A decimal amount as people write it, the sign before the currency."""
    return f"-${amount[1:]}" if amount.startswith("-") else f"${amount}"
