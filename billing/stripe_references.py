"""How Stripe's ids and cents stand in our ledger."""

from __future__ import annotations

import uuid

from core import money

TYPE = "stripe"
_NAMESPACE = uuid.UUID("6f1c1d5e-3f0e-5b59-9a3a-5a2f6b0e7c11")


def of(stripe_id: str) -> uuid.UUID:
    """The ledger's reference for an object of Stripe's."""
    return uuid.uuid5(_NAMESPACE, stripe_id)


def nanos(cents: int) -> int:
    """Stripe's cents, exactly."""
    return cents * money.NANOS_PER_CENT


def cents(amount_nanos: int) -> int:
    """Whole cents; an amount with a part of one is a mistake of ours."""
    whole, rest = divmod(amount_nanos, money.NANOS_PER_CENT)
    if rest:
        raise ValueError(f"{amount_nanos} nano-dollars are not whole cents")
    return whole
