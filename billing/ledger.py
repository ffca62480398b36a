"""The only way money moves: verbs over the SQL functions of `billing/migrations`, and proof that the sums hold."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from django.db import DatabaseError, connection, transaction

from billing.rate_headers import rate_headers
from core import errors, money, sql
from core.group_commit import Locks


@dataclass(frozen=True, slots=True)
class Balance:
    """What an organization can spend now: `available` is paid plus promo, less what is held."""

    available_nanos: int
    held_nanos: int
    promo_nanos: int
    wallet_nanos: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of `ledger_hold`, in the order of its columns; `verdict` is held, insufficient, frozen or limit."""

    verdict: str
    promo_nanos: int | None = None
    wallet_nanos: int | None = None
    available_nanos: int | None = None
    limit_scope: str | None = None
    limit_meter: str | None = None
    limit_window: str | None = None
    limit_cap: int | None = None
    # The tightest limit of each kind, and what it has left after this hold; None where there is none.
    requests_limit: int | None = None
    requests_remaining: int | None = None
    requests_reset_s: int | None = None
    in_flight_limit: int | None = None
    in_flight_remaining: int | None = None

    @property
    def held(self) -> bool:
        return self.verdict == "held"


# How soon a place may be free again where all are taken: images take seconds.
_PLACE_RETRY_S = 2

# To be called inside a larger statement, so that a hold and what it is for are one round trip and one commit.
# Columns: those of Verdict.
HOLD = "ledger_hold(%(id)s, %(organization_id)s, %(key_id)s, %(member_id)s, %(hold_nanos)s, %(promo_only)s)"
# Columns: charged_nanos, absorbed_nanos.
SETTLE = "ledger_settle(%(id)s, %(cost_nanos)s, %(provider)s, %(simulated)s, %(absorbed_nanos)s)"
VOID = "ledger_void(%(id)s, %(provider)s, %(absorbed_nanos)s)"
_LOCK = "SELECT ledger_lock(%(owners)s::bigint[])"


def locks(organization_id: int, *, hold_nanos: int) -> Locks:
    """What a statement with HOLD, SETTLE or VOID locks: with these, several may be one transaction.

    They begin with their organization's balances, and limits come behind those; a hold of nothing leaves the balances
    alone.
    """
    return Locks(_LOCK, organization_id, come_first=hold_nanos > 0)


def refuse(verdict: Verdict, *, needed_nanos: int, promo_only: bool = False) -> errors.PixelparError:
    """The error for a hold that was not taken: which limit failed, what was needed, what was there."""
    needed = money.decimal(needed_nanos)
    details = {"needed": needed, "available": money.decimal(verdict.available_nanos or 0)}
    if verdict.verdict == "limit" and verdict.limit_meter in ("requests", "in_flight"):
        return _too_many(verdict)
    if verdict.verdict == "limit":
        cap = money.decimal(verdict.limit_cap or 0)
        return errors.BudgetReached(
            f"The {verdict.limit_window} budget of this {verdict.limit_scope} is ${cap}. The request could cost up to "
            f"${needed} and ${details['available']} of it is left.",
            details={**details, "limit": {"scope": verdict.limit_scope, "window": verdict.limit_window, "cap": cap}},
        )
    if verdict.verdict == "frozen":
        return errors.PaymentRequired(
            "This organization's balance is frozen until a dispute is resolved.", code="balance_frozen"
        )
    kind = "promotional credit (a simulated request spends nothing else)" if promo_only else "balance"
    return errors.PaymentRequired(
        f"The request could cost up to ${needed} and the available {kind} is ${details['available']}.",
        details={**details, "limit": {"scope": "organization", "window": "total", "cap": None}},
    )


def _too_many(verdict: Verdict) -> errors.TooManyRequests:
    by_the_minute = verdict.limit_meter == "requests"
    retry_after_s = min(verdict.requests_reset_s or 1, 59) if by_the_minute else _PLACE_RETRY_S
    if by_the_minute:
        said = f"may make {verdict.limit_cap} requests a minute and has made them. Try again in {retry_after_s} s."
    else:
        said = f"already has {verdict.limit_cap} requests running, as many as it may. Try again when one has ended."
    limit = {"scope": verdict.limit_scope, "window": verdict.limit_window, "cap": verdict.limit_cap}
    return errors.TooManyRequests(
        f"This {verdict.limit_scope} {said}",
        retry_after_s=retry_after_s,
        details={"limit": {**limit, "meter": verdict.limit_meter}},
        headers=rate_headers(verdict),
    )


