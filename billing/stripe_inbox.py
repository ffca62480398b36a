"""The inbox of Stripe's events: each kept once, then acted on in a transaction of its own, as often as it takes.

An event is only a hint that something happened to an object. The object is fetched, and our books follow its state.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable

import structlog
from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone

from billing import ledger, payments, stripe_gateway, top_ups
from billing.stripe_facts import Event, Missing, Refused, Unclear
from billing.stripe_models import AutomaticTopUp, StripeCustomer, StripeEvent, TopUp

log = structlog.get_logger(__name__)

_SESSION_EVENTS = "checkout.session."
_WARNING_EVENTS = "radar.early_fraud_warning."
_PAYMENT_EVENTS = ("payment_intent.", "charge.", "refund.")
_PAUSES_S = (10, 60, 300, 1800)
_TRIES_MAX = 30


def store(event: Event) -> bool:
    """Put an event on record and commit; False when it was there already."""
    _, made = StripeEvent.objects.get_or_create(
        pk=event.id,
        defaults={
            "type": event.type,
            "livemode": event.livemode,
            "object_id": event.object_id,
            "payment_intent": event.intent_id,
            "created_at": dt.datetime.fromtimestamp(event.created_s, dt.UTC),
        },
    )
    return made


def process(event_id: str) -> bool:
    """Act on one event unless that is done; True when it is. What fails stays in the inbox and is tried again."""
    row = StripeEvent.objects.filter(pk=event_id).first()
    if row is None or row.state == "done":
        return row is not None
    try:
        act = _prepared(row)  # asks Stripe, with no transaction open
        with transaction.atomic():
            act()
            StripeEvent.objects.filter(pk=row.pk, state="received").update(
                state="done", processed_at=timezone.now(), error=""
            )
    except (Missing, Unclear, Refused, DatabaseError) as error:
        _later(row, f"{type(error).__name__}: {error}")
        return False
    except Exception as error:  # a mistake of ours must not lose an event: a person finds it here
        log.exception("an event of Stripe's could not be acted on", stripe_event=row.pk)
        _later(row, f"{type(error).__name__}: {error}")
        return False
    return True


def _later(row: StripeEvent, error: str) -> None:
    pause_s = _PAUSES_S[min(row.tries, len(_PAUSES_S) - 1)]
    StripeEvent.objects.filter(pk=row.pk, state="received").update(
        tries=F("tries") + 1, error=error[:300], next_try_at=timezone.now() + dt.timedelta(seconds=pause_s)
    )
    level = log.error if row.tries + 1 >= _TRIES_MAX else log.warning
    level("an event of Stripe's will be tried again", stripe_event=row.pk, type=row.type, error=error[:200])


def process_waiting(*, most: int = 200) -> int:
    """Act on what waits in the inbox; how many were done."""
    now = timezone.now()
    waiting = StripeEvent.objects.filter(state="received", tries__lt=_TRIES_MAX).order_by("received_at")
    # What just came in is being acted on by whoever took it.
    ready = waiting.filter(next_try_at__lte=now) | waiting.filter(
        next_try_at=None, received_at__lt=now - dt.timedelta(seconds=30)
    )
    return sum(process(pk) for pk in list(ready.values_list("pk", flat=True)[:most]))


def replay(event_id: str) -> bool:
    """Act on an event anew, done or not; True when that went well."""
    StripeEvent.objects.filter(pk=event_id).update(state="received", processed_at=None, tries=0, next_try_at=None)
    return process(event_id)


# --- what to do -------------------------------------------------------------------------------------------------------


def _prepared(row: StripeEvent) -> Callable[[], object]:
    """What acting on an event comes to, once everything it needs was fetched."""
    if row.type.startswith(_SESSION_EVENTS):
        session = stripe_gateway.session(row.object_id)
        if not session.intent_id:
            return lambda: payments.apply_session(session)
        return _payment(session.intent_id)
    if row.type.startswith(_WARNING_EVENTS):
        warning = stripe_gateway.warning(row.object_id)
        act = _payment(warning.intent_id)

        def freeze() -> None:
            act()
            heed(warning.id, warning.intent_id)

        return freeze
    if row.type.startswith(_PAYMENT_EVENTS):
        return _payment(_intent_of(row))
    if row.type == "payment_method.detached":
        return lambda: forget_card(row.object_id)
    return lambda: None  # of no concern to us


def _intent_of(row: StripeEvent) -> str:
    if row.type.startswith("payment_intent."):
        return row.object_id
    if row.payment_intent:
        return row.payment_intent
    return stripe_gateway.intent_of_charge(row.object_id) if row.object_id.startswith("ch_") else ""


def _payment(intent_id: str) -> Callable[[], object]:
    if not intent_id:
        return lambda: None  # a charge of another kind than we make
    payment = stripe_gateway.payment(intent_id)

    def act() -> None:
        payments.apply(payment)
        if payment.declines and payment.top_up:
            top_up = TopUp.objects.filter(pk=payment.top_up).first()
            if top_up is not None:
                transaction.on_commit(lambda: top_ups.lock_out(top_up))

    return act


def heed(warning_id: str, intent_id: str) -> bool:
    """Freeze the organization that a payment under suspicion went to, once; an operator takes it back."""
    mine = TopUp.objects.filter(payment_intent=intent_id, fraud_warning="")
    top_up = mine.first() if intent_id else None
    if top_up is None or mine.update(fraud_warning=warning_id) != 1:
        return False
    ledger.freeze(top_up.organization_id)
    log.error("a payment is under suspicion of fraud", top_up=top_up.word, organization=top_up.organization_id)
    return True


def forget_card(payment_method: str) -> None:
    """A saved card is gone: what it paid for automatically is switched off."""
    for customer in StripeCustomer.objects.filter(payment_method=payment_method):
        StripeCustomer.objects.filter(pk=customer.pk).update(
            payment_method="", card_brand="", card_last_four="", card_ends=""
        )
        AutomaticTopUp.objects.filter(organization=customer.organization_id, enabled=True).update(
            enabled=False, off_reason="The saved card was removed."
        )
