"""Limits of a key: kept by the room that counts, which is above this one and makes itself known at start."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from accounts.models import ApiKey


class Keeper(Protocol):
    """Who knows what limits there are and keeps them."""

    def parse(self, document: object) -> Mapping[str, int]:
        """Limits as a caller writes them, each as the number that is counted to. Raises InvalidRequest."""

    def replace(self, key: ApiKey, wanted: Mapping[str, int]) -> None:
        """Make these the key's limits, and no others."""

    def of(self, key_ids: Collection[int]) -> Mapping[int, Mapping[str, Any]]:
        """Every limit of each key by name, None where there is none, as the API shows them."""

    def in_words(self, limits: Mapping[str, Any]) -> list[str]:
        """What a page says about a key's limits."""


_keepers: list[Keeper] = []


def register(keeper: Keeper) -> None:
    """Keep the limits of keys from now on; called once at start."""
    _keepers[:] = [keeper]


def keeper() -> Keeper:
    """Whoever keeps them."""
    return _keepers[0]
