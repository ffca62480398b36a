"""`migrate`, as the owner of the tables; then gives the application's role what it needs and no more."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.commands import migrate
from django.db import connection

from core import sql

# Only the ledger's functions write these; the application's role reads them.
JOURNALS = (
    *("billing_account", "billing_grant", "billing_hold", "billing_holdlimit", "billing_limituse"),
    "billing_transfer",
)

# Written once by the application, and never changed by it.
APPEND_ONLY = ("imagesapi_billadjustment", "imagesapi_billline", "imagesapi_statement")


class Command(migrate.Command):
    help = migrate.Command.help

    def handle(self, *args: Any, **options: Any) -> None:
        owner = settings.DATABASE_OWNER
        if owner["USER"] != connection.settings_dict["USER"]:
            sql.end_pool()
            for name in ("USER", "PASSWORD", "HOST", "PORT"):
                connection.settings_dict[name] = owner.get(name, "")
        super().handle(*args, **options)
        call_command("createcachetable", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("SELECT current_user")
            if cursor.fetchone()[0] != settings.APPLICATION_ROLE:
                _grant(cursor, settings.APPLICATION_ROLE)


def _grant(cursor: Any, role: str) -> None:
    name = connection.ops.quote_name(role)
    everything = "ON ALL TABLES IN SCHEMA public"
    cursor.execute(f"GRANT USAGE ON SCHEMA public TO {name}")
    cursor.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE {everything} TO {name}")
    cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {name}")
    tables = set(connection.introspection.table_names(cursor))
    for table in sorted(tables.intersection(JOURNALS)):
        cursor.execute(f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {table} FROM {name}")
    for table in sorted(tables.intersection(APPEND_ONLY)):
        cursor.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM {name}")
