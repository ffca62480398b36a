"""Random histories of everything the ledger can do, step by step beside a plain model of it (T-01, T-02)."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from accounts.models import Organization
from billing import grants, ledger
from billing.models import Account, Grant, Transfer
from core import ids

AMOUNTS = st.integers(1, 1_000)
HOURS = st.none() | st.integers(1, 48)
# What takes from the wallet only as much as is free, and what adds to it.
OUT = ("refund", "forfeited")
IN = ("top_up", "refund_failed", "dispute_won", "true_up", "debt_written_off")
# What moves between accounts of the platform alone.
BESIDE = ("top_up_tax", "stripe_fee", "refund_tax", "dispute_fee", "suspense", "suspense_returned", "bill_absorbed")


@dataclass
class Lot:
    """What the model knows of a grant; each charge is taken from the lots at once."""

    rest: int
    hours: int | None
    number: int


class Ledger(RuleBasedStateMachine):
    """One organization's ledger from its first cent on."""

    steps: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.savepoint = transaction.atomic()
        self.savepoint.__enter__()
        self.organization = Organization.objects.create(name="Model", slug=f"model-{ids.token(10)}")
        self.lots: list[Lot] = []
        self.wallet = 0
        self.free_before = 0
        self.may_fall = False
        # Open holds by id: promo, wallet. The crashed ones wait for recovery.
        self.holds: dict[uuid.UUID, tuple[int, int]] = {}
        self.crashed: set[uuid.UUID] = set()
        self.numbers = 0

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.savepoint.__exit__(None, None, None)

    # --- what the model expects -------------------------------------------------------------------------------------

    @property
    def promo(self) -> int:
        return sum(lot.rest for lot in self.lots)

    def held(self, part: int) -> int:
        return sum(amounts[part] for amounts in self.holds.values())

    @property
    def free_wallet(self) -> int:
        return self.wallet - self.held(1)

    def in_order(self) -> list[Lot]:
        return sorted(self.lots, key=lambda lot: (lot.hours is None, lot.hours, lot.number))

    def take(self, amount: int) -> None:
        for lot in self.in_order():
            taken = min(lot.rest, amount)
            lot.rest -= taken
            amount -= taken
        assert amount == 0

    def add_lot(self, amount: int, hours: int | None) -> None:
        self.numbers += 1
        self.lots.append(Lot(amount, hours, self.numbers))

    def post(self, kind: str, amount: int, **more: Any) -> bool:
        reference = more.pop("reference", None) or ids.new()
        return ledger.post(
            kind,
            amount_nanos=amount,
            organization_id=self.organization.pk,
            reference_type=more.pop("reference_type", "event"),
            reference=reference,
            provider=more.pop("provider", "openai"),
        )

    # --- what can happen --------------------------------------------------------------------------------------------

    @rule(amount=AMOUNTS, hours=HOURS)
    def grant(self, amount: int, hours: int | None) -> None:
        until = None if hours is None else timezone.now() + dt.timedelta(hours=hours)
        reference = ids.new()
        for first in (True, False):
            booked = ledger.grant(
                self.organization.pk, amount_nanos=amount, reason="lot", reference=reference, expires_at=until
            )
            assert booked is first
        if until is not None:  # whole hours from the database's own clock: the model orders by hours alone
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE billing_grant SET expires_at = now() + make_interval(hours => %s)"
                    " WHERE transfer_id = (SELECT max(id) FROM billing_transfer WHERE kind = 'grant')",
                    [hours],
                )
        self.add_lot(amount, hours)

    @rule(amount=AMOUNTS)
    def true_up_promo(self, amount: int) -> None:
        assert self.post("true_up_promo", amount)
        self.add_lot(amount, None)

    @rule(amount=AMOUNTS, kind=st.sampled_from(IN))
    def money_comes(self, amount: int, kind: str) -> None:
        reference = ids.new()
        assert self.post(kind, amount, reference=reference)
        assert not self.post(kind, amount, reference=reference)
        self.wallet += amount

    @rule(amount=AMOUNTS, kind=st.sampled_from(OUT))
    def money_goes(self, amount: int, kind: str) -> None:
        if amount > self.free_wallet:
            with pytest.raises(ledger.NotThere):
                self.post(kind, amount)
        else:
            assert self.post(kind, amount)
            self.wallet -= amount

    @rule(amount=AMOUNTS)
    def dispute(self, amount: int) -> None:
        """The one movement that may leave a debt."""
        assert self.post("dispute", amount)
        self.wallet -= amount
        self.may_fall = True

    @rule(amount=AMOUNTS, kind=st.sampled_from(BESIDE))
    def beside(self, amount: int, kind: str) -> None:
        assert self.post(kind, amount)

    @rule(amount=st.integers(0, 1_500), promo_only=st.booleans(), crashes=st.booleans())
    def hold(self, amount: int, promo_only: bool, crashes: bool) -> None:
        hold_id = ids.new()
        verdict = ledger.hold(hold_id, organization_id=self.organization.pk, amount_nanos=amount, promo_only=promo_only)
        promo = min(self.promo - self.held(0), amount)
        there = self.promo - self.held(0) + (0 if promo_only else self.free_wallet)
        if amount and self.free_wallet < 0:
            assert verdict.verdict == "frozen"
        elif amount and amount > there:  # a hold of nothing is taken whatever there is, a debt too
            assert verdict.verdict == "insufficient"
        else:
            assert (verdict.verdict, verdict.promo_nanos, verdict.wallet_nanos) == ("held", promo, amount - promo)
            self.holds[hold_id] = (promo, amount - promo)
            if crashes:
                self.crashed.add(hold_id)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), cost=st.integers(0, 2_000), simulated=st.booleans())
    def settle(self, data: st.DataObject, cost: int, simulated: bool) -> None:
        self.resolve(data.draw(st.sampled_from(sorted(self.holds))), cost, simulated=simulated)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), absorbed=st.integers(0, 50))
    def void(self, data: st.DataObject, absorbed: int) -> None:
        hold_id = data.draw(st.sampled_from(sorted(self.holds)))
        ledger.void(hold_id, provider="fal", absorbed_nanos=absorbed)
        self.end(hold_id)

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), cost=st.integers(0, 2_000))
    def crash_in_the_middle(self, data: st.DataObject, cost: int) -> None:
        """The statement was sent and its transaction never committed: as if it had not been."""
        hold_id = data.draw(st.sampled_from(sorted(self.holds)))
        with transaction.atomic():
            ledger.settle(hold_id, cost_nanos=cost, provider="openai")
            transaction.set_rollback(True)
        self.crashed.add(hold_id)

    @precondition(lambda self: self.crashed)
    @rule(kept=st.booleans(), cost=st.integers(0, 2_000))
    def recover(self, kept: bool, cost: int) -> None:
        """Everything a dead process left is settled from its kept result, or given back."""
        for hold_id in sorted(self.crashed):
            if kept:
                self.resolve(hold_id, cost)
            else:
                ledger.void(hold_id)
                self.end(hold_id)

    @rule(everything=st.booleans())
    def expire(self, everything: bool) -> None:
        over = [lot for lot in self.lots if everything or (lot.hours is not None and lot.hours <= 0)]
        expected = max(0, sum(lot.rest for lot in over) - self.held(0))
        assert ledger.expire(self.organization.pk, everything=everything) == expected
        self.take(expected)

    @rule(hours=st.integers(1, 24))
    def time_passes(self, hours: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE billing_grant SET expires_at = expires_at - make_interval(hours => %s)", [hours])
        for lot in self.lots:
            lot.hours = None if lot.hours is None else lot.hours - hours

    @rule(cap=st.integers(1, 1_500))
    def fund(self, cap: int) -> None:
        self.expire(everything=False)
        expected = max(0, cap - self.promo)
        assert ledger.fund(self.organization.pk, cap_nanos=cap, reason="fund", reference=ids.new()) == expected
        if expected:
            self.add_lot(expected, None)

    def resolve(self, hold_id: uuid.UUID, cost: int, *, simulated: bool = False) -> None:
        promo, wallet = self.holds[hold_id]
        charged = min(cost, promo + wallet)
        found = ledger.settle(hold_id, cost_nanos=cost, provider="openai", simulated=simulated)
        assert found == (charged, 0 if simulated else cost - charged)
        self.end(hold_id)
        self.take(min(charged, promo))
        self.wallet -= charged - min(charged, promo)

    def end(self, hold_id: uuid.UUID) -> None:
        del self.holds[hold_id]
        self.crashed.discard(hold_id)
        for again in (lambda: ledger.void(hold_id), lambda: ledger.settle(hold_id, cost_nanos=1, provider="fal")):
            with pytest.raises(DatabaseError, match="is not open"), transaction.atomic():
                again()

    # --- what must be true after each step --------------------------------------------------------------------------

    @invariant()
    def balances_are_those_of_the_model(self) -> None:
        Ledger.steps += 1
        rows = {row.kind: row for row in Account.objects.filter(organization=self.organization)}
        for kind, posted, part in (("promo", self.promo, 0), ("wallet", self.wallet, 1)):
            if kind in rows:
                assert (rows[kind].posted_nanos, rows[kind].held_nanos) == (posted, self.held(part))
            else:
                assert (posted, self.held(part)) == (0, 0)

    @invariant()
    def the_journal_adds_up(self) -> None:
        assert ledger.verify().differences == ()
        sides: dict[int, int] = {}
        for row in Transfer.objects.all():
            sides[row.debit_account_id] = sides.get(row.debit_account_id, 0) - row.amount_nanos
            sides[row.credit_account_id] = sides.get(row.credit_account_id, 0) + row.amount_nanos
        assert sum(sides.values()) == 0

    @invariant()
    def lots_add_up_and_are_spent_in_order(self) -> None:
        found = [lot.remaining_nanos for lot in grants.lots(self.organization.pk)]
        assert found == [lot.rest for lot in self.in_order() if lot.rest]
        for row in Grant.objects.all():
            assert row.spent_nanos + row.expired_nanos <= row.amount_nanos

    @invariant()
    def nothing_but_a_dispute_overdraws(self) -> None:
        assert self.promo >= self.held(0)
        assert self.may_fall or self.free_wallet >= min(0, self.free_before)
        self.free_before, self.may_fall = self.free_wallet, False


def run(*, examples: int, steps: int) -> int:
    """How many steps were taken and found right."""
    Ledger.steps = 0
    quiet = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    chosen = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=quiet,
        phases=(Phase.generate,),  # making a failing history shorter takes minutes
    )
    run_state_machine_as_test(Ledger, settings=chosen)
    return Ledger.steps


def test_it_stays_exact_through_random_histories(db: None) -> None:
    assert run(examples=6, steps=30) >= 150


@pytest.mark.prove
def test_it_stays_exact_through_ten_thousand_random_steps(db: None) -> None:
    steps = run(examples=320, steps=50)
    assert steps >= 10_000
    print(f"T-02: {steps} random steps, each found exact: sums zero, balances, holds and lots as the model has them")
