"""`manage.py create_key ORG --name N` prints the new API key, and nothing else: it cannot be shown again."""

from __future__ import annotations

import datetime as dt
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accounts import keys, organizations, scopes
from core.errors import InvalidRequest

_MAX_DAYS = 3650


class Command(BaseCommand):
    help = "Create an API key and print it. This is the only time it can be seen."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization", metavar="ORG", help="slug or id")
        parser.add_argument("--name", required=True, metavar="N")
        parser.add_argument("--expires-in-days", type=int, metavar="D")
        parser.add_argument("--scope", action="append", metavar="S", help=f"{', '.join(scopes.ALL)}, repeatable")
        parser.add_argument("--rpm", type=int, metavar="N", help="at most so many requests a minute")
        parser.add_argument("--concurrent", type=int, metavar="N", help="at most so many at a time")

    def handle(self, *args: Any, **options: Any) -> None:
        organization = organizations.find(options["organization"])
        if organization is None:
            raise CommandError(f"There is no organization {options['organization']!r}: give its slug or its id.")
        days = options["expires_in_days"]
        if days is not None and not 1 <= days <= _MAX_DAYS:
            raise CommandError(f"--expires-in-days takes 1 to {_MAX_DAYS} days.")
        expires_at = timezone.now() + dt.timedelta(days=days) if days is not None else None
        try:
            _, raw = keys.create(
                organization,
                name=options["name"],
                expires_at=expires_at,
                scopes=options["scope"],
                limits={"requests_per_minute": options["rpm"], "concurrent": options["concurrent"]},
            )
        except InvalidRequest as error:
            raise CommandError(error.message) from error
        self.stdout.write(raw)
