"""What Django's test client was answered, whole."""

from __future__ import annotations

from typing import Any


def read(response: Any) -> bytes:
    """A body, streamed or not."""
    return b"".join(response.streaming_content) if response.streaming else bytes(response.content)
