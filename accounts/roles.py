"""What each role may do in its organization."""

from __future__ import annotations

import enum

from accounts.models import Role


class Right(enum.Enum):
    """One kind of thing a member may do."""

    READ = "read"
    MANAGE_KEYS = "manage_keys"
    MANAGE_BILLING = "manage_billing"
    REFUND = "refund"
    MANAGE_MEMBERS = "manage_members"
    MANAGE_ORGANIZATION = "manage_organization"
    CLOSE_ORGANIZATION = "close_organization"


_EVERYTHING = frozenset(Right)
_RIGHTS: dict[str, frozenset[Right]] = {
    Role.OWNER: _EVERYTHING,
    Role.ADMIN: _EVERYTHING - {Right.REFUND, Right.CLOSE_ORGANIZATION},
    Role.DEVELOPER: frozenset({Right.READ, Right.MANAGE_KEYS}),
    Role.BILLING: frozenset({Right.READ, Right.MANAGE_BILLING, Right.REFUND}),
    Role.VIEWER: frozenset({Right.READ}),
}


def allows(role: str, right: Right) -> bool:
    """Whether a role has a right; a role we do not know has none."""
    return right in _RIGHTS.get(role, frozenset())
