"""What a month's movements are on a statement: one line for each kind, and of charges for each model and provider."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from billing import words
from core import money

# In the order of a statement; whatever else there is comes behind.
_ORDER = {kind: place for place, kind in enumerate(("top_up", "grant", "charge", "true_up", "refund", "refund_failed"))}
SECTIONS = {
    "top_ups": ("top_up",),
    "grants": ("grant", "grant_expired"),
    "charges": ("charge",),
    "credited_back": ("true_up",),
    "refunds": ("refund", "refund_failed"),
}


def fold(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Lines from (kind, provider, model, count, amount) rows, promo and wallet together."""
    sums: dict[tuple[str, str, str], tuple[int, int]] = {}
    for journal_kind, provider, model, count, amount_nanos in rows:
        key = (words.public(journal_kind), provider, model)
        before = sums.get(key, (0, 0))
        sums[key] = (before[0] + count, before[1] + amount_nanos)
    ordered = sorted(sums.items(), key=lambda entry: (_ORDER.get(entry[0][0], len(_ORDER)), entry[0]))
    return [
        {
            "kind": kind,
            "provider": provider or None,
            "model": model or None,
            "count": count,
            "amount": money.decimal(amount_nanos),
        }
        for (kind, provider, model), (count, amount_nanos) in ordered
    ]


def totals(lines: list[dict[str, Any]]) -> dict[str, int]:
    """The sections' sums in nanos; with `other` they are the whole change."""
    found = dict.fromkeys((*SECTIONS, "other"), 0)
    for line in lines:
        section = next((name for name, kinds in SECTIONS.items() if line["kind"] in kinds), "other")
        found[section] += money.nanos(line["amount"])
    return found
