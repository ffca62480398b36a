"""Automatic top-up: when the balance falls below its threshold, the saved card pays the whole gap in one charge."""

from __future__ import annotations

import datetime as dt

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Sum
from django.utils import timezone

from accounts.models import Organization
from billing import automatic_state, ledger, payments, stripe_gateway, stripe_references, top_ups
from billing.stripe_facts import Missing, Refused, Unclear
from billing.stripe_models import UNFINISHED, AutomaticTopUp, StripeCustomer, TopUp, TopUpState
from core import errors, money

log = structlog.get_logger(__name__)

_AGAIN_AFTER = dt.timedelta(seconds=60)
# Stripe keeps a key for a day: after that the same question would be a new charge.
_KEY_LIFE = dt.timedelta(hours=23)
_CONFIRM_WITHIN = dt.timedelta(hours=24)
_BELOW = """
SELECT a.organization_id FROM billing_automatictopup a
JOIN accounts_organization o ON o.id = a.organization_id AND o.suspended_at IS NULL
WHERE a.enabled AND (a.tried_at IS NULL OR a.tried_at < %(before)s)
  AND a.threshold_nanos > (
    SELECT coalesce(sum(posted_nanos - held_nanos), 0) FROM billing_account b
    WHERE b.organization_id = a.organization_id
  )
ORDER BY a.tried_at NULLS FIRST LIMIT 100
"""


def save(
    organization: Organization, *, enabled: bool, threshold_nanos: int, target_nanos: int, monthly_ceiling_nanos: int
) -> None:
    """Set it up, or switch it off. Raises InvalidRequest."""
    _, most = top_ups.limits_nanos()
    if enabled and not StripeCustomer.objects.filter(organization=organization).exclude(payment_method="").exists():
        raise errors.InvalidRequest("There is no saved card yet: make a top-up and let it save the card.")
    if enabled and settings.STRIPE_TAX:
        raise errors.InvalidRequest("Automatic top-up is not possible where tax is added to each payment.")
    if not 0 <= threshold_nanos < target_nanos <= most:
        raise errors.InvalidRequest(
            f"The balance is filled up to more than the threshold, and to at most ${money.decimal(most)}.",
            param="target",
        )
    if monthly_ceiling_nanos < target_nanos - threshold_nanos:
        raise errors.InvalidRequest("The monthly ceiling must allow at least one top-up.", param="ceiling")
    AutomaticTopUp.objects.update_or_create(
        organization=organization,
        defaults={
            "enabled": enabled,
            "threshold_nanos": threshold_nanos,
            "target_nanos": target_nanos,
            "monthly_ceiling_nanos": monthly_ceiling_nanos,
            "failures": 0,
            "off_reason": "",
        },
    )


def sweep() -> int:
    """Look at every organization whose balance fell below its threshold; how many charges were started."""
    if not stripe_gateway.configured():
        return 0
    before = timezone.now() - dt.timedelta(seconds=settings.AUTOMATIC_TOP_UP_PAUSE_S)
    with connection.cursor() as cursor:
        cursor.execute(_BELOW, {"before": before})
        found = [organization_id for (organization_id,) in cursor.fetchall()]
    return sum(consider(organization_id) is not None for organization_id in found)


def consider(organization_id: int) -> TopUp | None:
    """Charge the saved card if it is time to; None when it is not. However many ask at once, one charge is made."""
    with transaction.atomic():
        top_up = _due(organization_id)
    if top_up is not None:
        charge(top_up)
    return top_up


def _due(organization_id: int) -> TopUp | None:
    row = AutomaticTopUp.objects.select_for_update().filter(pk=organization_id, enabled=True).first()
    now = timezone.now()
    if row is None or (row.tried_at and row.tried_at > now - dt.timedelta(seconds=settings.AUTOMATIC_TOP_UP_PAUSE_S)):
        return None
    mine = TopUp.objects.filter(organization=organization_id)
    card = StripeCustomer.objects.filter(organization=organization_id).exclude(payment_method="").first()
    if card is None or mine.filter(origin="automatic", state__in=UNFINISHED).exists():
        return None
    if ledger.is_frozen(organization_id):
        return None
    on_its_way_nanos = mine.filter(state=TopUpState.PROCESSING).aggregate(sum=Sum("amount_nanos"))["sum"] or 0
    available_nanos = ledger.balance(organization_id).available_nanos + on_its_way_nanos
    if available_nanos >= row.threshold_nanos:
        return None
    amount_nanos = _amount_nanos(row, available_nanos, now)
    if amount_nanos is None:
        return None
    row.tried_at = now
    row.save(update_fields=["tried_at"])
    return TopUp.objects.create(
        organization_id=organization_id,
        origin="automatic",
        amount_nanos=amount_nanos,
        payment_method=card.payment_method,
    )


