"""Integers for money: amounts in nano-USD, unit prices in pico-USD, quantities in micro-units; no float, no Decimal."""

from __future__ import annotations

import re
from collections.abc import Sequence

NANOS_PER_USD = 1_000_000_000
NANOS_PER_MICRO = 1_000
NANOS_PER_CENT = 10_000_000
PICOS_PER_USD = 1_000_000_000_000
PICOS_PER_NANO = 1_000
MICROS_PER_UNIT = 1_000_000
# What a signed 64-bit column holds, a good 9.2 billion dollars.
MAX_NANOS = 2**63 - 1

_NUMBER = re.compile(r"([+-]?)(\d{1,30})(?:\.(\d{1,60}))?(?:[eE]([+-]?\d{1,3}))?", re.ASCII)
_DECIMAL = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,12}))?", re.ASCII)


def divide_half_even(numerator: int, denominator: int) -> int:
    """Round a quotient to the nearest integer, ties to the even one; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient % 2):
        quotient += 1
    return quotient


def round_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is not below `value`."""
    return -(-value // step) * step


def share(total: int, weights: Sequence[int]) -> list[int]:
    """Divide an amount in proportion to weights, in whole units that add up to it: the largest remainders, and of equal
    ones the first, are rounded up. No part is above its weight unless the total is above their sum."""
    whole = sum(weights)
    if not whole:
        raise ValueError("there is nothing to divide by")
    parts, rests = zip(*(divmod(total * weight, whole) for weight in weights), strict=True)
    order = sorted(range(len(weights)), key=lambda place: (-rests[place], place))
    raised = set(order[: total - sum(parts)])
    return [part + (place in raised) for place, part in enumerate(parts)]


def _parse(text: str, per_usd: int) -> int:
    match = _DECIMAL.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a decimal amount of dollars: {text!r}")
    sign, whole, fraction = match.groups()
    digits = len(str(per_usd)) - 1
    fraction = fraction or ""
    if len(fraction.rstrip("0")) > digits:
        raise ValueError(f"more than {digits} decimal places: {text!r}")
    value = int(whole) * per_usd + int(fraction[:digits].ljust(digits, "0"))
    return -value if sign else value


def nanos(text: str) -> int:
    """Dollars written as a decimal string ("5", "0.011") to nano-USD; ValueError for anything else."""
    value = _parse(text, NANOS_PER_USD)
    if abs(value) > MAX_NANOS:
        raise ValueError(f"too large: {text!r}")
    return value


def nanos_from_json(value: object) -> int:
    """Dollars as a JSON document holds them, a string or a number, to nano-USD; ValueError for anything else.

    A number that is no integer was read as a double; written out it is what the caller wrote, and becomes an integer
    before anything computes.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("not an amount of dollars")
    written = format(value, ".12f").rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return nanos(written)


def picos(text: str) -> int:
    """Dollars written as a decimal string to pico-USD, for unit prices; ValueError for anything else."""
    return _parse(text, PICOS_PER_USD)


def _decimal(value: int, places: int) -> str:
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).zfill(places + 1)
    return f"{sign}{digits[:-places]}.{digits[-places:].rstrip('0').ljust(2, '0')}"


def decimal(amount_nanos: int) -> str:
    """Nano-USD as a decimal string of dollars with at least two places: 10_880_000 is "0.01088", 5e9 is "5.00"."""
    return _decimal(amount_nanos, 9)


def decimal_picos(price_picos: int) -> str:
    """Pico-USD as a decimal string of dollars, every digit kept: 40_000_000 is "0.00004"."""
    return _decimal(price_picos, 12)


def decimal_attos(amount_attos: int) -> str:
    """10^-18 dollars (micro-units times pico-USD, exact before rounding) as a decimal string, every digit kept."""
    return _decimal(amount_attos, 18)


def json_number(amount_nanos: int) -> float:
    """Nano-USD as the JSON number of dollars that some answer fields must be.

    The nearest double prints back as the same decimal up to 15 digits, and nothing computes with it afterwards.
    """
    return float(decimal(amount_nanos))


def micros_up(amount_nanos: int) -> int:
    """Nano-USD to micro-USD, rounded up: what a dry run states never falls below what is meant."""
    return -(-amount_nanos // NANOS_PER_MICRO)


def nearest_nanos(text: str) -> int:
    """Dollars as others write them, with an exponent or more places than we keep, to the nearest nano-USD (ties to the
    even one); ValueError for anything that is no decimal number."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an amount of dollars: {text[:40]!r}")
    sign, whole, fraction, exponent = match.groups()
    digits, places = int(whole + (fraction or "")), len(fraction or "") - int(exponent or 0)
    value = digits * 10 ** (9 - places) if places <= 9 else divide_half_even(digits, 10 ** (places - 9))
    if value > MAX_NANOS:
        raise ValueError(f"too large: {text[:40]!r}")
    return -value if sign == "-" else value
