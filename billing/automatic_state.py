"""What the end of an automatic top-up means for the next one, and the mails about it."""

from __future__ import annotations

from collections.abc import Sequence

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.template.loader import render_to_string

from accounts.models import Membership, Role
from billing.stripe_models import AutomaticTopUp, TopUp

FAILURES_MAX = 3


def succeeded(top_up: TopUp) -> None:
    """Earlier failures are forgotten."""
    AutomaticTopUp.objects.filter(organization=top_up.organization_id).update(failures=0)


def failed(top_up: TopUp) -> None:
    """Count it; after three in a row it is switched off, and those who pay are told."""
    mine = AutomaticTopUp.objects.filter(organization=top_up.organization_id)
    mine.update(failures=F("failures") + 1)
    reason = f"{FAILURES_MAX} charges in a row failed, the last one with {top_up.failure or 'no reason given'}."
    if mine.filter(enabled=True, failures__gte=FAILURES_MAX).update(enabled=False, off_reason=reason[:200]):
        tell(top_up, "Automatic top-up is switched off", "automatic_off")
    else:
        tell(top_up, "An automatic top-up failed", "automatic_failed")


def wants_action(top_up: TopUp) -> None:
    """The bank asks for the cardholder: a mail leads to the page where they confirm."""
    tell(top_up, "Your bank asks you to confirm a top-up", "automatic_confirm")


def tell(top_up: TopUp, subject: str, template: str) -> None:
    """Mail everybody who may pay, once what it is about is on record."""
    context = {"top_up": top_up, "organization": top_up.organization, "base_url": settings.BASE_URL}
    text = render_to_string(f"billing/mail/{template}.txt", context)
    people = payers(top_up.organization_id)
    transaction.on_commit(lambda: send_mail(subject, text, None, people), robust=True)


def payers(organization_id: int) -> Sequence[str]:
    """The addresses of those who look after an organization's money."""
    members = Membership.objects.filter(organization=organization_id, role__in=[Role.OWNER, Role.ADMIN, Role.BILLING])
    return list(members.order_by("id").values_list("user__email", flat=True))
