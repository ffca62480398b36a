"""What a key may be allowed to do, each as one word that views name and keys carry."""

from __future__ import annotations

from typing import Final

IMAGES: Final = "images"  # create images
REQUESTS: Final = "requests"  # read, cancel and purge requests and their images
USAGE: Final = "usage"  # read balance, usage and transactions
KEYS: Final = "keys"  # manage keys and own provider keys
WEBHOOKS: Final = "webhooks"  # manage webhooks

ALL: Final = (IMAGES, REQUESTS, USAGE, KEYS, WEBHOOKS)
# What a key is made with when nothing is said: everything but management.
DEFAULT: Final = (IMAGES, REQUESTS, USAGE)
