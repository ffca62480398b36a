"""`manage.py stripe_reconcile`: book what Stripe has and we have not; or act on one event of the inbox anew."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from billing import stripe_gateway, stripe_inbox, stripe_reconciliation
from billing.stripe_facts import Refused, Unclear

_HOURS_MAX = 24 * 366


class Command(BaseCommand):
    help = "Compare Stripe's payments, refunds, disputes and warnings with our books; exits 1 if any were missing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--hours", type=int, default=stripe_reconciliation.HOURS, help="how far back to look")
        parser.add_argument("--replay", metavar="EVENT", help="act on this event of the inbox anew, and nothing else")

    def handle(self, *args: Any, **options: Any) -> None:
        if not stripe_gateway.configured():
            raise CommandError("Stripe is not configured: there is nothing to compare")
        if not 1 <= options["hours"] <= _HOURS_MAX:
            raise CommandError(f"--hours takes 1 to {_HOURS_MAX}")
        if options["replay"]:
            if not stripe_inbox.replay(options["replay"]):
                raise CommandError(f"{options['replay']} is not in the inbox, or could not be acted on: see the log")
            self.stdout.write("done")
            return
        try:
            report = stripe_reconciliation.reconcile(hours=options["hours"], grace_s=0)
        except (Unclear, Refused) as error:
            raise CommandError(str(error)) from error
        for line in report.found:
            self.stdout.write(f"was missing, is booked now: {line}")
        self.stdout.write(f"{report.seen} objects of Stripe's compared, {len(report.found)} were missing")
        sys.exit(1 if report.found else 0)