def balance(organization_id: int) -> Balance:
    """The organization's balance; zeros before its first credit."""
    found = sql.row(
        """
        SELECT coalesce(sum(posted_nanos - held_nanos), 0)::bigint,
               coalesce(sum(held_nanos), 0)::bigint,
               coalesce(sum(posted_nanos) FILTER (WHERE kind = 'promo'), 0)::bigint,
               coalesce(sum(posted_nanos) FILTER (WHERE kind = 'wallet'), 0)::bigint
        FROM billing_account WHERE organization_id = %(organization_id)s
        """,
        {"organization_id": organization_id},
    )
    if found is None:
        raise RuntimeError("an aggregate always has a row")
    return Balance(*found)


def grant(
    organization_id: int, *, amount_nanos: int, reason: str, reference: uuid.UUID, expires_at: dt.datetime | None = None
) -> bool:
    """Give promotional credit, once per `reference`; False when it had been given already.

    What is left of it at `expires_at` expires with the next run of `expire`, but for what open holds reserve then.
    """
    if not 0 < amount_nanos <= money.MAX_NANOS // 1000:
        raise ValueError("a grant is a positive amount below 9 million dollars")
    found = sql.row(
        "SELECT ledger_grant_until(%(organization_id)s, %(amount_nanos)s, %(reference)s, %(reason)s,"
        " %(expires_at)s::timestamptz)",
        {
            "organization_id": organization_id,
            "amount_nanos": amount_nanos,
            "reference": reference,
            "reason": reason[:200],
            "expires_at": expires_at,
        },
    )
    return bool(found and found[0])


def was_granted(organization_id: int, *, amount_nanos: int, reference: uuid.UUID) -> bool:
    """Whether the reference stands for a grant of this amount to this organization, and not for another one."""
    found = sql.row(
        """
        SELECT 1 FROM billing_transfer t JOIN billing_account a ON a.id = t.credit_account_id
        WHERE t.reference_id = %(reference)s AND t.reference_type = 'grant' AND t.kind = 'grant'
          AND t.amount_nanos = %(amount_nanos)s AND a.organization_id = %(organization_id)s
        """,
        {"organization_id": organization_id, "amount_nanos": amount_nanos, "reference": reference},
    )
    return found is not None


def freeze(organization_id: int, *, frozen: bool = True) -> None:
    """Refuse an organization's new holds, or take them again; what is held already settles."""
    parameters = {"organization_id": organization_id, "frozen": frozen}
    sql.row("SELECT ledger_freeze(%(organization_id)s, %(frozen)s)", parameters)


def is_frozen(organization_id: int) -> bool:
    """Whether somebody froze it; a debt refuses holds too, and shows in the balance."""
    found = sql.row(
        "SELECT coalesce(bool_or(frozen), false) FROM billing_account WHERE organization_id = %(organization_id)s",
        {"organization_id": organization_id},
    )
    return bool(found and found[0])


def unspent_paid_nanos(organization_id: int) -> int:
    """What of the paid balance is neither spent nor held; below zero for a debt."""
    found = sql.row(
        "SELECT coalesce(sum(posted_nanos - held_nanos), 0)::bigint FROM billing_account"
        " WHERE organization_id = %(organization_id)s AND kind = 'wallet'",
        {"organization_id": organization_id},
    )
    return int(found[0]) if found else 0


def expire(organization_id: int, *, everything: bool = False) -> int:
    """Book the expiry of what is left of promotional credit whose time has come, or of all of it; how much that was.

    Never touches what open holds reserve.
    """
    found = sql.row(
        "SELECT ledger_expire(%(organization_id)s, %(everything)s)",
        {"organization_id": organization_id, "everything": everything},
    )
    return int(found[0]) if found else 0


