"""`manage.py revoke_key ID` ends an API key at once."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import keys


class Command(BaseCommand):
    help = "Revoke an API key, named by its id, with or without its prefix and secret."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", metavar="ID")

    def handle(self, *args: Any, **options: Any) -> None:
        key = keys.find(options["id"])
        if key is None:
            # What was typed may hold a secret, so it is not repeated.
            raise CommandError("There is no such key: give the part between pxp_ and the dot.")
        if key.revoked_at is not None:
            self.stdout.write(f"{key} of {key.organization} was revoked before, on {key.revoked_at:%Y-%m-%d}.")
            return
        keys.revoke(key)
        self.stdout.write(f"{key} of {key.organization} is revoked.")
