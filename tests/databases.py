"""Test databases: migrated once into a template, copied from it in a fraction of a second, emptied between tests."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction
from psycopg import sql
from pytest_django import DjangoDbBlocker

from core.sql import end_pool

# What the template brings along and no test needs gone.
_KEPT = (
    "django_migrations",
    "django_content_type",
    "auth_permission",
    "imagesapi_catalogversion",
    "imagesapi_model",
    "imagesapi_offer",
    "imagesapi_priceline",
    "imagesapi_provider",
)
# The server counts a table's rows when it has time to, so that a plan would depend on what ran a minute before.
_QUIET = """
DO $$ DECLARE name regclass; BEGIN
    FOR name IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = off)', name);
    END LOOP;
END $$
"""
_LARGE_BYTES = 512 * 1024
_SIZES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


def _template_name() -> str:
    """Changes with whatever changes the template's content."""
    root: Path = settings.ROOT
    digest = hashlib.sha256()
    digest.update(_QUIET.encode())
    patterns = ("*/migrations/*.py", "*/migrations/*.sql", "imagesapi/catalog*.py", "imagesapi/catalogue/*")
    for path in sorted(found for pattern in patterns for found in root.glob(pattern)):
        digest.update(path.read_bytes())
    digest.update((root / "requirements" / "runtime.txt").read_bytes())
    digest.update((root / "platform" / "core" / "management" / "commands" / "migrate.py").read_bytes())
    return f"pixelpar_template_{digest.hexdigest()[:16]}"


def connect(dbname: str = "postgres") -> psycopg.Connection[tuple[Any, ...]]:
    """A connection of one's own to the server of the tests, as its owner, committing each statement."""
    owner = settings.DATABASE_OWNER
    names = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    parameters = {names[name]: value for name, value in owner.items() if name in names and value}
    return psycopg.connect(**parameters, dbname=dbname, autocommit=True)


def _use(name: str) -> None:
    end_pool()
    connection.settings_dict["NAME"] = name
    settings.DATABASES["default"]["NAME"] = name


def _exists(server: psycopg.Connection[tuple[Any, ...]], name: str) -> bool:
    return server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is not None


def _build_template(server: psycopg.Connection[tuple[Any, ...]], name: str) -> None:
    if _exists(server, name):
        return
    unfinished = f"{name}_new"
    server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(unfinished)))
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(unfinished)))
    _use(unfinished)
    call_command("migrate", verbosity=0, interactive=False)
    call_command("load_catalog", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(_QUIET)
    end_pool()
    server.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(unfinished), sql.Identifier(name)))


def left_over(names: Iterable[str], alive: Iterable[int]) -> list[str]:
    """Databases of test processes that were killed: each is named by the connection that its process keeps open."""
    pids = {str(pid) for pid in alive}
    ours = (re.fullmatch(r"test_(?:main|gw\d+)_(\d+)", name) for name in names)
    return [found[0] for found in ours if found and found[1] not in pids]


