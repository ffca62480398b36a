"""Brings our books up to what Stripe says of a payment.

Order, lateness and repetition of events do not matter here: whatever happened is read from the objects, and each
movement is booked once under the id of what caused it.
"""

from __future__ import annotations

import uuid

import structlog
from django.db import transaction
from django.utils import timezone

from billing import automatic_state, ledger, returns, stripe_gateway, stripe_references
from billing.stripe_facts import Missing, Payment, SessionFact
from billing.stripe_models import UNFINISHED, StripeCustomer, TopUp, TopUpState
from core import money

log = structlog.get_logger(__name__)


def bring_up_to_date(intent_id: str) -> bool:
    """Fetch a payment and book what is not booked. True when something was. Raises Missing or Unclear."""
    found = stripe_gateway.payment(intent_id)
    with transaction.atomic():
        return apply(found)


def apply(payment: Payment) -> bool:
    """Book what a payment says, within the caller's transaction; True when something was."""
    if payment.top_up is None:
        return False  # the account is also used for something else
    top_up = TopUp.objects.select_for_update().filter(pk=payment.top_up).first()
    if top_up is None or (top_up.payment_intent not in ("", payment.id) and payment.status == "succeeded"):
        return _suspend(payment, "it names a top-up that we do not have, or that another payment paid")
    if top_up.payment_intent not in ("", payment.id):
        return False
    if payment.status == "succeeded" and payment.session and payment.session.payment_status == "unpaid":
        raise Missing("its session does not say yet that it is paid")
    before = _seen(top_up)
    top_up.payment_intent = payment.id
    top_up.declines = max(top_up.declines, payment.declines)
    if payment.session and not top_up.checkout_session and payment.session.top_up == top_up.pk:
        top_up.checkout_session = payment.session.id
    booked = False
    if payment.status == "succeeded":
        if top_up.state not in (TopUpState.PAID, TopUpState.UNEXPLAINED):
            booked = _credit(top_up, payment)
        booked |= _fee(top_up, payment)
        booked |= returns.apply(top_up, payment)
    elif top_up.state in UNFINISHED:
        _progress(top_up, payment)
    changed = _seen(top_up) != before
    if changed:
        top_up.save()
    return booked or changed


def _seen(top_up: TopUp) -> tuple[object, ...]:
    return tuple(getattr(top_up, field.attname) for field in top_up._meta.concrete_fields)


def bring_up_to_session(found: SessionFact) -> bool:
    """Book what a session says that nobody has tried to pay."""
    with transaction.atomic():
        return apply_session(found)


def apply_session(found: SessionFact) -> bool:
    """What a session says that nobody has tried to pay yet: that it is open, or over."""
    top_up = TopUp.objects.select_for_update().filter(pk=found.top_up).first() if found.top_up else None
    if top_up is None or top_up.checkout_session not in ("", found.id) or top_up.state not in UNFINISHED:
        return False
    top_up.checkout_session = found.id
    top_up.state = TopUpState.EXPIRED if found.status == "expired" else TopUpState.OPEN
    top_up.save(update_fields=["checkout_session", "state"])
    return True


# --- money that came --------------------------------------------------------------------------------------------------


def _credit(top_up: TopUp, payment: Payment) -> bool:
    """Credit the subtotal and keep its tax apart; what cannot be explained is credited to nobody."""
    wrong = _unexplained(top_up, payment)
    top_up.reference = stripe_references.of(payment.id)
    top_up.receipt_url = payment.charge.receipt_url if payment.charge else ""
    if wrong:
        top_up.state, top_up.failure = TopUpState.UNEXPLAINED, wrong[:64]
        return _suspend(payment, wrong)
    tax_nanos = stripe_references.nanos(payment.session.tax_cents) if payment.session else 0
    booked = ledger.post(
        "top_up",
        amount_nanos=top_up.amount_nanos,
        organization_id=top_up.organization_id,
        reference_type=stripe_references.TYPE,
        reference=top_up.reference,
        note=f"top-up {top_up.word}",
    )
    if tax_nanos:
        _post("top_up_tax", tax_nanos, top_up.reference, f"tax of top-up {top_up.word}")
    top_up.state, top_up.failure = TopUpState.PAID, ""
    top_up.credited_nanos, top_up.tax_nanos, top_up.paid_at = top_up.amount_nanos, tax_nanos, timezone.now()
    if payment.keeps_card and payment.charge and payment.payment_method:
        StripeCustomer.objects.filter(organization=top_up.organization_id, stripe_id=payment.customer).update(
            payment_method=payment.payment_method,
            card_brand=payment.charge.card_brand,
            card_last_four=payment.charge.card_last_four,
            card_ends=payment.charge.card_ends,
        )
    if top_up.origin == "automatic":
        automatic_state.succeeded(top_up)
    log.info("a top-up is paid", top_up=top_up.word, amount=money.decimal(top_up.amount_nanos))
    return booked


