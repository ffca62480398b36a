"""Credit for signing up: once for a mailbox, a few for a network, and never more in a day than the operator gives."""

from __future__ import annotations

import datetime as dt
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, transaction
from django.dispatch import receiver
from django.utils import timezone

from accounts import signals
from accounts.models import Organization, User
from billing import daily_counts, ledger, mailboxes
from billing.models import SignupCredit
from core import clients, crypto, ids, money

log = structlog.get_logger(__name__)

# Networks as people are given them: whoever has one address of it has them all.
_V4_BITS = 24
_V6_BITS = 48


class _Refused(Exception):
    """Undoes what was counted so far."""


@receiver(signals.signed_up)
def welcome(
    sender: Any, *, user: User, organization: Organization, client_address: str | None = None, **_: Any
) -> None:
    """Somebody verified an address: give the credit, or the organization goes without. Nobody's sign-up fails by it."""
    try:
        give(organization, email=user.email, client_address=client_address)
    except DatabaseError:
        log.exception("credit for signing up could not be given", organization=organization.pk)


def give(organization: Organization, *, email: str, client_address: str | None) -> int:
    """The credit of one sign-up in nano-USD; 0 when there is none to be had, which is logged and never an error.

    The address must be verified. Everything that limits it is counted in one transaction: mailbox, network, day.
    """
    amount_nanos: int = settings.SIGNUP_CREDIT_NANOS
    if amount_nanos <= 0:
        return 0
    try:
        with transaction.atomic():
            _count(organization, amount_nanos, email=email, client_address=client_address)
            ledger.grant(
                organization.pk,
                amount_nanos=amount_nanos,
                reason="for signing up",
                reference=ids.new(),
                expires_at=timezone.now() + dt.timedelta(days=settings.SIGNUP_CREDIT_DAYS),
            )
    except _Refused as refused:
        log.info("no credit for this sign-up", organization=organization.pk, why=str(refused))
        return 0
    log.info("credit for signing up", organization=organization.pk, dollars=money.decimal(amount_nanos))
    return amount_nanos


def _count(organization: Organization, amount_nanos: int, *, email: str, client_address: str | None) -> None:
    mailbox = mailboxes.one_name(email)
    if mailbox is None or mailboxes.is_disposable(mailbox):
        raise _Refused("disposable mailbox")
    hashed = crypto.keyed_hash("signup-mailbox", mailbox.encode())
    _, is_first = SignupCredit.objects.get_or_create(
        mailbox_hash=hashed, defaults={"organization": organization, "amount_nanos": amount_nanos}
    )
    if not is_first:
        raise _Refused("mailbox had its credit")
    address = clients.parse(client_address or "")
    network = clients.network(address, v4_bits=_V4_BITS, v6_bits=_V6_BITS)
    # The day's sum last: everybody waits for its row.
    if not daily_counts.take(daily_counts.hidden("signup", network), cap=settings.SIGNUP_CREDITS_PER_NETWORK):
        raise _Refused("network had its credits for today")
    if not daily_counts.take("signup", cap=settings.SIGNUP_CREDIT_DAILY_NANOS, units=amount_nanos):
        raise _Refused("the day's credit is given away")
