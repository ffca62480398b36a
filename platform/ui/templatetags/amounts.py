"""Money as people read it, always with its unit."""

from __future__ import annotations

from django import template

from core import money

register = template.Library()


@register.filter
def dollars(amount_nanos: int | None) -> str:
    """Nano-USD as exact dollars: "$0.01088", "-$1.50"; a dash for what has no amount."""
    if amount_nanos is None:
        return "–"
    text = money.decimal(abs(amount_nanos))
    whole, _, fraction = text.partition(".")
    return f"{'-' if amount_nanos < 0 else ''}${int(whole):,}.{fraction}"
