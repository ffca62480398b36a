"""Starting a top-up: which amounts are taken, how often one may try, and the row saved before Stripe is asked."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any

import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, Sum
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization, User
from billing import stripe_gateway, stripe_references
from billing.stripe_facts import Refused, SessionFact, Unclear
from billing.stripe_models import UNFINISHED, StripeCustomer, TopUp, TopUpState
from core import crypto, errors, ids, money

log = structlog.get_logger(__name__)

_SESSION_LIFE_S = 3600
_DAY = dt.timedelta(days=1)


def limits_nanos() -> tuple[int, int]:
    """The least and the most of one top-up."""
    return settings.TOP_UP_MIN_USD * money.NANOS_PER_USD, settings.TOP_UP_MAX_USD * money.NANOS_PER_USD


def offers_nanos() -> list[int]:
    """The amounts that the page offers, within the limits."""
    least, most = limits_nanos()
    return [offer for offer in map(money.nanos, settings.TOP_UP_OFFERS_USD) if least <= offer <= most]


def amount(text: str) -> int:
    """Nano-dollars of what somebody typed. Raises InvalidRequest with the limits in it."""
    least, most = limits_nanos()
    said = f"from ${money.decimal(least)} to ${money.decimal(most)}"
    try:
        asked_nanos = money.nanos(text.strip().removeprefix("$"))
    except ValueError as error:
        raise errors.InvalidRequest(
            f"A top-up is an amount of US dollars {said}, such as 25 or 12.50.", param="amount"
        ) from error
    if asked_nanos % money.NANOS_PER_CENT:
        raise errors.InvalidRequest(f"A top-up is in whole cents, {said}.", param="amount")
    if not least <= asked_nanos <= most:
        raise errors.InvalidRequest(f"A top-up is {said}.", param="amount")
    return asked_nanos


def start(
    organization: Organization,
    *,
    user: User,
    amount_nanos: int,
    save_card: bool,
    ip: str,
    attempt: uuid.UUID | None = None,
) -> SessionFact:
    """Save a top-up and open its checkout. The same `attempt` again leads to the same checkout.

    Raises InvalidRequest, TooManyRequests, or Overloaded when Stripe does not answer: then nothing was paid.
    """
    if not stripe_gateway.configured():
        raise errors.InvalidRequest("Top-ups are switched off here: this server's operator grants balances.")
    if organization.suspended_at is not None:
        raise errors.InvalidRequest("This organization is suspended.")
    try:
        customer = customer_of(organization)
        top_up = _saved(organization, user, amount_nanos, save_card=save_card, ip=ip, attempt=attempt)
        return _open(top_up, customer)
    except Unclear as error:
        log.warning("Stripe does not answer", error=str(error))
        raise errors.Overloaded("Stripe does not answer just now. Nothing was paid; try again in a minute.") from error
    except Refused as error:
        log.error("Stripe refuses a checkout", error=str(error), reason=error.reason)
        raise errors.InvalidRequest("Stripe refused to start this top-up. Nothing was paid.") from error


def customer_of(organization: Organization) -> str:
    """The organization's customer at Stripe, made when it is first needed. Raises Refused or Unclear."""
    row, _ = StripeCustomer.objects.get_or_create(organization=organization)
    if not row.stripe_id:
        made = stripe_gateway.make_customer(key=row.pk, organization_id=organization.pk, name=organization.slug)
        StripeCustomer.objects.filter(pk=row.pk).update(stripe_id=made)
        row.stripe_id = made
    return row.stripe_id


def _saved(
    organization: Organization,
    user: User,
    amount_nanos: int,
    *,
    save_card: bool,
    ip: str,
    attempt: uuid.UUID | None,
) -> TopUp:
    ip_hash = crypto.keyed_hash("top-up-address", ip.encode()).hex()[:32] if ip else ""
    with transaction.atomic():
        # One at a time for each organization, so that tries are counted right.
        StripeCustomer.objects.select_for_update().get(organization=organization)
        known = TopUp.objects.filter(pk=attempt).first() if attempt else None
        if known is not None and known.organization_id == organization.pk and known.amount_nanos == amount_nanos:
            return known
        _check_tries(organization, ip_hash)
        row = TopUp(
            id=attempt if attempt and known is None else ids.new(),
            organization=organization,
            created_by=user,
            origin="checkout",
            amount_nanos=amount_nanos,
            save_card=save_card,
            ip_hash=ip_hash,
        )
        row.save(force_insert=True)
    row.refresh_from_db(fields=["created_at"])
    return row


def _check_tries(organization: Organization, ip_hash: str) -> None:
    """Cards that were stolen are tried by the thousand: so many a day are enough for an honest customer."""
    lately = TopUp.objects.filter(created_at__gt=timezone.now() - _DAY, origin="checkout")
    declines = lately.filter(organization=organization).aggregate(sum=Sum("declines"))["sum"] or 0
    if declines >= settings.TOP_UP_DECLINES_PER_DAY:
        raise errors.TooManyRequests(
            f"{declines} payments of this organization were declined within a day. Try again tomorrow, or ask the "
            "operator.",
            retry_after_s=3600,
        )
    by_address = lately.filter(ip_hash=ip_hash).count() if ip_hash else 0
    if max(lately.filter(organization=organization).count(), by_address) >= settings.TOP_UP_TRIES_PER_DAY:
        raise errors.TooManyRequests(
            f"{settings.TOP_UP_TRIES_PER_DAY} top-ups were started within a day, as many as may be. Wait a day.",
            retry_after_s=3600,
        )


def _open(top_up: TopUp, customer: str) -> SessionFact:
    where = f"{settings.BASE_URL}{reverse('billing:top-up-done', args=[top_up.word])}"
    session = stripe_gateway.open_checkout(
        top_up=top_up.pk,
        customer=customer,
        cents=stripe_references.cents(top_up.amount_nanos),
        save_card=top_up.save_card,
        success_url=where,
        cancel_url=f"{where}?cancelled=1",
        expires_s=int(top_up.created_at.timestamp()) + _SESSION_LIFE_S,
    )
    opened = TopUp.objects.filter(pk=top_up.pk, state=TopUpState.CREATED)
    try:
        opened.update(state=TopUpState.OPEN, checkout_session=session.id)
    except IntegrityError as error:
        raise Refused("the session belongs to another top-up", reason="session_reused") from error
    return session


def lock_out(top_up: TopUp) -> bool:
    """End every open checkout of an organization whose cards were declined too often; True when it was."""
    mine = TopUp.objects.filter(organization=top_up.organization_id, created_at__gt=timezone.now() - _DAY)
    declines = mine.aggregate(sum=Sum("declines"))["sum"] or 0
    if declines < settings.TOP_UP_DECLINES_PER_DAY:
        return False
    log.error("too many declined cards: checkouts are closed", organization=top_up.organization_id, declines=declines)
    for session_id in mine.filter(Q(state__in=UNFINISHED) & ~Q(checkout_session="")).values_list(
        "checkout_session", flat=True
    ):
        try:
            stripe_gateway.expire_checkout(session_id)
        except (Refused, Unclear) as error:
            log.warning("a checkout could not be closed", session=session_id, error=str(error))
    return True


def listed(organization: Organization, *, most: int = 50) -> list[TopUp]:
    """The organization's top-ups, the newest first."""
    return list(TopUp.objects.filter(organization=organization).order_by("-id")[:most])


def find(organization: Organization, word: str) -> TopUp | None:
    """One of the organization's top-ups by its word."""
    pk: Any = ids.parse("top", word)
    return TopUp.objects.filter(organization=organization, pk=pk).first() if pk else None
