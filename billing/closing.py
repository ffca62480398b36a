"""How an organization leaves: frozen at once, its rest paid back, its statement kept, what it sent and made erased."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.template.loader import render_to_string
from procrastinate.contrib.django import app

from accounts import organizations, signals
from accounts.models import Organization, Role
from billing import budget_alerts, history, ledger
from billing.models import Closing, Limit
from core import errors, ids, money, sql

log = structlog.get_logger(__name__)

FINISH_TASK = "billing.finish_closing"
# Longer than any payment back takes; after it somebody else goes on.
_CLAIMED_FOR = dt.timedelta(minutes=10)

# Gets an organization and how much is to be paid back, pays what it can to where it came from, books that in the ledger
# as refunds, and returns how much it was in nano-USD. It may be called again with what is left.
Refunder = Callable[[Organization, int], int]
_refunders: list[Refunder] = []


def register_refunder(refunder: Refunder) -> None:
    """Pay back through this from now on; called at start by whatever took money in. Several are asked in turn."""
    if refunder not in _refunders:
        _refunders.append(refunder)


def begin(organization: Organization, *, asked_by: str = "", write_off: bool = False) -> Closing:
    """Close it: from this moment nothing is held, no key and no session of its members is let in. For good.

    The rest happens in `finish`, by the worker. Raises NotFinished while requests run, PaymentRequired while there is a
    debt (unless it is written off), InvalidRequest for the platform's own. One that is closed already stays as it is.
    """
    with transaction.atomic():
        # A hold refers to the organization while it has the balance's lock, which this waits for: hence no_key.
        found = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if found.is_platform:
            raise errors.InvalidRequest("The platform's own organization is not closed.")
        if found.closed_at is not None:
            return Closing.objects.get(organization=found)
        running = ledger.end_holds(found.pk)
        if running:
            raise errors.NotFinished(
                f"{running} requests are running. Wait for them to end or cancel them, then close the organization.",
                retry_after_s=5,
            )
        written_off_nanos = _settle_debt(found, write_off=write_off)
        closing = Closing.objects.create(
            organization=found,
            asked_by=asked_by,
            mail_to=budget_alerts.addresses(found, (Role.OWNER,)),
            wallet_nanos=ledger.balance(found.pk).wallet_nanos,
            expired_nanos=ledger.expire(found.pk, everything=True),
            written_off_nanos=written_off_nanos,
        )
        _admit_nothing(found)
        organizations.close(found)
        app.configure_task(FINISH_TASK).defer(organization_id=found.pk)
    organization.refresh_from_db()
    log.info("an organization is closed", organization=organization.slug, by=asked_by or "an operator")
    return closing


def _settle_debt(organization: Organization, *, write_off: bool) -> int:
    debt_nanos = -ledger.balance(organization.pk).wallet_nanos
    if debt_nanos <= 0:
        return 0
    if not write_off:
        raise errors.PaymentRequired(
            f"There is a debt of ${money.decimal(debt_nanos)} from a dispute. Pay it first, or ask the operator."
        )
    ledger.post(
        "debt_written_off",
        organization_id=organization.pk,
        amount_nanos=debt_nanos,
        reference_type="closing",
        reference=ids.new(),
    )
    return debt_nanos


def _admit_nothing(organization: Organization) -> None:
    """A frozen balance refuses whatever costs something; this refuses the rest."""
    Limit.objects.update_or_create(
        organization=organization,
        scope="organization",
        scope_id=None,
        meter="in_flight",
        window="total",
        defaults={"cap": 0, "active": True},
    )


def finish(organization_id: int) -> Closing:
    """Pay back, write the statement, erase, and mail the statement; goes on wherever an earlier run stopped."""
    mine = Closing.objects.filter(organization_id=organization_id)
    free = Q(claimed_at=None) | Q(claimed_at__lt=Now() - _CLAIMED_FOR)
    if not mine.filter(free).update(claimed_at=Now()):
        return _read(organization_id)
    sql.give_back()
    try:
        if _read(organization_id).settled_at is None:
            _settle(_read(organization_id))
        if _read(organization_id).emptied_at is None:
            _empty(_read(organization_id))
        _mail(_read(organization_id))
    finally:
        mine.update(claimed_at=None)
    return _read(organization_id)


def finish_all() -> int:
    """Every closing that is not at its end; how many there were."""
    open_ones = Closing.objects.filter(Q(settled_at=None) | Q(emptied_at=None) | ~Q(mail_to=[]))
    found = list(open_ones.order_by("pk").values_list("organization_id", flat=True))
    for organization_id in found:
        try:
            finish(organization_id)
        except Exception:  # one that cannot be finished must not keep the others
            log.exception("a closing could not be finished; trying again", organization=organization_id)
        finally:
            sql.give_back()
    return len(found)


def _read(organization_id: int) -> Closing:
    return Closing.objects.select_related("organization").get(organization_id=organization_id)


def _settle(closing: Closing) -> None:
    """No database connection is kept while money is on its way back."""
    organization = closing.organization
    for refunder in _refunders:
        left_nanos = ledger.balance(organization.pk).wallet_nanos
        if left_nanos > 0:
            sql.give_back()
            refunder(organization, left_nanos)
    owed_nanos = max(ledger.balance(organization.pk).wallet_nanos, 0)
    # By the ledger and not by what was returned: an earlier run may have paid a part and died.
    refunded_nanos = max(closing.wallet_nanos - owed_nanos, 0)
    Closing.objects.filter(pk=closing.pk, settled_at=None).update(
        settled_at=Now(),
        refunded_nanos=refunded_nanos,
        owed_nanos=owed_nanos,
        statement=_statement(closing, refunded_nanos=refunded_nanos, owed_nanos=owed_nanos),
    )
    if owed_nanos:
        log.warning("a closed organization is owed money", organization=organization.slug, nanos=owed_nanos)


def _statement(closing: Closing, *, refunded_nanos: int, owed_nanos: int) -> dict[str, Any]:
    organization = closing.organization
    return {
        "organization": organization.slug,
        "name": organization.name,
        "opened_at": int(organization.created_at.timestamp()),
        "closed_at": int(closing.frozen_at.timestamp()),
        "currency": "usd",
        "totals": history.totals(organization.pk),
        "credit_expired": money.decimal(closing.expired_nanos),
        "debt_written_off": money.decimal(closing.written_off_nanos),
        "paid_back": money.decimal(refunded_nanos),
        "owed": money.decimal(owed_nanos),
    }


def _empty(closing: Closing) -> None:
    answers = signals.closed.send_robust(sender=Organization, organization=closing.organization)
    for receiver, answer in answers:
        if isinstance(answer, Exception):
            log.error("what a closed organization left is not erased", receiver=str(receiver), exc_info=answer)
    if all(answer is True for _, answer in answers):
        Closing.objects.filter(pk=closing.pk, emptied_at=None).update(emptied_at=Now())


def _mail(closing: Closing) -> None:
    """The statement to those who were owners, whose addresses are forgotten with it."""
    if not closing.mail_to or closing.statement is None:
        return
    context = {"statement": closing.statement, "closing": closing, "base_url": settings.BASE_URL}
    body = render_to_string("billing/email/statement_message.txt", context).strip() + "\n"
    subject = " ".join(render_to_string("billing/email/statement_subject.txt", context).split())
    try:
        with get_connection() as line:
            line.send_messages([EmailMessage(subject, body, to=[address]) for address in closing.mail_to])
    except OSError:  # of which the mail server's errors are; everything else is done by now
        log.exception("a final statement could not be mailed; trying again", organization=closing.organization.slug)
        return
    Closing.objects.filter(pk=closing.pk).update(mail_to=[])
