"""Identifiers: time-ordered UUIDs inside, short prefixed words outside (`req_…`, `img_…`)."""

from __future__ import annotations

import base64
import functools
import os
import secrets
import time
import uuid

# Crockford's alphabet in lower case: no i, l, o, u, so an id can be read aloud and typed.
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_VALUES = {letter: value for value, letter in enumerate(_ALPHABET)}
_ENCODED_LENGTH = 26
# The standard library's base 32 speaks RFC 4648's alphabet, in groups of 40 bits.
_FROM_RFC = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", _ALPHABET.encode())
_GROUPED_BYTES = 20


def new() -> uuid.UUID:
    """A version 7 UUID (RFC 9562): rows made later sort later, so lists page by id alone."""
    value = (time.time_ns() // 1_000_000) << 80
    value |= int.from_bytes(os.urandom(10), "big")
    value &= ~(0xF << 76) & ~(0x3 << 62)
    value |= (0x7 << 76) | (0x2 << 62)
    return uuid.UUID(int=value)


def made_at_ms(value: uuid.UUID) -> int:
    """When a version 7 UUID was made, in milliseconds since 1970."""
    return value.int >> 80


def first_of(moment_ms: int) -> uuid.UUID:
    """What sorts before every id made at this millisecond or later, and after every earlier one."""
    return uuid.UUID(int=min(max(moment_ms, 0), (1 << 48) - 1) << 80)


@functools.lru_cache(maxsize=4096)
def public(prefix: str, value: uuid.UUID) -> str:
    """The word shown outside, `prefix` + `_` + 26 characters that sort as the UUID does."""
    grouped = base64.b32encode(value.int.to_bytes(_GROUPED_BYTES, "big")).translate(_FROM_RFC)
    return f"{prefix}_{grouped[-_ENCODED_LENGTH:].decode()}"


def parse(prefix: str, word: str) -> uuid.UUID | None:
    """The UUID of a public word, or None when it is not one of ours: a malformed id is simply not found."""
    head, _, body = word.partition("_")
    if head != prefix or len(body) != _ENCODED_LENGTH or not body.isascii():
        return None
    number = 0
    for letter in body:
        value = _VALUES.get(letter)
        if value is None:
            return None
        number = number * 32 + value
    return uuid.UUID(int=number) if number < 1 << 128 else None


def pattern(prefix: str) -> str:
    """The regular expression of such words: of five bits each, the first letter has three."""
    return f"^{prefix}_[{_ALPHABET[:8]}][{_ALPHABET}]{{{_ENCODED_LENGTH - 1}}}$"


def token(length: int) -> str:
    """A random word of `length` characters, 5 bits each."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
