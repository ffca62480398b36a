"""The kinds of movements that an organization sees, as its API names them and as its pages say them."""

from __future__ import annotations

from typing import Final

# What the API and the pages call a kind, where the journal tells two accounts apart.
PUBLIC: Final = {"charge_promo": "charge", "true_up_promo": "true_up"}

WORDS: Final = {
    "charge": "Images",
    "top_up": "Top-up",
    "grant": "Credit granted",
    "grant_expired": "Granted credit expired",
    "true_up": "Credited back after the provider's bill",
    "refund": "Refund",
    "refund_outside": "Refund made at Stripe",
    "refund_failed": "Refund that failed, back again",
    "dispute": "Disputed payment withdrawn",
    "dispute_won": "Disputed payment returned",
    "forfeited": "Balance given up",
    "debt_written_off": "Debt written off",
}
KINDS: Final = tuple(WORDS)


def public(kind: str) -> str:
    """The kind as it is shown."""
    return PUBLIC.get(kind, kind)


def journal(kind: str) -> list[str]:
    """The kinds of the journal that are shown as this one."""
    return [kind, *(name for name, shown in PUBLIC.items() if shown == kind)]


def say(kind: str) -> str:
    """The kind in words, for people; one that has none yet is said as it is named."""
    shown = public(kind)
    return WORDS.get(shown, shown.replace("_", " ").capitalize())
