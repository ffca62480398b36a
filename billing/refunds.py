"""Sending unspent paid credit back to the cards it came from: taken from the wallet first, then asked of Stripe."""

from __future__ import annotations

import datetime as dt
import uuid
from dataclasses import dataclass

import structlog
from django.db import transaction
from django.utils import timezone

from accounts.models import Organization, User
from billing import ledger, returns, stripe_gateway, stripe_references
from billing.stripe_facts import Missing, Refused, Unclear
from billing.stripe_models import Refund, RefundState, TopUp, TopUpState
from core import errors, money

log = structlog.get_logger(__name__)

# A refund whose answer was lost is asked for again after this time.
_AGAIN_AFTER = dt.timedelta(seconds=60)
_CLOSING = uuid.UUID("7d0b3c1e-5d0a-4e0e-9b7d-6c2f3f5a1c90")


@dataclass(frozen=True, slots=True)
class Unspent:
    """What can be sent back now, or why nothing can."""

    amount_nanos: int
    why_not: str = ""


def unspent(organization: Organization) -> Unspent:
    """Paid credit that is neither spent nor held, as far as the payments it came with can still be refunded."""
    if ledger.is_frozen(organization.pk):
        return Unspent(0, "The balance is frozen.")
    free_nanos = ledger.unspent_paid_nanos(organization.pk)
    if free_nanos < 0:
        return Unspent(0, "The balance is in debt.")
    left_nanos = sum(top_up.left_nanos for top_up in _refundable(organization))
    found_nanos = min(free_nanos, left_nanos)
    return Unspent(found_nanos - found_nanos % money.NANOS_PER_CENT)


def _refundable(organization: Organization, *, lock: bool = False) -> list[TopUp]:
    """Paid top-ups with something left, the newest first: banks take refunds of young payments best."""
    found = TopUp.objects.filter(organization=organization, state=TopUpState.PAID).order_by("-id")
    disputed = set(
        TopUp.objects.filter(organization=organization, disputes__returned=False, disputes__bookings__gt=0).values_list(
            "pk", flat=True
        )
    )
    rows = list(found.select_for_update() if lock else found)
    return [row for row in rows if row.left_nanos > 0 and row.pk not in disputed]


def ask(organization: Organization, *, user: User, amount_nanos: int, key: uuid.UUID) -> list[Refund]:
    """Take an amount from the wallet and send it back to the newest payments, once per `key`. Raises InvalidRequest."""
    if not stripe_gateway.configured():
        raise errors.InvalidRequest("Refunds are made by this server's operator.")
    with transaction.atomic():
        rows = _booked(organization, user, amount_nanos, key)
    for row in rows:
        send(row)
    return rows


def _booked(organization: Organization, user: User, amount_nanos: int, key: uuid.UUID) -> list[Refund]:
    top_ups = _refundable(organization, lock=True)
    if Refund.objects.filter(top_up__organization=organization, pk__in=[_row_id(key, it) for it in top_ups]).exists():
        raise errors.InvalidRequest("This refund was asked for already.", param="amount")
    most = unspent(organization)
    if most.why_not:
        raise errors.InvalidRequest(f"{most.why_not} Nothing can be refunded until that is resolved.", param="amount")
    if not 0 < amount_nanos <= most.amount_nanos or amount_nanos % money.NANOS_PER_CENT:
        raise errors.InvalidRequest(
            f"A refund is an amount in whole cents of at most ${money.decimal(most.amount_nanos)}, the paid credit "
            "that is not spent.",
            param="amount",
        )
    rows = []
    for top_up in top_ups:
        part_nanos = min(top_up.left_nanos, amount_nanos)
        if part_nanos == 0:
            break
        rows.append(_book(top_up, part_nanos, user=user, row_id=_row_id(key, top_up)))
        amount_nanos -= part_nanos
    return rows


def of_closed(organization: Organization, amount_nanos: int) -> int:
    """Send back what a closed organization has left, as far as its payments can be refunded; how much was booked.

    Its balance is frozen for good, which keeps it from whoever could spend it and not from whoever paid it. Each
    payment is asked once: what Stripe refuses stays in the wallet, and is owed.
    """
    if not stripe_gateway.configured():
        return 0
    rows = []
    with transaction.atomic():
        left_nanos = amount_nanos - amount_nanos % money.NANOS_PER_CENT
        for top_up in _refundable(organization, lock=True):
            row_id, part_nanos = _row_id(_CLOSING, top_up), min(top_up.left_nanos, left_nanos)
            if part_nanos > 0 and not Refund.objects.filter(pk=row_id).exists():
                rows.append(_book(top_up, part_nanos, user=None, row_id=row_id))
                left_nanos -= part_nanos
    for row in rows:
        send(row)
    return sum(row.amount_nanos for row in rows)


def _row_id(key: uuid.UUID, top_up: TopUp) -> uuid.UUID:
    return uuid.uuid5(key, str(top_up.pk))


def _book(top_up: TopUp, amount_nanos: int, *, user: User | None, row_id: uuid.UUID) -> Refund:
    tax_nanos = top_up.tax_nanos - top_up.clawed_tax_nanos
    if amount_nanos < top_up.left_nanos:  # its share of the tax, in whole cents
        share_cents = money.divide_half_even(
            amount_nanos * top_up.tax_nanos, top_up.credited_nanos * money.NANOS_PER_CENT
        )
        tax_nanos = min(tax_nanos, stripe_references.nanos(share_cents))
    row = Refund.objects.create(
        id=row_id, top_up=top_up, created_by=user, amount_nanos=amount_nanos, tax_nanos=tax_nanos
    )
    try:
        returns.claw(top_up, "refund", "refund_tax", (amount_nanos, tax_nanos), row.pk, f"refund of {top_up.word}")
    except ledger.NotThere as error:
        raise errors.InvalidRequest("That much of the paid credit is not there any more.", param="amount") from error
    top_up.save(update_fields=["clawed_nanos", "clawed_tax_nanos"])
    return row


def send(row: Refund) -> None:
    """Ask Stripe for a refund that is booked. Refused: it is the customer's again. Unclear: asked again later."""
    top_up = row.top_up
    gross_cents = stripe_references.cents(row.amount_nanos + row.tax_nanos)
    try:
        stripe_id = stripe_gateway.refund(key=row.pk, intent_id=top_up.payment_intent, cents=gross_cents)
    except Unclear as error:
        log.warning("a refund is unclear and will be asked for again", refund=str(row.pk), error=str(error))
        return
    except (Refused, Missing) as error:
        log.error("Stripe refuses a refund", refund=str(row.pk), error=str(error))
        _refused(row)
        return
    Refund.objects.filter(pk=row.pk, state=RefundState.ASKED).update(state=RefundState.PENDING, stripe_id=stripe_id)


def _refused(row: Refund) -> None:
    with transaction.atomic():
        top_up = TopUp.objects.select_for_update().get(pk=row.top_up_id)
        if Refund.objects.filter(pk=row.pk, state=RefundState.ASKED).update(state=RefundState.FAILED) == 1:
            returns.give_up(top_up, row)
            top_up.save(update_fields=["clawed_nanos", "clawed_tax_nanos"])


def send_again() -> int:
    """Ask anew for every refund whose answer never came, always under its own key; how many."""
    waiting = Refund.objects.filter(state=RefundState.ASKED, created_at__lt=timezone.now() - _AGAIN_AFTER)
    rows = list(waiting.select_related("top_up").order_by("id")[:100])
    for row in rows:
        send(row)
    return len(rows)