def _amount_nanos(row: AutomaticTopUp, available_nanos: int, now: dt.datetime) -> int | None:
    """The whole gap in whole cents, within the limits of a top-up and what the month still allows."""
    least, most = top_ups.limits_nanos()
    gap_nanos = money.round_up(row.target_nanos - available_nanos, money.NANOS_PER_CENT)
    month = TopUp.objects.filter(
        organization=row.organization_id,
        origin="automatic",
        created_at__gte=now.replace(day=1, hour=0, minute=0, second=0, microsecond=0),
        state__in=[*UNFINISHED, TopUpState.PAID, TopUpState.UNEXPLAINED],
    )
    left_nanos = row.monthly_ceiling_nanos - (month.aggregate(sum=Sum("amount_nanos"))["sum"] or 0)
    amount_nanos = min(max(gap_nanos, least), most, left_nanos - left_nanos % money.NANOS_PER_CENT)
    return amount_nanos if amount_nanos >= least else None


def charge(top_up: TopUp) -> None:
    """Ask Stripe for the charge, under the top-up's key however often, and book what became of it."""
    customer = StripeCustomer.objects.get(organization=top_up.organization_id)
    try:
        intent_id = stripe_gateway.charge_saved_card(
            top_up=top_up.pk,
            customer=customer.stripe_id,
            payment_method=top_up.payment_method,
            cents=stripe_references.cents(top_up.amount_nanos),
        )
    except Unclear as error:
        log.warning("an automatic top-up is unclear and will be asked for again", error=str(error))
        return
    except (Refused, Missing) as error:
        intent_id = getattr(error, "intent_id", "")
        if not intent_id:
            _refused(top_up, getattr(error, "reason", "") or "refused")
            return
    try:
        payments.bring_up_to_date(intent_id)
    except (Missing, Unclear) as error:
        log.warning("an automatic top-up will be looked at again", error=str(error))


def _refused(top_up: TopUp, code: str) -> None:
    with transaction.atomic():
        row = TopUp.objects.select_for_update().get(pk=top_up.pk)
        if row.state in UNFINISHED:
            row.state, row.failure = TopUpState.FAILED, code[:64]
            row.save(update_fields=["state", "failure"])
            automatic_state.failed(row)


def resume() -> None:
    """Ask anew for charges whose answer was lost, and end those that nobody confirmed within a day."""
    now = timezone.now()
    mine = TopUp.objects.filter(origin="automatic").order_by("id")
    for top_up in mine.filter(state=TopUpState.CREATED, created_at__lt=now - _AGAIN_AFTER)[:100]:
        if top_up.created_at > now - _KEY_LIFE:
            charge(top_up)
        else:  # reconciliation has looked for it all the while
            _refused(top_up, "never_answered")
    for top_up in mine.filter(state=TopUpState.ACTION, created_at__lt=now - _CONFIRM_WITHIN)[:100]:
        try:
            stripe_gateway.cancel(top_up.payment_intent)
            payments.bring_up_to_date(top_up.payment_intent)
        except (Refused, Missing, Unclear) as error:
            log.warning("an unconfirmed top-up could not be ended", top_up=top_up.word, error=str(error))


def confirm(top_up: TopUp, *, return_url: str) -> str | None:
    """Where the customer confirms with their bank; None when there is nothing to confirm any more.

    Raises Overloaded when Stripe does not answer, InvalidRequest when it refuses.
    """
    if top_up.state != TopUpState.ACTION:
        return None
    try:
        leads_to = stripe_gateway.confirm(
            top_up.payment_intent, payment_method=top_up.payment_method, return_url=return_url
        )
        if leads_to is None:
            payments.bring_up_to_date(top_up.payment_intent)
    except Unclear as error:
        raise errors.Overloaded("Stripe does not answer just now. Try again in a minute.") from error
    except (Refused, Missing) as error:
        raise errors.InvalidRequest("Your bank refused this payment. Make a top-up with another card.") from error
    return leads_to
