"""What visitors without a key may spend: an organization of the platform's own, funded each day up to a hard cap."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from django.conf import settings
from django.utils import timezone

from accounts import organizations
from accounts.models import Organization
from billing import daily_counts, ledger, limits
from billing.models import Limit
from core import clients, errors, money

log = structlog.get_logger(__name__)

# Whoever has one IPv6 address has the /64 around it.
_V4_BITS = 32
_V6_BITS = 64
_REFERENCES = uuid.UUID("0193a1c2-5b7e-7d40-9a64-2f1f6f1f7a11")
_RETRY_AFTER_S = 59
_LIMIT = "spend_day_usd"

Check = Callable[[Mapping[str, Any]], None]
_checks: list[Check] = []


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody without a key: where from, and which browser. The cookie's value is ours, signed by whoever set it."""

    address: clients.Address | None
    cookie: str | None = None


def register_check(check: Check) -> None:
    """Let a room above say what visitors may ask for, such as the cheapest sizes only; called once at start.

    `check` is given what was asked for and raises an error of core.errors for what it does not allow.
    """
    if check not in _checks:
        _checks.append(check)


def organization() -> Organization:
    """The platform's own organization, made when it is first needed."""
    return organizations.platform()


def fund() -> int:
    """Bring today's credit up to the cap and let yesterday's rest expire; how much was granted, in nano-USD.

    It may run as often as one likes: a day has one grant for one cap. The cap itself is a budget of the organization
    for the day in UTC, which every hold must fit whatever was granted.
    """
    cap_nanos: int = settings.PLAYGROUND_DAILY_NANOS
    mine = organization()
    _cap(mine, cap_nanos)
    if cap_nanos <= 0:
        return 0
    today = timezone.now().astimezone(dt.UTC).date()
    granted_nanos = ledger.fund(
        mine.pk,
        cap_nanos=cap_nanos,
        reason=f"playground on {today}",
        reference=uuid.uuid5(_REFERENCES, f"{mine.pk}/{today}/{cap_nanos}"),
        expires_at=dt.datetime.combine(today + dt.timedelta(days=1), dt.time(), tzinfo=dt.UTC),
    )
    if granted_nanos:
        log.info("the playground is funded", day=str(today), dollars=money.decimal(granted_nanos))
    return granted_nanos


def _cap(mine: Organization, cap_nanos: int) -> None:
    wanted = {_LIMIT: max(cap_nanos, 0)}
    kept = Limit.objects.filter(organization=mine, scope="organization", meter="spend", window="day", active=True)
    if list(kept.values_list("cap", flat=True)) != list(wanted.values()):
        limits.replace_for_organization(mine, wanted)


def admit(visitor: Visitor, *, worst_case_nanos: int, asked: Mapping[str, Any]) -> None:
    """Let a visitor's request on to the hold, and count it for the visitor.

    Raises what a registered check says of it, InvalidRequest where it could cost too much for a visitor,
    PlaygroundClosed where the day's credit is spent, TooManyRequests where the visitor has had theirs.
    """
    for check in _checks:
        check(asked)
    most: int = settings.PLAYGROUND_REQUEST_NANOS
    if worst_case_nanos > most:
        raise errors.InvalidRequest(
            f"Without a key a request may cost up to ${money.decimal(most)}, and this one could cost "
            f"${money.decimal(worst_case_nanos)}. Choose a smaller size or a lower quality, or sign in.",
        )
    if worst_case_nanos > ledger.balance(organization().pk).available_nanos:
        raise closed()
    _count(visitor)


def _count(visitor: Visitor) -> None:
    network = clients.network(visitor.address, v4_bits=_V4_BITS, v6_bits=_V6_BITS)
    counts = [(daily_counts.hidden("playground-address", network), settings.PLAYGROUND_PER_ADDRESS)]
    if visitor.cookie is not None:
        counts.append((daily_counts.hidden("playground-cookie", visitor.cookie), settings.PLAYGROUND_PER_COOKIE))
    for name, cap in counts:
        if not daily_counts.take(name, cap=cap):
            raise errors.TooManyRequests(
                "You have made the pictures that one may make here in a day without a key. Sign up, or come back "
                "tomorrow.",
                retry_after_s=_RETRY_AFTER_S,
            )


def hold(hold_id: uuid.UUID, visitor: Visitor, *, amount_nanos: int, asked: Mapping[str, Any]) -> ledger.Verdict:
    """Admit a visitor and reserve the amount. Raises as `admit` does."""
    admit(visitor, worst_case_nanos=amount_nanos, asked=asked)
    verdict = ledger.hold(hold_id, organization_id=organization().pk, amount_nanos=amount_nanos)
    if not verdict.held:
        raise closed()
    return verdict


def closed() -> errors.PlaygroundClosed:
    """What a visitor hears when the platform's credit is spent; also in place of a hold's own refusal, which is about a
    balance that is not theirs."""
    return errors.PlaygroundClosed(
        "What this server gives to visitors today is spent. Sign up for a key of your own, or come back tomorrow.",
        retry_after_s=_RETRY_AFTER_S,
    )
