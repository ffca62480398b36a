"""Signed links to stored images: on our own host, unguessable, with a life; whoever has one may look."""

from __future__ import annotations

import time
import uuid
from urllib.parse import urlencode

from django.conf import settings

from core import crypto, ids

_PURPOSE = "image-link"


def make(image_id: uuid.UUID, *, expires_at_s: int) -> str:
    """An absolute link that works until `expires_at_s` (Unix seconds)."""
    word = ids.public("img", image_id)
    query = urlencode({"expires": expires_at_s, "signature": crypto.sign(_PURPOSE, f"{word}:{expires_at_s}")})
    return f"{settings.BASE_URL}/openai/v1/images/{word}/content?{query}"


def holds(word: str, *, expires: str, signature: str) -> bool:
    """Whether a link is ours, unchanged, and not yet over."""
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
        return False
    # The number as written is signed: another spelling of the same second is another link.
    return crypto.verify(_PURPOSE, f"{word}:{expires}", signature) and time.time() < int(expires)
