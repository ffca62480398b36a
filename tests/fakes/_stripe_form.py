"""Stripe's way of writing nested values into a form: `line_items[0][price_data][currency]=usd`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

_STEPS = re.compile(r"\[([^\]]*)\]")


def decode(text: str) -> dict[str, Any]:
    """The values of a form or a query string; lists are written with numbers or empty brackets."""
    found: dict[str, Any] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, _, rest = name.partition("[")
        steps = [head, *_STEPS.findall(f"[{rest}" if rest else "")]
        _put(found, steps, value)
    return {name: _lists(value) for name, value in found.items()}


def _put(into: dict[str, Any], steps: list[str], value: str) -> None:
    for step in steps[:-1]:
        into = into.setdefault(step or str(len(into)), {})
    into[steps[-1] or str(len(into))] = value


def _lists(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _lists(item) for name, item in value.items()}
    if inner and all(name.isdigit() for name in inner):
        return [inner[name] for name in sorted(inner, key=int)]
    return inner
