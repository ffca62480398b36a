"""The ground every test stands on: real PostgreSQL, no connection beyond loopback, an exact ledger afterwards."""

from __future__ import annotations

import contextlib
import gc
import itertools
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings
from django.db import connection
from pytest_django import DjangoDbBlocker
from whitenoise.middleware import WhiteNoiseMiddleware

from core import database
from tests import arrangement

pytest_plugins = [
    "tests.databases",
    "tests.people",
    "tests.servers",
    "tests.stripes",
    "tests.browsers",
    "tests.imagesapi.steps",
]
gc.disable()  # until everything is loaded
# Four processes, what they start and the database share a few cores: whoever computes is interrupted less often, which
# takes a fourteenth off the whole on two.
if hasattr(os, "SCHED_BATCH"):
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
# Each run tries other examples; `make prove` tries them by the hundred.
hypothesis.settings.register_profile("suite", max_examples=15)
hypothesis.settings.register_profile("full", max_examples=400)
hypothesis.settings.load_profile("suite")
# Tests that need node, chromium or nginx run where those are installed; CI installs them, so there they must run.
IN_CI = os.environ.get("CI") == "true"


def pytest_configure(config: pytest.Config) -> None:
    """Start the embedded server before Django looks for it, and connect as the owner, who may make test databases."""
    if settings.EMBEDDED_DATABASE is not None:
        database.start(settings.EMBEDDED_DATABASE, lambda line: print(line, file=sys.stderr))
    settings.DATABASES["default"].update(settings.DATABASE_OWNER)
    _keep_static_files()
    # For all tests and not by a fixture: each setting that a test changes costs every test's set-up.
    settings.PASSWORD_HASHERS = ["tests.people.QuickArgon2"]
    settings.STORE_FSYNC = False
    # Payments by card are off, as without a key, unless a test asks for a pretended account.
    settings.STRIPE_SECRET_KEY = settings.STRIPE_WEBHOOK_SECRET = ""
    settings.STRIPE_FAKE = False


def _keep_static_files() -> None:
    """Each new test client looks at every static file of the packages; here it does so once."""
    look = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add_files_from_finders(self: WhiteNoiseMiddleware) -> None:
        if not found:
            look(self)
            found.update(self.files)
        self.files.update(found)

    WhiteNoiseMiddleware.add_files_from_finders = add_files_from_finders


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is loaded by now stays: the garbage collector need not walk through it, not even once."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # as in the web processes
    gc.enable()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What was left open is told here, once: pytest collects five times, through everything that is still there."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    if settings.EMBEDDED_DATABASE is not None:
        database.stop(settings.EMBEDDED_DATABASE)


@pytest.hookimpl(trylast=True)  # when it is known what is not asked for
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what cannot run here, saying why; under CI=true nothing is deselected."""
    items[:] = arrangement.arranged(items, int(getattr(config, "workerinput", {}).get("workercount", 1)))
    if IN_CI:
        return
    missing: dict[str, int] = {}
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        mark = item.get_closest_marker("needs")
        absent = [name for name in (mark.args if mark else ()) if not shutil.which(name)]
        (left_out if absent else kept).append(item)
        for name in absent:
            missing[name] = missing.get(name, 0) + 1
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept
        for name, count in missing.items():
            print(f"deselected {count} tests: {name} is not installed (they run under CI=true)", file=sys.stderr)


@pytest.fixture(autouse=True, scope="module")
def _small_tables(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    from tests import databases

    yield
    if str(connection.settings_dict["NAME"]).startswith("test_"):
        with django_db_blocker.unblock():
            databases.forget_deleted()


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names of folders that are not there yet: most tests store nothing."""
    root = tmp_path_factory.mktemp("stores")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _own_things(stores: Iterator[Path]) -> None:
    """A store, and failovers: a process spends those over all its requests, and no test pays for the one before it."""
    from imagesapi import retry_budget

    settings.STORE_DIR = next(stores)
    fresh = retry_budget.Budget()
    retry_budget.deposit, retry_budget.withdraw = fresh.deposit, fresh.withdraw


@pytest.fixture(autouse=True)
def _ledger_stays_exact(request: pytest.FixtureRequest) -> Iterator[None]:
    """T-01 and T-02 after every test that can touch money: sums of the journal, balances and holds agree."""
    touches = "db" in request.fixturenames or request.node.get_closest_marker("django_db") is not None
    if touches:
        request.getfixturevalue("db")
    yield
    if touches and not connection.needs_rollback:
        from tests import databases

        databases.assert_ledger_is_exact()