def _drop_left_over(server: psycopg.Connection[tuple[Any, ...]]) -> None:
    names = [name for (name,) in server.execute("SELECT datname FROM pg_database")]
    alive = [pid for (pid,) in server.execute("SELECT pid FROM pg_stat_activity")]
    for name in left_over(names, alive):
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker, request: pytest.FixtureRequest) -> Iterator[None]:
    """One database for each test process, copied from the template."""
    worker = getattr(request.config, "workerinput", {}).get("workerid", "main")
    lock_path = settings.DATA_DIR / "tests.lock"
    lock_path.parent.mkdir(parents=True, exist_ok=True)
    with django_db_blocker.unblock(), connect() as server:
        template = _template_name()
        with open(lock_path, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            _build_template(server, template)
            if settings.EMBEDDED_DATABASE is not None:  # on another server such a name may be somebody else's
                _drop_left_over(server)
            (token,) = server.execute("SELECT pg_backend_pid()").fetchone() or (0,)
            name = f"test_{worker}_{token}"
            server.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
        with connect(name) as owner:
            _make_emptier(owner)
            _make_prover(owner)
        # No test cuts the power: what commits is there for everybody at once, and nobody waits for the disk.
        server.execute(sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(name)))
        _use(name)
        yield
        end_pool()
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database in which commits are real, for tests with several connections or processes; emptied afterwards.

    The journal refuses DELETE, as it should; the owner of a test database switches its triggers off to empty it.
    """
    with django_db_blocker.unblock():
        yield
        try:
            assert_ledger_is_exact()
        finally:
            _empty()


@contextlib.contextmanager
def history_may_be_written() -> Iterator[None]:
    """For tests that need an old journal: the owner of a test database switches its triggers off."""
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            yield
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")


def _make_emptier(owner: psycopg.Connection[tuple[Any, ...]]) -> None:
    """A function that deletes what tests leave: the server plans its statements once a connection, not once a test.

    Deleting a few rows from a few tables takes a tenth of what truncating every table does.
    """
    deletes = sql.SQL(" ").join(
        sql.SQL("DELETE FROM {};").format(sql.Identifier("public", name)) for name in _tables(owner)
    )
    body = sql.SQL("BEGIN PERFORM set_config('session_replication_role', 'replica', true); {} END").format(deletes)
    owner.execute("CREATE SCHEMA tests")
    owner.execute(
        sql.SQL("CREATE FUNCTION tests.empty() RETURNS void LANGUAGE plpgsql AS {}").format(
            sql.Literal(body.as_string(owner))
        )
    )


def _empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tests.empty()")
    connection.close()


def forget_deleted() -> None:
    """Some tests fill tables by the ten thousand rows; whoever looks into them next would walk past all of those.

    Between two modules every table is empty. VACUUM would leave the planner with statistics, where tests read plans
    that must be right without any.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_SIZES)
        found = _written(cursor.fetchall())
        if max(found.values()) > _LARGE_BYTES:
            names = sql.SQL(", ").join(sql.Identifier("public", name) for name in found)
            cursor.execute("SET LOCAL session_replication_role = replica")
            cursor.execute(sql.SQL("TRUNCATE {}").format(names))
    connection.close()


def _written(sizes: Iterable[tuple[str, int]]) -> dict[str, int]:
    """The size in bytes of every table that tests write to."""
    return {name: size_bytes for name, size_bytes in sizes if name not in _KEPT}


def _tables(owner: psycopg.Connection[tuple[Any, ...]]) -> dict[str, int]:
    return _written(owner.execute(_SIZES))


def _make_prover(owner: psycopg.Connection[tuple[Any, ...]]) -> None:
    """A function that names the first of the ledger's proofs that finds a difference, or nothing.

    The same statements one by one, planned anew after each of a thousand tests, take eight times as long.
    """
    from billing import ledger

    words = {word for proof in ledger._PROOFS.values() for word in re.findall(r"\w+", proof)}
    # Without a row in any table that a proof reads, none can find anything.
    has_money = " OR ".join(f"EXISTS (SELECT FROM {name})" for name in sorted(words.intersection(_tables(owner))))
    proofs = sql.SQL(" ").join(
        sql.SQL("IF EXISTS ({}) THEN RETURN {}; END IF;").format(sql.SQL(proof), sql.Literal(name))
        for name, proof in ledger._PROOFS.items()
    )
    body = sql.SQL("BEGIN IF NOT ({}) THEN RETURN NULL; END IF; {} RETURN NULL; END").format(sql.SQL(has_money), proofs)
    # All of a stable function's statements see the same.
    owner.execute(
        sql.SQL("CREATE FUNCTION tests.difference() RETURNS text STABLE LANGUAGE plpgsql AS {}").format(
            sql.Literal(body.as_string(owner))
        )
    )


def assert_ledger_is_exact() -> None:
    """What `ledger.verify` proves, and its words where it is not so."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tests.difference()")
        found = cursor.fetchone()
    if found != (None,):
        from billing import ledger

        pytest.fail(f"{found}: {ledger.verify().differences}")
