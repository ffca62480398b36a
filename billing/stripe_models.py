"""What came in and went out through Stripe: TopUp, Refund, Dispute, the saved card, and the inbox of its events."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization, User
from core import ids


class TopUpState(models.TextChoices):
    """How a top-up stands. Whatever it is, a payment that arrives after all makes it paid."""

    CREATED = "created"  # on record here; Stripe may or may not have heard of it
    OPEN = "open"  # Stripe waits for the customer
    PROCESSING = "processing"  # the bank takes its time
    ACTION = "action"  # the bank wants the customer to confirm
    PAID = "paid"
    UNEXPLAINED = "unexplained"  # money came that is not what was asked for
    FAILED = "failed"
    EXPIRED = "expired"


UNFINISHED = (TopUpState.CREATED, TopUpState.OPEN, TopUpState.PROCESSING, TopUpState.ACTION)


class TopUp(models.Model):
    """One payment into a wallet, saved before Stripe is asked; its id is the idempotency key of everything asked."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="top_ups", db_index=False)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    origin = models.CharField(max_length=12)
    state = models.CharField(max_length=12, choices=TopUpState.choices, default=TopUpState.CREATED)
    # What shall be credited, without tax.
    amount_nanos = models.BigIntegerField()
    save_card = models.BooleanField(default=False)
    # Keyed hash of the address that asked, for counting tries only.
    ip_hash = models.CharField(max_length=32, blank=True, default="")
    checkout_session = models.CharField(max_length=255, blank=True, default="")
    payment_intent = models.CharField(max_length=255, blank=True, default="")
    # The saved card that an automatic one charges: what is asked again with a key must be the same.
    payment_method = models.CharField(max_length=255, blank=True, default="")
    receipt_url = models.CharField(max_length=2048, blank=True, default="")
    # The ledger's reference, made of the PaymentIntent's id; set when something is booked.
    reference = models.UUIDField(null=True)
    credited_nanos = models.BigIntegerField(default=0)
    tax_nanos = models.BigIntegerField(default=0)
    # Of both, what refunds and disputes took back.
    clawed_nanos = models.BigIntegerField(default=0)
    clawed_tax_nanos = models.BigIntegerField(default=0)
    fee_nanos = models.BigIntegerField(default=0)
    declines = models.IntegerField(default=0)
    failure = models.CharField(max_length=64, blank=True, default="")
    fraud_warning = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(db_default=Now())
    paid_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(name="top_up_state_known", condition=Q(state__in=TopUpState.values)),
            models.CheckConstraint(name="top_up_origin_known", condition=Q(origin__in=["checkout", "automatic"])),
            models.CheckConstraint(name="top_up_amount_positive", condition=Q(amount_nanos__gt=0)),
            models.CheckConstraint(
                name="top_up_credited_when_paid",
                condition=Q(state="paid", credited_nanos__gt=0, paid_at__isnull=False, reference__isnull=False)
                & ~Q(payment_intent="")
                | ~Q(state="paid") & Q(credited_nanos=0, tax_nanos=0, paid_at__isnull=True),
            ),
            models.CheckConstraint(
                name="top_up_clawed_at_most_what_was_paid",
                condition=Q(clawed_nanos__gte=0, clawed_nanos__lte=F("credited_nanos"))
                & Q(clawed_tax_nanos__gte=0, clawed_tax_nanos__lte=F("tax_nanos")),
            ),
            models.UniqueConstraint(
                fields=["payment_intent"], name="top_up_once_per_intent", condition=~Q(payment_intent="")
            ),
            models.UniqueConstraint(
                fields=["checkout_session"], name="top_up_once_per_session", condition=~Q(checkout_session="")
            ),
            models.UniqueConstraint(
                fields=["organization"],
                name="top_up_one_automatic_at_a_time",
                condition=Q(origin="automatic", state__in=UNFINISHED),
            ),
        )
        indexes = (
            models.Index(fields=["organization", "-id"], name="top_up_by_organization"),
            models.Index(fields=["ip_hash", "-id"], name="top_up_by_address"),
            models.Index(fields=["id"], name="top_up_unfinished", condition=Q(state__in=UNFINISHED)),
        )

    def __str__(self) -> str:
        return f"{self.word} {self.state}"

    @property
    def word(self) -> str:
        return ids.public("top", self.pk)

    @property
    def left_nanos(self) -> int:
        """What can still be taken back of what was credited."""
        return self.credited_nanos - self.clawed_nanos


