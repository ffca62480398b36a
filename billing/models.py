"""Account, Hold, Transfer and Limit. Rows are written by the migrations' SQL functions, through `billing.ledger`."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization
from billing.budget_models import BudgetAlert
from billing.closing_models import Closing
from billing.grant_models import Grant
from billing.promotion_models import DailyCount, SignupCredit
from billing.stripe_models import AutomaticTopUp, Dispute, Refund, StripeCustomer, StripeEvent, TopUp

# Django looks for models here; those of a part of its own live beside.
__all__ = [
    "Account",
    "AccountKind",
    "AutomaticTopUp",
    "BudgetAlert",
    "Closing",
    "DailyCount",
    "Dispute",
    "Grant",
    "Hold",
    "HoldLimit",
    "Limit",
    "LimitUse",
    "Refund",
    "SignupCredit",
    "StripeCustomer",
    "StripeEvent",
    "TopUp",
    "Transfer",
    "TransferKind",
]


class AccountKind(models.TextChoices):
    """The chart of accounts. There is no margin or revenue account for usage, so there is nowhere to hide one."""

    WALLET = "wallet"
    PROMO = "promo"
    PROVIDER_PAYABLE = "provider_payable"
    SIMULATED = "simulated"
    ABSORBED = "absorbed"
    PROMO_EXPENSE = "promo_expense"
    BREAKAGE = "breakage"
    STRIPE_CLEARING = "stripe_clearing"
    STRIPE_FEES = "stripe_fees"
    TAX_PAYABLE = "tax_payable"
    SUSPENSE = "suspense"


class Account(models.Model):
    """One side of transfers. Only an organization's wallet and promo carry a running balance and a held amount."""

    kind = models.CharField(max_length=24, choices=AccountKind.choices)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="accounts", db_index=False
    )
    provider = models.CharField(max_length=64, blank=True, default="", db_default="")
    posted_nanos = models.BigIntegerField(default=0, db_default=0)
    held_nanos = models.BigIntegerField(default=0, db_default=0)
    # How far `posted - held` may fall; below zero only for a debt booked by a dispute.
    floor_nanos = models.BigIntegerField(default=0, db_default=0)
    frozen = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["organization", "kind", "provider"], name="account_once", nulls_distinct=False
            ),
            # Which accounts there can be is looked at when one is made (ledger_check_account), not with every balance.
            models.CheckConstraint(
                name="account_balance_in_bounds",
                condition=Q(organization__isnull=True, posted_nanos=0, held_nanos=0)
                | Q(
                    organization__isnull=False, held_nanos__gte=0, posted_nanos__gte=F("held_nanos") + F("floor_nanos")
                ),
            ),
        )

    def __str__(self) -> str:
        return " ".join(filter(None, (self.kind, self.provider, str(self.organization or ""))))


