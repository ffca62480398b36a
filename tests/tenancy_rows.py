"""Whose rows each table holds: what the isolation sweep compares before and after."""

from __future__ import annotations

from django.apps import apps
from django.db import connection, models

from accounts.models import Organization

_MINE = "organization_id = %(id)s"
_MEMBERS = "IN (SELECT user_id FROM accounts_membership WHERE organization_id = %(id)s)"
_ACCOUNTS = "IN (SELECT id FROM billing_account WHERE organization_id = %(id)s)"
# Which rows of each model are an organization's.
OWNED = {
    "accounts.Organization": "id = %(id)s",
    "accounts.User": f"id {_MEMBERS}",
    "account.EmailAddress": f"user_id {_MEMBERS}",
    "accounts.Membership": _MINE,
    "accounts.ApiKey": _MINE,
    "billing.Account": _MINE,
    "billing.Hold": _MINE,
    "billing.Limit": _MINE,
    "billing.BudgetAlert": f"limit_id IN (SELECT id FROM billing_limit WHERE {_MINE})",
    "billing.Grant": _MINE,
    "billing.SignupCredit": _MINE,
    "billing.Closing": _MINE,
    "billing.LimitUse": f"limit_id IN (SELECT id FROM billing_limit WHERE {_MINE})",
    "billing.HoldLimit": f"hold_id IN (SELECT id FROM billing_hold WHERE {_MINE})",
    "billing.TopUp": _MINE,
    "billing.Refund": f"top_up_id IN (SELECT id FROM billing_topup WHERE {_MINE})",
    "billing.Dispute": f"top_up_id IN (SELECT id FROM billing_topup WHERE {_MINE})",
    "billing.StripeCustomer": _MINE,
    "billing.AutomaticTopUp": _MINE,
    "billing.Transfer": f"(debit_account_id {_ACCOUNTS} OR credit_account_id {_ACCOUNTS})",
    "imagesapi.Generation": _MINE,
    "imagesapi.Attempt": f"generation_id IN (SELECT id FROM imagesapi_generation WHERE {_MINE})",
    "imagesapi.Image": _MINE,
    "imagesapi.OwnProviderKey": _MINE,
    "imagesapi.UsageHour": _MINE,
    "imagesapi.WebhookEndpoint": _MINE,
    "imagesapi.WebhookDelivery": _MINE,
    "imagesapi.BillAdjustment": _MINE,
    "imagesapi.LedgerDay": _MINE,
    "imagesapi.Statement": _MINE,
}
# The operator's, the framework's, or nobody's.
SHARED = frozenset(
    ("imagesapi.Provider", "imagesapi.ProviderSecret", "imagesapi.Model", "imagesapi.Offer", "imagesapi.PriceLine")
    + ("billing.StripeEvent", "imagesapi.Breaker", "imagesapi.OfferHealth", "imagesapi.UsageMark", "billing.DailyCount")
    + ("imagesapi.BillLine", "imagesapi.BillDay", "imagesapi.Reconciliation", "imagesapi.ProviderDay")
    + ("imagesapi.LedgerMark",)
    + ("imagesapi.CatalogVersion", "auth.Permission", "auth.Group", "contenttypes.ContentType", "sessions.Session")
    + ("account.EmailConfirmation", "procrastinate.ProcrastinateWorker", "procrastinate.ProcrastinateJob")
    + ("procrastinate.ProcrastinateEvent", "procrastinate.ProcrastinatePeriodicDefer")
)


def unknown_models() -> list[str]:
    """Models of which the digest does not know whose rows they are."""
    found: list[type[models.Model]] = list(apps.get_models())
    return [model._meta.label for model in found if model._meta.label not in OWNED.keys() | SHARED]


def make_digest() -> None:
    """A function until the transaction ends: its thirty statements are planned once, not for each of many digests."""
    parts = [
        f"SELECT '{label}', md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) "
        f"FROM {apps.get_model(label)._meta.db_table} t WHERE {condition % {'id': '$1'}}"
        for label, condition in OWNED.items()
    ]
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION tests.digest(bigint) RETURNS TABLE (label text, digest text) LANGUAGE plpgsql AS "
            f"$body$ BEGIN RETURN QUERY {' UNION ALL '.join(parts)}; END $body$"
        )


def digest(organization: Organization) -> dict[str, str]:
    """Every row of an organization, as one digest a table."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM tests.digest(%s)", [organization.pk])
        return dict(cursor.fetchall())
