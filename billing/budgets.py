"""Budgets of an organization, a member or a key: set, looked at, and noticed when they refuse. The hold keeps them."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import DatabaseError, connection
from django.db.models import Q
from django.db.models.functions import Now

from accounts import keys
from accounts.models import ApiKey, Organization, User
from billing import limits
from billing.ledger import Verdict
from billing.models import Limit
from core import money, sql
from core.errors import NotFound, UnknownParameter

log = structlog.get_logger(__name__)

WINDOWS = {name: limits.NAMES[name][1] for name in limits.BUDGETS}
_REFUSALS_EVERY_NS = 60 * 1_000_000_000
_REFUSALS_MAX = 10_000
_refused_at_ns: dict[tuple[Any, ...], int] = {}

_EPOCH = "TIMESTAMPTZ '1970-01-01 00:00:00+00'"
# The beginning of the window that each budget is in, as ledger_hold has it.
STARTS = f"""
    (VALUES ('day', date_trunc('day', now(), 'UTC')), ('month', date_trunc('month', now(), 'UTC')), ('total', {_EPOCH}))
    AS started("window", starts_at)
"""
_OVERVIEW = f"""
SELECT l.scope, l.scope_id, l."window", l.cap, coalesce(u.used, 0), coalesce(u.held, 0), started.starts_at
FROM billing_limit l JOIN {STARTS} ON started."window" = l."window"
LEFT JOIN billing_limituse u ON u.limit_id = l.id AND u.starts_at = started.starts_at
WHERE l.organization_id = %(organization_id)s AND l.meter = 'spend' AND l.active
ORDER BY l.scope <> 'organization', l.scope, l.scope_id, array_position(ARRAY['day', 'month', 'total'], l."window")
"""  # noqa: S608 - constants


@dataclass(frozen=True, slots=True)
class Budget:
    """One budget and how much of its present window is used (charged) and held (by what runs)."""

    scope: str
    scope_id: int | None
    window: str
    cap_nanos: int
    used_nanos: int
    held_nanos: int
    starts_at: dt.datetime

    @property
    def left_nanos(self) -> int:
        return max(self.cap_nanos - self.used_nanos - self.held_nanos, 0)

    @property
    def used_percent(self) -> int:
        return min(self.used_nanos * 100 // max(self.cap_nanos, 1), 100)

    @property
    def resets_at(self) -> dt.datetime | None:
        """When the next window begins; None for a budget in all."""
        day = self.starts_at.astimezone(dt.UTC)
        if self.window == "day":
            return day + dt.timedelta(days=1)
        return (day + dt.timedelta(days=32)).replace(day=1) if self.window == "month" else None


def overview(organization_id: int) -> list[Budget]:
    """Every budget of an organization: its own, then keys', then members'."""
    with connection.cursor() as cursor:
        cursor.execute(_OVERVIEW, {"organization_id": organization_id})
        return [Budget(*row) for row in cursor.fetchall()]


def documents(organization_id: int, *, key: ApiKey | None = None) -> list[dict[str, Any]]:
    """Budgets as the API shows them: all, or those of one key."""
    found = overview(organization_id)
    if key is not None:
        found = [budget for budget in found if (budget.scope, budget.scope_id) == ("key", key.pk)]
    ids = {scope: [item.scope_id or 0 for item in found if item.scope == scope] for scope in ("key", "member")}
    words = dict(ApiKey.objects.filter(pk__in=ids["key"]).values_list("pk", "public_id"))
    people = dict(User.objects.filter(pk__in=ids["member"]).values_list("pk", "email"))
    return [
        document(item, key_word=words.get(item.scope_id or 0), member=people.get(item.scope_id or 0)) for item in found
    ]


def document(budget: Budget, *, key_word: str | None, member: str | None) -> dict[str, Any]:
    """One budget as the API and its events show it."""
    resets_at = budget.resets_at
    return {
        "object": "budget",
        "scope": budget.scope,
        "key_id": key_word if budget.scope == "key" else None,
        "member": member if budget.scope == "member" else None,
        "window": budget.window,
        "limit": money.decimal(budget.cap_nanos),
        "used": money.decimal(budget.used_nanos),
        "held": money.decimal(budget.held_nanos),
        "left": money.decimal(budget.left_nanos),
        "currency": "usd",
        "resets_at": None if resets_at is None else int(resets_at.timestamp()),
    }


def parse(asked: Mapping[str, object]) -> dict[str, int]:
    """Budgets as a caller writes them; null or absent is none. Raises InvalidRequest and its kinds."""
    for name in asked:
        if name not in limits.BUDGETS:
            raise UnknownParameter(
                f"There is no budget {str(name)[:60]!r}; there are {', '.join(limits.BUDGETS)}.", param=str(name)[:64]
            )
    return limits.parse(dict(asked), within="")


def set_for_organization(organization: Organization, asked: Mapping[str, object]) -> None:
    """What everybody in it may spend together, from the next hold on; replaces what was there, whole."""
    limits.replace_budgets(organization.pk, scope="organization", scope_id=None, wanted=parse(asked))


def set_for_member(organization: Organization, email: str, asked: Mapping[str, object]) -> User:
    """What a member may spend in the playground and with the keys they made. Raises NotFound for somebody else."""
    wanted = parse(asked)
    known = Limit.objects.filter(organization=organization, scope="member").values("scope_id")
    mine = Q(memberships__organization=organization) | Q(pk__in=known)
    person = User.objects.filter(mine, email=email).first() if "\0" not in email else None
    if person is None:
        raise NotFound("There is no such member.")
    limits.replace_budgets(organization.pk, scope="member", scope_id=person.pk, wanted=wanted)
    return person


def set_for_key(key: ApiKey, asked: Mapping[str, object], *, by: ApiKey | None = None) -> ApiKey:
    """What a key may spend; its rates stay. Raises as `accounts.keys.update` does."""
    wanted = parse(asked)
    kept = {
        name: cap for name, cap in limits.of([key.pk])[key.pk].items() if cap is not None and name not in limits.BUDGETS
    }
    return keys.update(key, limits={**kept, **{name: money.decimal(cap) for name, cap in wanted.items()}}, by=by)


def note_refusal(verdict: Verdict, *, organization_id: int, key_id: int | None, member_id: int | None) -> None:
    """A budget has just refused a request: whatever is left of it, its window is at its end.

    Written at most once a minute by each process, after the refusal and never in its way.
    """
    if verdict.verdict != "limit" or verdict.limit_meter != "spend":
        return
    scope_id = {"key": key_id, "member": member_id}.get(verdict.limit_scope or "")
    place = (organization_id, verdict.limit_scope, scope_id, verdict.limit_window)
    now_ns = time.monotonic_ns()
    if now_ns - _refused_at_ns.get(place, -_REFUSALS_EVERY_NS) < _REFUSALS_EVERY_NS:
        return
    if len(_refused_at_ns) >= _REFUSALS_MAX:
        _refused_at_ns.clear()
    _refused_at_ns[place] = now_ns
    try:
        Limit.objects.filter(
            organization_id=organization_id,
            scope=verdict.limit_scope,
            scope_id=scope_id,
            meter="spend",
            window=verdict.limit_window,
            cap=verdict.limit_cap or 0,
            active=True,
        ).update(refused_at=Now())
    except DatabaseError:
        log.exception("a refusal by a budget was not noted", organization=organization_id)
    finally:
        sql.give_back()
