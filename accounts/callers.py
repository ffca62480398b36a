"""Who an API request acts for: one immutable value, filled by a single query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accounts.rules import KeyRules
from core.errors import PermissionDenied

_NAME = re.compile(r"[a-z][a-z_]*")

_facts: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated API key with what every request needs to know of its organization."""

    organization_id: int
    organization_slug: str
    key_id: int
    key_public_id: str
    created_by_id: int | None
    default_response_format: str  # "url", "b64_json", or "" for both
    link_life_minutes: int
    scopes: frozenset[str]
    rules: KeyRules
    # The key's as it was read: statements that spend in its name compare it (accounts.keys.STILL_VALID).
    key_version: int
    # What other rooms asked to be read in the same query, by name.
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def catalogue_version(self) -> int:
        """The number of the catalogue at the time of the request; 0 before there is one."""
        return self.facts.get("catalogue_version") or 0

    def require(self, scope: str) -> None:
        """Raise PermissionDenied unless the key has this scope."""
        if scope not in self.scopes:
            raise PermissionDenied(
                f"This needs a key with the scope {scope!r}; this one has {', '.join(sorted(self.scopes))}.",
                code="insufficient_scope",
            )


def register_fact(name: str, subquery: str) -> None:
    """Read one more value with every caller: `subquery` is a constant scalar SELECT; called once at start.

    Rooms above this one register what they need on each request, so that it costs them no round trip of their own.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"not a fact's name: {name!r}")
    _facts[name] = subquery


def facts() -> Mapping[str, str]:
    """Registered names and subqueries, in the order they are selected."""
    return _facts
