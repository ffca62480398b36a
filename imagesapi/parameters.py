"""Reading one parameter at a time from what a caller sent; every refusal names it and says what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from core import api, errors, money

SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})", re.ASCII)
RATIO = re.compile(r"([1-9]\d?):([1-9]\d?)", re.ASCII)
NUMBER_END = 2**63
WORD = re.compile(r"[a-z0-9_.-]{1,32}", re.ASCII)
METADATA_MAX_KEYS = 16
_GUARDS = {"dryrun": "dryRun", "maxcost": "max_cost"}
METADATA_KEY_MAX_CHARS = 64
METADATA_VALUE_MAX_CHARS = 512

Asked = Mapping[str, Any]


def kind(value: object) -> str:
    """A JSON value's type in words."""
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def wrong_type(name: str, value: object, wanted: str) -> errors.InvalidRequest:
    """The refusal of a value of the wrong type."""
    return errors.InvalidRequest(
        f"'{name}' must be {wanted}, and {kind(value)} was sent.", param=name, code="invalid_type"
    )


def words_of(allowed: tuple[str, ...]) -> str:
    """A list for people: 'a', 'b' or 'c'."""
    quoted = [f"'{word}'" for word in allowed]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def refuse_misspelled_guard(name: str) -> None:
    """Raise UnknownParameter for what is nearly the name of a parameter that keeps a request from costing too much.

    Other names that nobody knows are passed on or left out, and told; left out, one of these would be paid for.
    """
    meant = _GUARDS.get(name.lower().replace("_", "").replace("-", ""))
    if meant not in (None, name):
        raise errors.UnknownParameter(f"There is no parameter {name[:60]!r}; it is {meant!r}.", param=name[:60])


def refuse_unstorable(value: Any, name: str = "", level: int = 1) -> None:
    """PostgreSQL stores no NUL character and nobody writes endless nesting; refuse them wherever they hide."""
    if level > api.LEVELS_MAX:
        raise errors.MalformedBody(f"The body is nested deeper than the {api.LEVELS_MAX} levels that are taken.")
    if isinstance(value, str):
        if "\x00" in value:
            raise errors.InvalidRequest("Text must not contain the NUL character.", param=name[:64] or None)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            refuse_unstorable(key, name, level)
            refuse_unstorable(inner, name or key, level + 1)
    elif isinstance(value, list):
        for inner in value:
            refuse_unstorable(inner, name, level + 1)


def refuse_huge_numbers(value: Any, name: str) -> None:
    """PostgreSQL gives 1e30 back with thirty digits, which no 64 bits hold. What we know by name has bounds anyway."""
    if isinstance(value, int | float):
        if abs(value) >= NUMBER_END:
            raise errors.InvalidRequest(f"The numbers in '{name[:64]}' must fit into 64 bits.", param=name[:64])
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            refuse_huge_numbers(inner, name)


def integer(asked: Asked, name: str, *, lowest: int, highest: int, default: int) -> int:
    value = asked.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(name, value, f"an integer from {lowest} to {highest}")
    if not lowest <= value <= highest:
        raise errors.InvalidRequest(f"'{name}' must be from {lowest} to {highest}, and {value} was sent.", param=name)
    return value


def boolean(asked: Asked, name: str) -> bool:
    value = asked.get(name, False)
    if not isinstance(value, bool):
        raise wrong_type(name, value, "true or false")
    return value


def choice(asked: Asked, name: str, allowed: tuple[str, ...]) -> str | None:
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a string")
    if value not in allowed:
        raise errors.InvalidRequest(
            f"'{name}' must be one of {words_of(allowed)}, and {value[:40]!r} was sent.", param=name
        )
    return value


def word(asked: Asked, name: str) -> str | None:
    """A value whose allowed words depend on the model; only its form is checked here."""
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a string")
    if not WORD.fullmatch(value):
        raise errors.InvalidRequest(f"'{name}' must be a word such as 'auto'.", param=name)
    return value


def text(asked: Asked, name: str, *, max_chars: int) -> str | None:
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a string")
    if len(value) > max_chars:
        raise errors.InvalidRequest(
            f"'{name}' has {len(value)} characters; at most {max_chars} are allowed.",
            param=name,
            code="string_above_max_length",
        )
    return value


def size(asked: Asked) -> str | None:
    """ "WIDTHxHEIGHT", a ratio "W:H", or "auto"."""
    value = asked.get("size")
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type("size", value, "a string such as '1024x1024', '16:9' or 'auto'")
    if value != "auto" and not SIZE.fullmatch(value) and not RATIO.fullmatch(value):
        raise errors.InvalidRequest(
            "'size' must be WIDTHxHEIGHT in pixels, such as '1024x1024', a ratio such as '16:9', or 'auto', and "
            f"{value[:40]!r} was sent.",
            param="size",
        )
    return value


def ratio(asked: Asked, name: str) -> str | None:
    """A ratio "W:H"."""
    value = asked.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise wrong_type(name, value, "a ratio such as '16:9' or '1:1'")
    if not RATIO.fullmatch(value):
        raise errors.InvalidRequest(f"'{name}' must be a ratio such as '16:9' or '1:1'.", param=name)
    return value


def metadata(asked: Asked) -> Mapping[str, str]:
    value = asked.get("metadata")
    if value is None:
        return {}
    rule = (
        f"'metadata' must be an object of at most {METADATA_MAX_KEYS} strings, keys of 1 to {METADATA_KEY_MAX_CHARS} "
        f"and values up to {METADATA_VALUE_MAX_CHARS} characters."
    )
    if not isinstance(value, dict):
        raise wrong_type("metadata", value, f"an object of at most {METADATA_MAX_KEYS} strings")
    if len(value) > METADATA_MAX_KEYS:
        raise errors.InvalidRequest(rule, param="metadata")
    for key, inner in value.items():
        fits = isinstance(inner, str) and len(inner) <= METADATA_VALUE_MAX_CHARS
        if not fits or not 0 < len(key) <= METADATA_KEY_MAX_CHARS:
            raise errors.InvalidRequest(rule, param="metadata")
    return value


def max_cost_nanos(asked: Asked, header: str | None) -> int | None:
    """The most a request may cost, in nano-USD, from the body or from the header X-Max-Cost."""
    name = "max_cost" if "max_cost" in asked else "X-Max-Cost"
    value = asked.get("max_cost", header)
    if value is None:
        return None
    rule = f"'{name}' must be a positive amount of dollars with at most 9 decimal places, such as 0.05."
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise errors.InvalidRequest(rule, param=name, code="invalid_type")
    try:
        nanos = money.nanos_from_json(value)
    except ValueError as error:
        raise errors.InvalidRequest(rule, param=name) from error
    if nanos <= 0:
        raise errors.InvalidRequest(rule, param=name)
    return nanos
