"""`manage.py serve`: everything under one Ctrl-C: database, migrations, catalogue, web processes, worker."""

from __future__ import annotations

import contextlib
from typing import Any

from django.conf import settings
from django.core.management import CommandError, call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from config import demo, supervisor
from core import database, sql
from imagesapi import catalog


class Command(BaseCommand):
    help = "Set up what is missing and serve until stopped."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        server = settings.EMBEDDED_DATABASE
        if not supervisor.port_is_free():
            raise CommandError(
                f"{settings.HOST}:{settings.PORT} is in use or not ours to take: stop what listens there, "
                "or set PORT (and HOST) to another one."
            )
        try:
            if server is not None:
                self._say("starting PostgreSQL")
                database.start(server, self._say)
            self.check()
            self._prepare()
            supervisor.run(self._say, server=server, greet=self._greet)
        except database.DatabaseError as error:
            raise CommandError(str(error)) from error
        finally:
            connection.close()
            if server is not None:
                self._say("stopping PostgreSQL")
                database.stop(server)

    def _say(self, line: str) -> None:
        with contextlib.suppress(OSError):  # whatever it is written to may be full, which must not end everything
            self.stdout.write(line)
            self.stdout.flush()

    def _prepare(self) -> None:
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            self._say(f"applying {len(missing)} migrations")
            sql.end_pool()
            call_command("migrate", verbosity=0, interactive=False)
        if catalog.load().changes:
            self._say("loaded the catalogue")
        self._welcome = demo.create() if settings.DEVELOPMENT else None
        # Web processes open pools of their own; this one's would only take connections away from them.
        sql.end_pool()

    def _greet(self) -> None:
        if self._welcome is not None:
            self._say(demo.message(self._welcome))
        self._say(f"\nPixelpar is at {settings.BASE_URL} (Ctrl-C stops it)")
