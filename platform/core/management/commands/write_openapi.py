"""`manage.py write_openapi`: the API's description as docs/openapi.json, so that its changes show in reviews."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from core import openapi


class Command(BaseCommand):
    help = "Writes the OpenAPI document that this version serves."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", nargs="?", type=Path, default=settings.ROOT / "docs" / "openapi.json")

    def handle(self, *arguments: Any, path: Path, **options: Any) -> None:
        try:
            path.write_bytes(openapi.pretty())
        except OSError as error:
            raise CommandError(f"{path} cannot be written: {error.strerror}.") from error
        self.stdout.write(f"{path}: {path.stat().st_size} bytes")
