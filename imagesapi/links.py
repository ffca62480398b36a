"""Signed links to stored images: on our own host, unguessable, with a life; whoever has one may look."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Container

from django.conf import settings

from core import crypto, ids

_PURPOSE = "image-link"
# As `make` writes it: nothing doubled, added, or in another order, which two readers could take for two things.
_QUERY = re.compile(r"expires=(\d{1,12})&signature=([\w-]{43})", re.ASCII)


def make(image_id: uuid.UUID, *, expires_at_s: int) -> str:
    """An absolute link that works until `expires_at_s` (Unix seconds)."""
    word = ids.public("img", image_id)
    signature = crypto.sign(_PURPOSE, f"{word}:{expires_at_s}")
    return f"{settings.BASE_URL}/openai/v1/images/{word}/content?expires={expires_at_s}&signature={signature}"


def looks_signed(query: Container[str]) -> bool:
    """Whether an address means to be a link, even one that somebody shortened."""
    return "signature" in query or "expires" in query


def holds(word: str, *, query: str) -> bool:
    """Whether a link with this raw query string is ours, unchanged to the letter, and not yet over."""
    found = _QUERY.fullmatch(query)
    if found is None:
        return False
    expires, signature = found.groups()
    return crypto.verify(_PURPOSE, f"{word}:{expires}", signature) and time.time() < int(expires)
