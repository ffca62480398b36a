"""`manage.py create_organization NAME --owner EMAIL` prints the new organization's slug, and nothing else."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from accounts import organizations, users
from core.errors import InvalidRequest


class Command(BaseCommand):
    help = "Create an organization and print its slug."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME")
        parser.add_argument(
            "--owner", required=True, metavar="EMAIL", help="made without a password when new; they set one by reset"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with transaction.atomic():
                organization = organizations.create(options["name"], owner=users.find_or_create(options["owner"]))
        except InvalidRequest as error:
            raise CommandError(error.message) from error
        self.stdout.write(organization.slug)