def fund(
    organization_id: int, *, cap_nanos: int, reason: str, reference: uuid.UUID, expires_at: dt.datetime | None = None
) -> int:
    """Bring promo up to `cap_nanos`, once per `reference`, counting what is left and held; how much was granted."""
    found = sql.row(
        "SELECT ledger_fund(%(organization_id)s, %(cap_nanos)s, %(reference)s, %(reason)s,"
        " %(expires_at)s::timestamptz)",
        {
            "organization_id": organization_id,
            "cap_nanos": cap_nanos,
            "reference": reference,
            "reason": reason[:200],
            "expires_at": expires_at,
        },
    )
    return int(found[0]) if found else 0


def end_holds(organization_id: int) -> int:
    """Let nothing be held any more, for good, unless something runs: then how many holds are open."""
    found = sql.row("SELECT ledger_end_holds(%(organization_id)s)", {"organization_id": organization_id})
    return int(found[0]) if found else 0


class NotThere(Exception):
    """An organization's free balance does not hold what was to be taken from it; nothing was booked."""


def post(
    kind: str,
    *,
    amount_nanos: int,
    reference_type: str,
    reference: uuid.UUID,
    organization_id: int | None = None,
    provider: str = "",
    note: str = "",
) -> bool:
    """Book a movement beside usage between the two accounts that its kind names, once per (reference, kind).

    False when it was booked already, whatever the amount was then. Raises NotThere when it would take more from a
    wallet or promo than is free (a dispute may: it leaves a debt, and nothing new is held until that is paid).
    """
    if not 0 < amount_nanos <= money.MAX_NANOS // 1000:
        raise ValueError("a transfer is a positive amount below 9 million dollars")
    try:
        with transaction.atomic():
            found = sql.row(
                "SELECT ledger_post(%(kind)s, %(organization_id)s, %(provider)s, %(amount_nanos)s,"
                " %(reference_type)s, %(reference)s, %(note)s)",
                {
                    "kind": kind,
                    "organization_id": organization_id,
                    "provider": provider,
                    "amount_nanos": amount_nanos,
                    "reference_type": reference_type,
                    "reference": reference,
                    "note": note[:200],
                },
            )
    except DatabaseError as error:
        if getattr(error.__cause__, "sqlstate", None) == "PX003":
            raise NotThere(str(error).partition("\n")[0]) from error
        raise
    return bool(found and found[0])


def hold(
    hold_id: uuid.UUID,
    *,
    organization_id: int,
    amount_nanos: int,
    key_id: int | None = None,
    member_id: int | None = None,
    promo_only: bool = False,
) -> Verdict:
    """Reserve an amount by itself; the images API does it inside its own statement."""
    found = sql.row(
        f"SELECT * FROM {HOLD}",  # noqa: S608 - a constant
        {
            "id": hold_id,
            "organization_id": organization_id,
            "key_id": key_id,
            "member_id": member_id,
            "hold_nanos": amount_nanos,
            "promo_only": promo_only,
        },
    )
    return Verdict(*(found or ("insufficient",)))


def settle(
    hold_id: uuid.UUID, *, cost_nanos: int, provider: str, simulated: bool = False, absorbed_nanos: int = 0
) -> tuple[int, int]:
    """Resolve a hold to its cost: (charged, absorbed). Raises a database error when it is not open."""
    found = sql.row(
        f"SELECT * FROM {SETTLE}",  # noqa: S608 - a constant
        {
            "id": hold_id,
            "cost_nanos": cost_nanos,
            "provider": provider,
            "simulated": simulated,
            "absorbed_nanos": absorbed_nanos,
        },
    )
    if found is None:
        raise RuntimeError("ledger_settle always has a row")
    return found[0], found[1]


def void(hold_id: uuid.UUID, *, provider: str = "", absorbed_nanos: int = 0) -> None:
    """Give a hold back whole. Raises a database error when it is not open."""
    sql.row(
        f"SELECT {VOID}",
        {"id": hold_id, "provider": provider, "absorbed_nanos": absorbed_nanos},
    )