class Hold(models.Model):
    """Money reserved for one generation, named by the generation's own id: held, then settled or voided."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="holds", db_index=False)
    state = models.CharField(max_length=8, default="held", db_default="held")
    promo_nanos = models.BigIntegerField()
    wallet_nanos = models.BigIntegerField()
    charged_nanos = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            # One condition with few words in it: the server reads it anew for every hold and every settlement.
            models.CheckConstraint(
                name="hold_resolved_within_itself",
                condition=Q(promo_nanos__gte=0, wallet_nanos__gte=0)
                & (
                    Q(resolved_at__isnull=True, charged_nanos__isnull=True, state="held")
                    | Q(resolved_at__isnull=False, charged_nanos__isnull=True, state="voided")
                    | Q(
                        resolved_at__isnull=False,
                        charged_nanos__isnull=False,  # a condition that comes to NULL would hold
                        charged_nanos__gte=0,
                        charged_nanos__lte=F("promo_nanos") + F("wallet_nanos"),
                        state="settled",
                    )
                ),
            ),
        )
        indexes = (models.Index(fields=["organization"], name="hold_open", condition=Q(state="held")),)

    def __str__(self) -> str:
        return f"{self.id} {self.state}"


class TransferKind(models.TextChoices):
    """Why money moved; with the reference it names a transfer once and for all."""

    GRANT = "grant"
    GRANT_EXPIRED = "grant_expired"
    CHARGE = "charge"
    CHARGE_PROMO = "charge_promo"
    ABSORBED = "absorbed"
    TOP_UP = "top_up"
    TOP_UP_TAX = "top_up_tax"
    STRIPE_FEE = "stripe_fee"
    REFUND = "refund"
    REFUND_OUTSIDE = "refund_outside"
    REFUND_TAX = "refund_tax"
    REFUND_FAILED = "refund_failed"
    REFUND_TAX_FAILED = "refund_tax_failed"
    DISPUTE = "dispute"
    DISPUTE_TAX = "dispute_tax"
    DISPUTE_WON = "dispute_won"
    DISPUTE_TAX_WON = "dispute_tax_won"
    DISPUTE_FEE = "dispute_fee"
    SUSPENSE = "suspense"
    SUSPENSE_RETURNED = "suspense_returned"
    TRUE_UP = "true_up"
    TRUE_UP_PROMO = "true_up_promo"
    BILL_ABSORBED = "bill_absorbed"
    BILL_CREDITED = "bill_credited"
    FORFEITED = "forfeited"
    DEBT_WRITTEN_OFF = "debt_written_off"


class Transfer(models.Model):
    """One immutable row of the journal: one debit, one credit, one amount. Balanced by construction."""

    debit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="debits", db_index=False)
    credit_account = models.ForeignKey(Account, on_delete=models.PROTECT, related_name="credits", db_index=False)
    amount_nanos = models.BigIntegerField()
    kind = models.CharField(max_length=24, choices=TransferKind.choices)
    reference_type = models.CharField(max_length=24)
    reference_id = models.UUIDField()
    note = models.CharField(max_length=200, blank=True, default="", db_default="")
    # What the organization's account, on either side, had after this; null between accounts of the system.
    balance_nanos = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["reference_id", "reference_type", "kind"], name="transfer_once_per_reference"
            ),
            models.CheckConstraint(name="transfer_amount_positive", condition=Q(amount_nanos__gt=0)),
            models.CheckConstraint(
                name="transfer_between_two_accounts", condition=~Q(debit_account=F("credit_account"))
            ),
        )
        indexes = (
            models.Index(fields=["debit_account", "-id"], name="transfer_by_debit"),
            models.Index(fields=["credit_account", "-id"], name="transfer_by_credit"),
            # What goes out beside usage is rare and would otherwise be looked for among all the charges.
            models.Index(
                fields=["debit_account", "-id"],
                name="transfer_by_debit_beside_usage",
                condition=~Q(kind__in=["charge", "charge_promo"]),
            ),
        )

    def __str__(self) -> str:
        return f"{self.kind} {self.amount_nanos} {self.reference_type} {self.reference_id}"


class Limit(models.Model):
    """A cap that every hold of its scope must also fit: dollars by window, how many a minute, or how many at once."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="limits", db_index=False)
    scope = models.CharField(max_length=16)
    # The key's or member's row id; null for the whole organization.
    scope_id = models.BigIntegerField(null=True)
    meter = models.CharField(max_length=16)
    window = models.CharField(max_length=8)
    # Nano-USD for spend, a count for in_flight and requests.
    cap = models.BigIntegerField()
    active = models.BooleanField(default=True, db_default=True)
    # When a budget last refused a request, by the minute: an alert for a window that has come to its end.
    refused_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="limit_scope_known",
                condition=Q(scope="organization", scope_id__isnull=True)
                | Q(scope__in=["key", "member"], scope_id__isnull=False),
            ),
            models.CheckConstraint(
                name="limit_meter_known",
                condition=Q(meter="spend", window__in=["day", "month", "total"])
                | Q(meter="in_flight", window="total")
                | Q(meter="requests", window="minute"),
            ),
            models.CheckConstraint(name="limit_cap_not_negative", condition=Q(cap__gte=0)),
            models.UniqueConstraint(
                fields=["organization", "scope", "scope_id", "meter", "window"],
                name="limit_once_per_scope",
                nulls_distinct=False,
            ),
        )
        indexes = (models.Index(fields=["window"], name="limit_budgets", condition=Q(meter="spend", active=True)),)

    def __str__(self) -> str:
        return f"{self.scope} {self.meter} {self.window} {self.cap}"


class LimitUse(models.Model):
    """How much of a limit is used and held in one window."""

    limit = models.ForeignKey(Limit, on_delete=models.CASCADE, related_name="uses", db_index=False)
    starts_at = models.DateTimeField()
    used = models.BigIntegerField(default=0, db_default=0)
    held = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["limit", "starts_at"], name="limit_use_once_per_window"),
            models.CheckConstraint(name="limit_use_not_negative", condition=Q(used__gte=0, held__gte=0)),
        )

    def __str__(self) -> str:
        return f"{self.limit} from {self.starts_at}: {self.used} used, {self.held} held"


class HoldLimit(models.Model):
    """What one hold took from one limit's window, so that resolving it gives back exactly that."""

    hold = models.ForeignKey(Hold, on_delete=models.CASCADE, related_name="limits", db_index=False)
    use = models.ForeignKey(LimitUse, on_delete=models.CASCADE, related_name="holds")
    amount = models.BigIntegerField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["hold", "use"], name="hold_limit_once"),)

    def __str__(self) -> str:
        return f"{self.hold_id} takes {self.amount}"
