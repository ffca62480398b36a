"""What a key may be allowed to do, each as one word that views name and keys carry."""

from __future__ import annotations

from typing import Final

from core.errors import InvalidRequest

IMAGES: Final = "images"  # create images
REQUESTS: Final = "requests"  # read, cancel and purge requests and their images
USAGE: Final = "usage"  # read balance, usage and transactions
KEYS: Final = "keys"  # manage keys and own provider keys
WEBHOOKS: Final = "webhooks"  # manage webhooks

ALL: Final = (IMAGES, REQUESTS, USAGE, KEYS, WEBHOOKS)
# What a key is made with when nothing is said: everything but management.
DEFAULT: Final = (IMAGES, REQUESTS, USAGE)

WORDS: Final = {
    IMAGES: "make images",
    REQUESTS: "see requests and their images",
    USAGE: "see balance and usage",
    KEYS: "manage keys",
    WEBHOOKS: "manage webhooks",
}


def parse(document: object) -> tuple[str, ...]:
    """Scopes as a caller lists them, in the house's order. Raises InvalidRequest."""
    allowed = ", ".join(ALL)
    if not isinstance(document, list | tuple) or not all(isinstance(word, str) for word in document):
        raise InvalidRequest(f"'scopes' must be a list of words among {allowed}.", param="scopes", code="invalid_type")
    unknown = [word for word in document if word not in ALL]
    if unknown:
        raise InvalidRequest(f"There is no scope {unknown[0][:40]!r}; there are {allowed}.", param="scopes")
    if not document:
        raise InvalidRequest(f"A key needs at least one scope, among {allowed}.", param="scopes")
    return tuple(word for word in ALL if word in document)