class RefundState(models.TextChoices):
    """How a refund stands; asked: on record and booked here, Stripe may or may not have heard of it."""

    ASKED = "asked"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class Refund(models.Model):
    """Money on its way back to the card that paid, booked once under this id."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, related_name="refunds")
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, related_name="+")
    stripe_id = models.CharField(max_length=255, blank=True, default="")
    state = models.CharField(max_length=12, choices=RefundState.choices, default=RefundState.ASKED)
    # What it took from the wallet and from the tax; together what Stripe sends back, unless more than was paid.
    amount_nanos = models.BigIntegerField()
    tax_nanos = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(name="refund_state_known", condition=Q(state__in=RefundState.values)),
            models.CheckConstraint(
                name="refund_amounts_not_negative", condition=Q(amount_nanos__gte=0, tax_nanos__gte=0)
            ),
            models.UniqueConstraint(fields=["stripe_id"], name="refund_once_per_object", condition=~Q(stripe_id="")),
        )
        indexes = (models.Index(fields=["id"], name="refund_unfinished", condition=Q(state__in=["asked", "pending"])),)

    def __str__(self) -> str:
        return f"{self.stripe_id or self.pk} {self.state}"


class Dispute(models.Model):
    """A bank that takes a payment back, or asks about it."""

    stripe_id = models.CharField(max_length=255, primary_key=True)
    top_up = models.ForeignKey(TopUp, on_delete=models.PROTECT, related_name="disputes")
    status = models.CharField(max_length=40)
    reason = models.CharField(max_length=60, blank=True, default="")
    # What it took from the wallet and from the tax so far, in how many bookings, and what was beyond what we had got.
    amount_nanos = models.BigIntegerField(default=0)
    tax_nanos = models.BigIntegerField(default=0)
    bookings = models.SmallIntegerField(default=0)
    excess_nanos = models.BigIntegerField(default=0)
    returned = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="dispute_amounts_not_negative",
                condition=Q(amount_nanos__gte=0, tax_nanos__gte=0, excess_nanos__gte=0),
            ),
        )

    def __str__(self) -> str:
        return f"{self.stripe_id} {self.status}"


class StripeCustomer(models.Model):
    """An organization as Stripe knows it, and the card it saved for later."""

    # Also the idempotency key of making the customer.
    id = models.UUIDField(primary_key=True, default=ids.new)
    organization = models.OneToOneField(Organization, on_delete=models.PROTECT, related_name="stripe_customer")
    stripe_id = models.CharField(max_length=255, blank=True, default="")
    payment_method = models.CharField(max_length=255, blank=True, default="")
    card_brand = models.CharField(max_length=40, blank=True, default="")
    card_last_four = models.CharField(max_length=4, blank=True, default="")
    card_ends = models.CharField(max_length=7, blank=True, default="")

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["stripe_id"], name="stripe_customer_once", condition=~Q(stripe_id="")),
        )

    def __str__(self) -> str:
        return self.stripe_id


class AutomaticTopUp(models.Model):
    """When and how far an organization's balance is filled up from its saved card."""

    organization = models.OneToOneField(
        Organization, on_delete=models.CASCADE, related_name="automatic_top_up", primary_key=True
    )
    enabled = models.BooleanField(default=False)
    # Filled up to the target when what is available falls below the threshold.
    threshold_nanos = models.BigIntegerField()
    target_nanos = models.BigIntegerField()
    monthly_ceiling_nanos = models.BigIntegerField()
    failures = models.SmallIntegerField(default=0)
    tried_at = models.DateTimeField(null=True)
    # Why we switched it off; blank when its owner did, or nobody.
    off_reason = models.CharField(max_length=200, blank=True, default="")

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="automatic_top_up_amounts_ordered",
                condition=Q(threshold_nanos__gte=0, target_nanos__gt=F("threshold_nanos"))
                & Q(monthly_ceiling_nanos__gt=0),
            ),
            models.CheckConstraint(
                name="automatic_top_up_reason_when_off", condition=Q(enabled=False) | Q(off_reason="")
            ),
        )

    def __str__(self) -> str:
        return f"automatic top-up of {self.organization_id}"


class StripeEvent(models.Model):
    """One event of Stripe's, kept once under its own id. Only what leads to the object is kept: it is fetched anew."""

    id = models.CharField(max_length=255, primary_key=True)
    type = models.CharField(max_length=100)
    livemode = models.BooleanField()
    object_id = models.CharField(max_length=255)
    payment_intent = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField()
    received_at = models.DateTimeField(db_default=Now())
    state = models.CharField(max_length=8, default="received")
    tries = models.IntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=300, blank=True, default="")
    processed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="stripe_event_state_known",
                condition=Q(state="received", processed_at__isnull=True) | Q(state="done", processed_at__isnull=False),
            ),
        )
        indexes = (models.Index(fields=["received_at"], name="stripe_event_waiting", condition=Q(state="received")),)

    def __str__(self) -> str:
        return f"{self.id} {self.type} {self.state}"
