"""Compares Stripe's own lists with our books, and brings in what a lost event left out."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass

import structlog
from django.utils import timezone

from billing import payments, refunds, stripe_gateway, stripe_inbox
from billing.stripe_facts import Listed, Missing, Refused, Unclear
from billing.stripe_models import Dispute, Refund, StripeCustomer, TopUp, TopUpState

log = structlog.get_logger(__name__)

HOURS = 72
# Younger than this an event may still be on its way.
GRACE_S = 600
_SESSION_IS_OVER = dt.timedelta(hours=3)


@dataclass(frozen=True, slots=True)
class Report:
    """How many of Stripe's objects were looked at, and what our books had not known."""

    seen: int
    found: tuple[str, ...]


def reconcile(*, hours: int = HOURS, grace_s: int = GRACE_S) -> Report:
    """Look at everything that Stripe made in the last hours; alert about what had to be booked. Raises Unclear."""
    now_s = int(time.time())
    seen, found = 0, []
    for listed in stripe_gateway.lately(since_s=now_s - hours * 3600):
        seen += 1
        if listed.created_s <= now_s - grace_s and not _known(listed) and _bring_in(listed):
            found.append(f"{listed.kind} {listed.id}")
    _unfinished(grace_s)
    refunds.send_again()
    stripe_inbox.process_waiting()
    if found:
        log.error("events of Stripe's were lost; their objects are booked now", found=found)
    return Report(seen=seen, found=tuple(found))


def _known(listed: Listed) -> bool:
    """Whether our books have an object in the state that the list shows."""
    match listed.kind:
        case "payment":
            known = TopUp.objects.filter(payment_intent=listed.id)
            if listed.status == "succeeded":
                known = known.filter(state__in=[TopUpState.PAID, TopUpState.UNEXPLAINED])
            return known.exists()
        case "refund":
            states = {"succeeded": ["succeeded"], "failed": ["failed"], "canceled": ["failed"]}
            known_refund = Refund.objects.filter(stripe_id=listed.id)
            return known_refund.filter(state__in=states.get(listed.status, ["pending"])).exists()
        case "dispute":
            return Dispute.objects.filter(pk=listed.id, status=listed.status).exists()
    return TopUp.objects.filter(fraud_warning=listed.id).exists()


def _bring_in(listed: Listed) -> bool:
    try:
        intent_id = listed.intent_id
        if listed.kind == "warning":
            intent_id = stripe_gateway.warning(listed.id).intent_id
        booked = payments.bring_up_to_date(intent_id) if intent_id else False
    except (Missing, Refused, Unclear) as error:
        log.warning("an object of Stripe's could not be looked at", object=listed.id, error=str(error))
        return False
    return stripe_inbox.heed(listed.id, intent_id) if listed.kind == "warning" else booked


def _unfinished(grace_s: int) -> None:
    """Top-ups of ours that have no end: their sessions may be over, or were made without our hearing of it."""
    before = timezone.now() - dt.timedelta(seconds=grace_s)
    waiting = TopUp.objects.filter(
        origin="checkout", state__in=[TopUpState.CREATED, TopUpState.OPEN, TopUpState.PROCESSING], created_at__lt=before
    )
    for top_up in waiting.order_by("id")[:200]:
        try:
            _finish(top_up)
        except (Missing, Refused, Unclear) as error:
            log.warning("a top-up could not be looked at", top_up=top_up.word, error=str(error))


def _finish(top_up: TopUp) -> None:
    session = None
    if top_up.checkout_session:
        session = stripe_gateway.session(top_up.checkout_session)
    else:
        customer = StripeCustomer.objects.filter(organization=top_up.organization_id).exclude(stripe_id="").first()
        if customer is not None:
            session = stripe_gateway.lost_session(customer=customer.stripe_id, top_up=top_up.pk)
    if session is None:
        if top_up.created_at < timezone.now() - _SESSION_IS_OVER:
            TopUp.objects.filter(pk=top_up.pk, state=TopUpState.CREATED).update(state=TopUpState.EXPIRED)
    elif session.intent_id:
        payments.bring_up_to_date(session.intent_id)
    else:
        payments.bring_up_to_session(session)
