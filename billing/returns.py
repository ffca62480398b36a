"""Money that goes back: refunds by refund object, disputes by their balance transactions; never more than was paid."""

from __future__ import annotations

import uuid

import structlog

from billing import ledger, stripe_gateway, stripe_references
from billing.stripe_facts import DisputeFact, Payment, RefundFact
from billing.stripe_models import Dispute, Refund, RefundState, TopUp, TopUpState
from core import money

log = structlog.get_logger(__name__)

_GIVEN_UP = ("failed", "canceled")


def apply(top_up: TopUp, payment: Payment) -> bool:
    """Book each refund and dispute as far as it is not booked; the top-up's row is locked and saved by the caller."""
    if top_up.state == TopUpState.UNEXPLAINED:
        return _out_of_suspense(payment)
    booked = False
    # What came back first: it may have made the room for what was taken after that.
    for refund in payment.refunds:
        if refund.status in _GIVEN_UP:
            booked |= _refund(top_up, refund)
    for dispute in payment.disputes:
        if dispute.returned:
            booked |= _dispute(top_up, dispute)
    for refund in payment.refunds:
        if refund.status not in _GIVEN_UP:
            booked |= _refund(top_up, refund)
    for dispute in payment.disputes:
        if not dispute.returned:
            booked |= _dispute(top_up, dispute)
    return booked


def split(top_up: TopUp, gross_nanos: int) -> tuple[int, int]:
    """How much of what goes back, with tax, comes from the wallet and how much from the tax; the last part takes what
    is left of both, so that a top-up that went back whole leaves nothing."""
    gross_before_nanos = top_up.clawed_nanos + top_up.clawed_tax_nanos
    total_nanos = top_up.credited_nanos + top_up.tax_nanos
    gross_nanos = min(gross_nanos, total_nanos - gross_before_nanos)
    if top_up.tax_nanos == 0:
        return gross_nanos, 0
    cent = money.NANOS_PER_CENT
    tax_in_all_nanos = cent * money.divide_half_even(
        (gross_before_nanos + gross_nanos) * top_up.tax_nanos, total_nanos * cent
    )
    tax_nanos = min(max(tax_in_all_nanos - top_up.clawed_tax_nanos, 0), gross_nanos)
    amount_nanos = min(gross_nanos - tax_nanos, top_up.left_nanos)
    return amount_nanos, gross_nanos - amount_nanos


def claw(top_up: TopUp, kind: str, tax_kind: str, amounts: tuple[int, int], ref: uuid.UUID, note: str) -> bool:
    amount_nanos, tax_nanos = amounts
    top_up.clawed_nanos += amount_nanos
    top_up.clawed_tax_nanos += tax_nanos
    booked = _post(top_up, kind, amount_nanos, ref, note)
    return _post(top_up, tax_kind, tax_nanos, ref, note) or booked


def _give_back(top_up: TopUp, kind: str, tax_kind: str, amounts: tuple[int, int], ref: uuid.UUID, note: str) -> bool:
    amount_nanos, tax_nanos = amounts
    top_up.clawed_nanos -= amount_nanos
    top_up.clawed_tax_nanos -= tax_nanos
    booked = _post(top_up, kind, amount_nanos, ref, note)
    return _post(top_up, tax_kind, tax_nanos, ref, note) or booked


def _post(top_up: TopUp, kind: str, amount_nanos: int, ref: uuid.UUID, note: str) -> bool:
    if amount_nanos == 0:
        return False
    return ledger.post(
        kind,
        amount_nanos=amount_nanos,
        organization_id=top_up.organization_id,
        reference_type=stripe_references.TYPE,
        reference=ref,
        note=note,
    )


# --- refunds ----------------------------------------------------------------------------------------------------------


def _refund(top_up: TopUp, fact: RefundFact) -> bool:
    row = _row_of(top_up, fact)
    booked = False
    if row is None:
        if fact.status in _GIVEN_UP:
            return False
        row, booked = _made_outside(top_up, fact)
    if row.state == RefundState.FAILED:
        return booked
    state = {"succeeded": RefundState.SUCCEEDED, "failed": RefundState.FAILED, "canceled": RefundState.FAILED}.get(
        fact.status, RefundState.PENDING
    )
    if state == RefundState.FAILED:
        booked |= give_up(top_up, row)
    if (row.state, row.stripe_id) != (state, fact.id):
        row.state, row.stripe_id = state, fact.id
        row.save(update_fields=["state", "stripe_id"])
    return booked


def _row_of(top_up: TopUp, fact: RefundFact) -> Refund | None:
    found = top_up.refunds.filter(stripe_id=fact.id).first()
    if found is None and fact.own is not None:
        found = top_up.refunds.filter(pk=fact.own, stripe_id="").first()
    return found