# What must return no row. Each query's first column says where the difference is.
_PROOFS = {
    "a balance differs from the sum of its transfers": """
        SELECT a.id, a.posted_nanos, coalesce(t.total, 0) FROM billing_account a
        LEFT JOIN (
            SELECT account_id, sum(amount) AS total FROM (
                SELECT credit_account_id AS account_id, amount_nanos AS amount FROM billing_transfer
                UNION ALL SELECT debit_account_id, -amount_nanos FROM billing_transfer
            ) sides GROUP BY account_id
        ) t ON t.account_id = a.id
        WHERE a.organization_id IS NOT NULL AND a.posted_nanos <> coalesce(t.total, 0)
    """,
    "a movement's balance differs from the sum up to it": """
        SELECT id, balance_nanos, total FROM (
            SELECT s.id, s.balance_nanos, sum(s.amount) OVER (PARTITION BY s.account_id ORDER BY s.id) AS total FROM (
                SELECT id, balance_nanos, credit_account_id AS account_id, amount_nanos AS amount FROM billing_transfer
                UNION ALL SELECT id, balance_nanos, debit_account_id, -amount_nanos FROM billing_transfer
            ) s JOIN billing_account a ON a.id = s.account_id WHERE a.organization_id IS NOT NULL
        ) running WHERE balance_nanos IS DISTINCT FROM total
    """,
    "a held amount differs from the open holds": """
        SELECT a.id, a.held_nanos, coalesce(h.total, 0) FROM billing_account a
        LEFT JOIN (
            SELECT organization_id, kind, sum(amount) AS total FROM (
                SELECT organization_id, 'promo' AS kind, promo_nanos AS amount FROM billing_hold WHERE state = 'held'
                UNION ALL SELECT organization_id, 'wallet', wallet_nanos FROM billing_hold WHERE state = 'held'
            ) parts GROUP BY organization_id, kind
        ) h ON h.organization_id = a.organization_id AND h.kind = a.kind
        WHERE a.organization_id IS NOT NULL AND a.held_nanos <> coalesce(h.total, 0)
    """,
    "a settled hold differs from its transfers": """
        SELECT h.id, h.charged_nanos, coalesce(sum(t.amount_nanos), 0) FROM billing_hold h
        LEFT JOIN billing_transfer t ON t.reference_id = h.id AND t.reference_type = 'generation'
            AND t.kind IN ('charge', 'charge_promo')
        GROUP BY h.id HAVING coalesce(h.charged_nanos, 0) <> coalesce(sum(t.amount_nanos), 0)
    """,
    "a charge has no settled hold": """
        SELECT t.id, t.amount_nanos, 0 FROM billing_transfer t LEFT JOIN billing_hold h ON h.id = t.reference_id
        WHERE t.kind IN ('charge', 'charge_promo') AND (h.state IS DISTINCT FROM 'settled')
    """,
    "a limit's held amount differs from the open holds": """
        SELECT u.id, u.held, coalesce(sum(h.amount), 0) FROM billing_limituse u
        LEFT JOIN billing_holdlimit h ON h.use_id = u.id GROUP BY u.id HAVING u.held <> coalesce(sum(h.amount), 0)
    """,
    "a resolved hold still takes from a limit": """
        SELECT l.id, l.amount, 0 FROM billing_holdlimit l JOIN billing_hold h ON h.id = l.hold_id
        WHERE h.state <> 'held'
    """,
}


def register_proof(name: str, query: str) -> None:
    """Let another room add what must return no row (it knows what the holds are for; we must not)."""
    _PROOFS[name] = query


@dataclass(frozen=True, slots=True)
class Proof:
    """What `verify` found: differences in words, and how much was looked at."""

    differences: tuple[str, ...]
    transfers: int
    holds: int
    open_holds: int


def verify(report: Callable[[str], object] = lambda _: None) -> Proof:
    """Prove, in one snapshot, that stored balances and held amounts equal the journal. Never heals anything."""
    differences: list[str] = []
    with transaction.atomic(), connection.cursor() as cursor:
        if len(connection.savepoint_ids) == 0:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for name, query in _PROOFS.items():
            cursor.execute(query)
            for where, stored, summed in cursor.fetchmany(100):
                differences.append(f"{name}: {where}: {stored} stored, {summed} by the journal")
                report(differences[-1])
        cursor.execute(
            "SELECT (SELECT count(*) FROM billing_transfer), count(*), count(*) FILTER (WHERE state = 'held') "
            "FROM billing_hold"
        )
        transfers, holds, open_holds = cursor.fetchone()
    return Proof(differences=tuple(differences), transfers=transfers, holds=holds, open_holds=open_holds)
