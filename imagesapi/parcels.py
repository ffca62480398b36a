"""How the workshop and its children talk: a parcel is some words and some bytes, each with its length before it."""

from __future__ import annotations

import struct

_HEAD = struct.Struct("!IQ")
HEAD_BYTES = _HEAD.size


def head(words: tuple[str, ...], data_bytes: int) -> bytes:
    """What comes before the bytes of a parcel: both lengths, then the words. No word is empty or holds a blank."""
    text = " ".join(words).encode("ascii")
    return _HEAD.pack(len(text), data_bytes) + text


def lengths(found: bytes) -> tuple[int, int]:
    """Of the first HEAD_BYTES bytes: how many bytes the words have, and the data."""
    words_bytes, data_bytes = _HEAD.unpack(found)
    return words_bytes, data_bytes