def _made_outside(top_up: TopUp, fact: RefundFact) -> tuple[Refund, bool]:
    """A refund that somebody made at Stripe: the money is gone, whether the wallet still has it or not."""
    gross_nanos = stripe_references.nanos(fact.amount_cents)
    amount_nanos, tax_nanos = split(top_up, gross_nanos)
    row = Refund.objects.create(
        id=stripe_references.of(fact.id),
        top_up=top_up,
        stripe_id=fact.id,
        state=RefundState.PENDING,
        amount_nanos=amount_nanos,
        tax_nanos=tax_nanos,
    )
    note = f"refund {fact.id}"
    booked = claw(top_up, "refund_outside", "refund_tax", (amount_nanos, tax_nanos), row.pk, note)
    _excess(fact.id, gross_nanos - amount_nanos - tax_nanos)
    return row, booked


def give_up(top_up: TopUp, row: Refund) -> bool:
    """A refund that did not happen: its amounts are the customer's again. The caller sets its state."""
    amounts = (row.amount_nanos, row.tax_nanos)
    return _give_back(top_up, "refund_failed", "refund_tax_failed", amounts, row.pk, f"refund {row.stripe_id} failed")


# --- disputes ---------------------------------------------------------------------------------------------------------


def _dispute(top_up: TopUp, fact: DisputeFact) -> bool:
    """A warning or an inquiry moves nothing; funds withdrawn do, and funds reinstated give back what that took."""
    row, made = Dispute.objects.get_or_create(
        pk=fact.id, defaults={"top_up": top_up, "status": fact.status, "reason": fact.reason[:60]}
    )
    if made or row.status != fact.status:
        log.error("a payment is disputed", dispute=fact.id, status=fact.status, top_up=top_up.word)
    before = (row.status, row.bookings, row.returned)
    row.status = fact.status
    booked = False
    if fact.withdrawn and not row.returned:
        booked = _withdraw(top_up, row, fact)
    if fact.returned and not row.returned:
        amounts = (row.amount_nanos, row.tax_nanos)
        booked |= _give_back(
            top_up, "dispute_won", "dispute_tax_won", amounts, stripe_references.of(fact.id), f"dispute {fact.id} won"
        )
        if row.excess_nanos:
            _post(top_up, "suspense", row.excess_nanos, stripe_references.of(f"{fact.id}:excess"), "excess came back")
        row.returned = True
    if fact.fee_cents > 0:
        fee_nanos = stripe_references.nanos(fact.fee_cents)
        booked |= _post(top_up, "dispute_fee", fee_nanos, stripe_references.of(fact.id), f"fee of dispute {fact.id}")
    if made or (row.status, row.bookings, row.returned) != before:
        row.save()
    return booked


def _withdraw(top_up: TopUp, row: Dispute, fact: DisputeFact) -> bool:
    """Take what is not taken yet. A refund that failed later makes room for more: that is a further part."""
    wanted_nanos = stripe_references.nanos(fact.amount_cents) - row.amount_nanos - row.tax_nanos
    amounts = split(top_up, wanted_nanos)
    if sum(amounts) == 0 and row.bookings:
        return False
    part = fact.id if row.bookings == 0 else f"{fact.id}:{row.bookings}"
    booked = claw(top_up, "dispute", "dispute_tax", amounts, stripe_references.of(part), f"dispute {fact.id}")
    if row.bookings == 0:
        row.excess_nanos = wanted_nanos - sum(amounts)
        _excess(fact.id, row.excess_nanos)
    else:
        # What was beyond what we had got is now within it.
        _post(top_up, "suspense", sum(amounts), stripe_references.of(f"{part}:room"), f"dispute {fact.id}")
        row.excess_nanos -= sum(amounts)
    row.amount_nanos += amounts[0]
    row.tax_nanos += amounts[1]
    row.bookings += 1
    return booked


def _excess(stripe_id: str, excess_nanos: int) -> None:
    """What Stripe took beyond what came in with this payment is nobody's but ours to look at."""
    if excess_nanos > 0:
        ledger.post(
            "suspense_returned",
            amount_nanos=excess_nanos,
            reference_type=stripe_references.TYPE,
            reference=stripe_references.of(stripe_id),
            note=f"{stripe_id}: more than was paid",
        )
        log.error("more was taken back than was paid", object=stripe_id, excess=money.decimal(excess_nanos))


def _out_of_suspense(payment: Payment) -> bool:
    """Money that nobody could explain and that went back."""
    charge = payment.charge
    if charge is None or charge.settled_currency != stripe_gateway.CURRENCY:
        return False
    booked = False
    for fact in payment.refunds:
        if fact.currency == stripe_gateway.CURRENCY and fact.status not in ("failed", "canceled"):
            booked |= ledger.post(
                "suspense_returned",
                amount_nanos=stripe_references.nanos(fact.amount_cents),
                reference_type=stripe_references.TYPE,
                reference=stripe_references.of(fact.id),
                note=f"refund {fact.id}",
            )
    return booked
