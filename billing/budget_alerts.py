"""Telling people and programs that a budget comes to its end: at 80 and 100 %, each once for a window.

Found by a task each minute rather than at settlement: the charge stays as it is, and nobody needs to know sooner, since
the budget itself holds at once.
"""

from __future__ import annotations

import uuid

import structlog
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import connection, transaction
from django.db.models.functions import Now
from django.template.loader import render_to_string
from procrastinate.contrib.django import app

from accounts.models import ApiKey, Membership, Organization, Role, User
from billing import budgets, signals
from billing.budgets import STARTS, Budget
from billing.models import BudgetAlert
from core import ids, sql

log = structlog.get_logger(__name__)

MAIL_TASK = "billing.mail_budget_alert"
_TOLD = (Role.OWNER, Role.BILLING)

# A budget that has refused a request is at its end, whatever is left: the next one would not fit either.
_DUE = f"""
SELECT l.id, l.organization_id, threshold.percent,
       l.scope, l.scope_id, l."window", l.cap, coalesce(u.used, 0), coalesce(u.held, 0), started.starts_at
FROM billing_limit l JOIN {STARTS} ON started."window" = l."window"
LEFT JOIN billing_limituse u ON u.limit_id = l.id AND u.starts_at = started.starts_at
CROSS JOIN (VALUES (80), (100)) AS threshold(percent)
WHERE l.meter = 'spend' AND l.active AND l.cap > 0
  AND (u.used::numeric * 100 >= l.cap::numeric * threshold.percent
       OR threshold.percent = 100 AND l.refused_at >= started.starts_at)
  AND NOT EXISTS (
      SELECT 1 FROM billing_budgetalert a
      WHERE a.limit_id = l.id AND a.starts_at = started.starts_at AND a.threshold_percent = threshold.percent
  )
ORDER BY l.id, threshold.percent
"""  # noqa: S608 - constants


def find() -> int:
    """Note every threshold that was passed and not told of, and tell of it; how many there were.

    Several may look at once: the row is made by one of them, and the telling goes with it.
    """
    with connection.cursor() as cursor:
        cursor.execute(_DUE)
        due = cursor.fetchall()
    noted = 0
    for limit_id, organization_id, percent, *rest in due:
        try:
            noted += _note(limit_id, organization_id, percent, Budget(*rest))
        except Exception:  # one that cannot be told of must not keep the others
            log.exception("a budget's alert was not noted; trying again", limit=limit_id)
        finally:
            sql.give_back()
    return noted


def _note(limit_id: int, organization_id: int, percent: int, budget: Budget) -> bool:
    with transaction.atomic():
        alert, created = BudgetAlert.objects.get_or_create(
            limit_id=limit_id,
            starts_at=budget.starts_at,
            threshold_percent=percent,
            defaults={"id": ids.new(), "cap_nanos": budget.cap_nanos, "used_nanos": budget.used_nanos},
        )
        if created:
            key_word, member = _whose(budget.scope, budget.scope_id or 0)
            data = {**budgets.document(budget, key_word=key_word, member=member), "threshold_percent": percent}
            signals.budget_reached.send(
                sender=BudgetAlert, organization_id=organization_id, event_id=alert.pk, data=data
            )
            app.configure_task(MAIL_TASK).defer(alert_id=str(alert.pk))
    return created


def _whose(scope: str, scope_id: int) -> tuple[str | None, str | None]:
    """The key's word or the member's address, where a budget is one's."""
    if scope == "key":
        return ApiKey.objects.filter(pk=scope_id).values_list("public_id", flat=True).first(), None
    if scope == "member":
        return None, User.objects.filter(pk=scope_id).values_list("email", flat=True).first()
    return None, None


def mail(alert_id: uuid.UUID) -> int:
    """Write to owners and billing members, each by themselves; how many mails went out, 0 when somebody was faster.

    Raises when the mail server does not take them; then nothing counts as sent.
    """
    if not BudgetAlert.objects.filter(pk=alert_id, mailed_at=None).update(mailed_at=Now()):
        return 0
    try:
        alert = BudgetAlert.objects.select_related("limit__organization").get(pk=alert_id)
        messages = _messages(alert)
        with get_connection() as line:
            return line.send_messages(messages) or 0
    except Exception:
        BudgetAlert.objects.filter(pk=alert_id).update(mailed_at=None)
        raise
    finally:
        sql.give_back()


def _messages(alert: BudgetAlert) -> list[EmailMessage]:
    limit, organization = alert.limit, alert.limit.organization
    key_word, member = _whose(limit.scope, limit.scope_id or 0)
    key = ApiKey.objects.filter(public_id=key_word).first() if key_word else None
    context = {
        "organization": organization,
        "alert": alert,
        "limit": limit,
        "key": key,
        "member": member,
        "base_url": settings.BASE_URL,
    }
    subject = " ".join(render_to_string("billing/email/budget_alert_subject.txt", context).split())
    body = render_to_string("billing/email/budget_alert_message.txt", context).strip() + "\n"
    return [EmailMessage(subject, body, to=[address]) for address in addresses(organization)]


def addresses(organization: Organization, roles: tuple[str, ...] = _TOLD) -> list[str]:
    """The members who are told about money."""
    found = Membership.objects.filter(organization=organization, role__in=roles, user__is_active=True)
    return list(found.order_by("id").values_list("user__email", flat=True))
