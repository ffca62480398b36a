"""`manage.py load_catalog [FILE ...]` brings the catalogue's data files into the database and says what changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from imagesapi import catalog
from imagesapi.catalogue_files import CatalogueError


class Command(BaseCommand):
    help = "Load models, providers, offers and prices. Operators' own changes are kept; prices are only ever added."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "files", nargs="*", type=Path, metavar="FILE", help="instead of the files that ship with us"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            report = catalog.load(options["files"] or None)
        except CatalogueError as error:
            raise CommandError(str(error)) from error
        for line in report.changes:
            self.stdout.write(line)
        for line in report.kept:
            self.stdout.write(f"{line} kept as the operator set it")
        if not report.changes:
            self.stdout.write("nothing changed")