def _unexplained(top_up: TopUp, payment: Payment) -> str:
    """Why this money is not what was asked for; blank when it is."""
    session = payment.session
    if payment.livemode != stripe_gateway.livemode():
        return "it was made in another mode than our key's"
    customer = StripeCustomer.objects.filter(organization=top_up.organization_id).first()
    if customer is None or customer.stripe_id != payment.customer:
        return "another customer paid it"
    if (session is not None) != (top_up.origin == "checkout"):
        return "it was not paid the way it was asked for"
    if session is None:
        currency, subtotal_cents, total_cents = payment.currency, payment.received_cents, payment.received_cents
    else:
        currency, subtotal_cents, total_cents = session.currency, session.subtotal_cents, session.total_cents
        if session.id != top_up.checkout_session or session.payment_status != "paid":
            return "its session is another one, or not paid"
        if subtotal_cents + session.tax_cents != total_cents:
            return "its sums do not add up"
    if currency != stripe_gateway.CURRENCY or payment.currency != currency:
        return f"it is in {currency or 'no currency'}"[:64]
    if stripe_references.nanos(subtotal_cents) != top_up.amount_nanos or payment.received_cents != total_cents:
        return "its amount is another one than asked for"
    return ""


def _suspend(payment: Payment, why: str) -> bool:
    """Keep money that nobody can explain apart, in dollars as Stripe counted it, and call for a person."""
    charge = payment.charge
    in_dollars = charge is not None and charge.settled_currency == stripe_gateway.CURRENCY
    booked = False
    if payment.status == "succeeded" and charge is not None and in_dollars and charge.settled_cents > 0:
        booked = _post(
            "suspense",
            stripe_references.nanos(charge.settled_cents),
            stripe_references.of(payment.id),
            f"{payment.id}: {why}",
        )
    log.error("a payment cannot be explained", payment_intent=payment.id, why=why, booked=booked)
    return booked


def _fee(top_up: TopUp, payment: Payment) -> bool:
    """Stripe's fee, once its balance transaction says it."""
    charge = payment.charge
    if charge is None or not charge.fee_cents or top_up.fee_nanos or top_up.reference is None:
        return False
    if charge.settled_currency != stripe_gateway.CURRENCY:
        return False
    top_up.fee_nanos = stripe_references.nanos(charge.fee_cents)
    return _post("stripe_fee", top_up.fee_nanos, top_up.reference, f"fee of top-up {top_up.word}")


def _post(kind: str, amount_nanos: int, ref: uuid.UUID, note: str) -> bool:
    return ledger.post(kind, amount_nanos=amount_nanos, reference_type=stripe_references.TYPE, reference=ref, note=note)


# --- money that has not come ------------------------------------------------------------------------------------------


def _progress(top_up: TopUp, payment: Payment) -> None:
    """Where an unpaid top-up stands. A declined card at the checkout page ends nothing: there may be another card."""
    session = payment.session
    if top_up.origin == "checkout":
        if session is not None and session.status == "expired":
            top_up.state = TopUpState.EXPIRED
        elif payment.status == "processing":
            top_up.state = TopUpState.PROCESSING
        elif (session is not None and session.status == "complete") or payment.status == "canceled":
            top_up.state, top_up.failure = TopUpState.FAILED, payment.error_code[:64]
        else:
            top_up.state = TopUpState.OPEN
        return
    if payment.status == "processing":
        top_up.state = TopUpState.PROCESSING
    elif payment.status != "canceled" and (
        payment.status == "requires_action" or payment.error_code == "authentication_required"
    ):
        if top_up.state != TopUpState.ACTION:
            top_up.state = TopUpState.ACTION
            automatic_state.wants_action(top_up)
    elif payment.status in ("requires_payment_method", "canceled"):
        top_up.state, top_up.failure = TopUpState.FAILED, (payment.error_code or payment.status)[:64]
        automatic_state.failed(top_up)
