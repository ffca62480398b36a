"""A new database takes one step for each app, one that made some of the many before goes on with them: both arrive."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests import databases

# Part of the way, and all of it, by the steps that the squashed ones replace.
MIDWAY = [("accounts", "0003_closing"), ("billing", "0004_postings"), ("imagesapi", "0004_routing")]
ENDS = [("accounts", "0003_closing"), ("billing", "0009_locks"), ("imagesapi", "0011_without_digests")]

# Everything that migrations make, by name; what a table's constraints are called that only say NOT NULL is chance.
LOOKS = {
    "columns": """
        SELECT c.relname, rank() OVER (PARTITION BY c.oid ORDER BY a.attnum), a.attname,
            format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid)
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'c') AND attnum > 0 AND NOT attisdropped
    """,
    "tables": """
        SELECT relname, relkind, reloptions::text, relacl::text FROM pg_class
        WHERE relnamespace = 'public'::regnamespace
    """,
    "constraints": """
        SELECT conname, conrelid::regclass::text, contypid::regtype::text, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'
    """,
    "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "functions": """
        SELECT proname, pg_get_functiondef(oid), proacl::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prokind = 'f'
    """,
    "triggers": "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "domains": "SELECT typname, typbasetype::regtype::text FROM pg_type WHERE typtype = 'd'",
}


@pytest.fixture
def fresh_database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Callable[[str], None]]:
    """Makes an empty database and goes there; back again afterwards."""
    home = str(connection.settings_dict["NAME"])
    made: list[str] = []

    def go(name: str) -> None:
        name = f"{home}_{name}"
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(name)
        databases._use(name)

    with django_db_blocker.unblock(), databases.connect() as server:
        yield go
        databases._use(home)
        for name in made:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _migrate_by_the_old_steps(targets: list[tuple[str, str]]) -> None:
    executor = MigrationExecutor(connection)
    executor.loader = MigrationLoader(connection, replace_migrations=False)
    others = [node for node in executor.loader.graph.leaf_nodes() if node[0] not in dict(targets)]
    executor.migrate(targets + others)


def _schema() -> dict[str, set[str]]:
    """A condition that was read again when its column's type changed has its casts and brackets elsewhere."""
    found = {}
    with connection.cursor() as cursor:
        for what, question in LOOKS.items():
            cursor.execute(question)
            rows = [" ".join(str(value) for value in row) for row in cursor.fetchall()]
            found[what] = {re.sub(r"::(text|character varying)(\[\])?|[()]", "", row) for row in rows}
    return found


def _applied() -> set[tuple[str, str]]:
    return set(MigrationLoader(connection).applied_migrations)


@pytest.mark.prove
@pytest.mark.parametrize("begun", [MIDWAY, ENDS], ids=["midway", "at its end"])
def test_every_way_leads_to_the_same_tables(
    fresh_database: Callable[[str], None], begun: list[tuple[str, str]]
) -> None:
    fresh_database("new")
    call_command("migrate", verbosity=0)
    expected, applied = _schema(), _applied()
    assert all(expected.values())

    fresh_database("old")
    _migrate_by_the_old_steps(begun)
    assert set(begun) <= _applied()
    call_command("migrate", verbosity=0)
    assert _schema() == expected
    assert applied <= _applied()
    call_command("migrate", check_unapplied=True, verbosity=0)
