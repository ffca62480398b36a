"""`manage.py set_provider_secret PROVIDER NAME` keeps a provider's key or base URL, read from standard input."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from imagesapi import configuration
from imagesapi.models import Provider

_MAX_CHARS = 10_000


class Command(BaseCommand):
    help = "Store a provider's key or base URL, encrypted; it wins over the environment. An empty value removes it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", metavar="PROVIDER", help="slug, for example openai")
        parser.add_argument("name", metavar="NAME", help="for example OPENAI_API_KEY")

    def handle(self, *args: Any, **options: Any) -> None:
        provider = Provider.objects.filter(slug=options["provider"]).first()
        if provider is None:
            known = ", ".join(Provider.objects.order_by("slug").values_list("slug", flat=True))
            raise CommandError(f"There is no provider {options['provider']!r}; known are {known or 'none yet'}.")
        # Never an argument: those are seen by every process on the machine and kept in shell histories.
        interactive = sys.stdin.isatty()
        value = getpass.getpass(f"{options['name']}: ") if interactive else sys.stdin.read(_MAX_CHARS + 1)
        if len(value) > _MAX_CHARS:
            raise CommandError(f"{options['name']} may have {_MAX_CHARS} characters; nothing was stored")
        try:
            configuration.store(provider, options["name"], value)
        except (ValueError, LookupError) as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"{options['name']} of {provider.slug} {'stored' if value.strip() else 'removed'}")
