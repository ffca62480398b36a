"""An organization leaves while others hold for it, or two workers close it: nothing is held, nothing is paid twice."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest
from django.db import DatabaseError, connection

from accounts.models import Organization
from billing import closing, ledger
from billing.models import Hold
from core import errors, ids, money
from tests import databases
from tests.money import customer

pytestmark = pytest.mark.usefixtures("no_refunder")
CENT = money.NANOS_PER_CENT
_WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_crowd_of_holds_and_a_closing_leave_no_hold_on_a_closed_organization(committed: None) -> None:
    for _ in range(4):
        organization, _ = customer(wallet_nanos=1_000 * CENT)
        barrier = threading.Barrier(13)
        held: list[uuid.UUID] = []
        closed: list[bool] = []

        def ask(organization: Organization = organization, barrier: Any = barrier, held: Any = held) -> None:
            try:
                barrier.wait(20)
                hold_id = ids.new()
                if ledger.hold(hold_id, organization_id=organization.pk, amount_nanos=CENT).held:
                    held.append(hold_id)
            finally:
                connection.close()

        def leave(organization: Organization = organization, barrier: Any = barrier, closed: Any = closed) -> None:
            try:
                barrier.wait(20)
                closing.begin(organization)
                closed.append(True)
            except errors.NotFinished:
                closed.append(False)
            finally:
                connection.close()

        threads = [threading.Thread(target=ask) for _ in range(12)] + [threading.Thread(target=leave)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(closed) == 1
        assert Hold.objects.filter(organization=organization, state="held").count() == (0 if closed[0] else 12)
        assert held == [] if closed[0] else len(held) == 12


def test_a_closing_and_a_hold_never_wait_for_each_other_in_a_circle(committed: None) -> None:
    """The hold has the balance and still has to refer to the organization, which the closing has."""
    organization, _ = customer(wallet_nanos=1_000 * CENT)
    found: list[str] = []

    def leave() -> None:
        try:
            closing.begin(organization)
        except errors.NotFinished:
            found.append("something runs")
        except DatabaseError as error:
            found.append(str(error))
        finally:
            connection.close()

    name = str(connection.settings_dict["NAME"])
    with databases.connect(name) as holder, databases.connect(name) as watcher:
        with holder.transaction():
            holder.execute("SELECT 1 FROM billing_account WHERE kind = 'wallet' FOR NO KEY UPDATE")
            thread = threading.Thread(target=leave)
            thread.start()
            while watcher.execute(_WAITING).fetchone() != (1,):
                time.sleep(0.01)
            named = {
                "id": ids.new(),
                "organization_id": organization.pk,
                "key_id": None,
                "member_id": None,
                "hold_nanos": CENT,
                "promo_only": False,
            }
            assert holder.execute(f"SELECT verdict FROM {ledger.HOLD}", named).fetchone() == ("held",)
        thread.join(20)
    assert found == ["something runs"]


def test_two_workers_pay_back_once(committed: None) -> None:
    organization, _ = customer(wallet_nanos=100 * CENT)
    entered, go_on = threading.Event(), threading.Event()
    asked: list[int] = []

    def slow(organization: Organization, amount_nanos: int) -> int:
        asked.append(amount_nanos)
        entered.set()
        assert go_on.wait(20)
        return 0

    closing.register_refunder(slow)
    closing.begin(organization)

    def work() -> None:
        try:
            closing.finish(organization.pk)
        finally:
            connection.close()

    first = threading.Thread(target=work)
    first.start()
    assert entered.wait(20)
    assert closing.finish(organization.pk).settled_at is None
    go_on.set()
    first.join()
    assert asked == [100 * CENT]
    assert closing.finish(organization.pk).owed_nanos == 100 * CENT
