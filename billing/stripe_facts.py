"""What Stripe says of a payment, in our own words: plain values, cents as Stripe has them, no object of its package."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


class Unclear(Exception):
    """Stripe did not answer, or not sensibly: what was asked may have happened. Ask again with the same key."""


class Refused(Exception):
    """Stripe surely did not do it. `reason` is Stripe's code; `intent_id` the PaymentIntent that it left, if any."""

    def __init__(self, message: str, *, reason: str = "", intent_id: str = "") -> None:
        super().__init__(message)
        self.reason, self.intent_id = reason, intent_id


class Missing(Exception):
    """Stripe has no such object, or not yet: an event may be quicker than what it tells of."""


class BadSignature(Exception):
    """What claims to be an event is not one that Stripe signed for us just now."""


@dataclass(frozen=True, slots=True)
class Event:
    """The part of an event that is acted on; the object itself is fetched."""

    id: str
    type: str
    livemode: bool
    created_s: int
    object_id: str
    intent_id: str


@dataclass(frozen=True, slots=True)
class SessionFact:
    """A Checkout Session."""

    id: str
    status: str
    payment_status: str
    currency: str
    subtotal_cents: int
    tax_cents: int
    total_cents: int
    top_up: uuid.UUID | None
    customer: str
    intent_id: str
    livemode: bool
    url: str


@dataclass(frozen=True, slots=True)
class ChargeFact:
    """The charge of a payment; the fee is None until Stripe has booked it, and 0 with another currency than ours."""

    id: str
    receipt_url: str
    card_brand: str
    card_last_four: str
    card_ends: str
    fee_cents: int | None
    settled_cents: int
    settled_currency: str


@dataclass(frozen=True, slots=True)
class RefundFact:
    """One refund; `own` is the id of ours that asked for it."""

    id: str
    status: str
    currency: str
    amount_cents: int
    own: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class DisputeFact:
    """One dispute. Only its balance transactions say whether money went, and came back."""

    id: str
    status: str
    reason: str
    currency: str
    amount_cents: int
    withdrawn: bool
    returned: bool
    fee_cents: int


@dataclass(frozen=True, slots=True)
class Payment:
    """A PaymentIntent with all that happened to it since."""

    id: str
    status: str
    currency: str
    received_cents: int
    livemode: bool
    top_up: uuid.UUID | None
    customer: str
    payment_method: str
    keeps_card: bool
    # Why its last try failed; blank when none did.
    error_code: str
    declines: int
    charge: ChargeFact | None
    session: SessionFact | None
    refunds: tuple[RefundFact, ...]
    disputes: tuple[DisputeFact, ...]


@dataclass(frozen=True, slots=True)
class WarningFact:
    """An early fraud warning: the card's bank holds a payment for a fraud."""

    id: str
    intent_id: str


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a list, with as much as shows whether our books know it as it is."""

    kind: str
    id: str
    status: str
    intent_id: str
    created_s: int
