"""The catalogue (Model, Provider, Offer, PriceLine) and what was made (Generation, Attempt, Image)."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import ApiKey, Organization
from core import ids
from imagesapi.bill_models import BillAdjustment, BillDay, BillLine, ProviderDay, Reconciliation
from imagesapi.report_models import LedgerDay, LedgerMark, Statement
from imagesapi.routing_models import Breaker, OfferHealth, OwnProviderKey
from imagesapi.usage_models import UsageHour, UsageMark
from imagesapi.webhook_models import WebhookDelivery, WebhookEndpoint

# Django looks for models here; those of a part of its own live beside.
__all__ = [
    "Attempt",
    "BillAdjustment",
    "BillDay",
    "BillLine",
    "Breaker",
    "CatalogVersion",
    "Generation",
    "GenerationStatus",
    "Image",
    "LedgerDay",
    "LedgerMark",
    "Model",
    "Offer",
    "OfferHealth",
    "OwnProviderKey",
    "PriceLine",
    "Provider",
    "ProviderDay",
    "ProviderSecret",
    "Reconciliation",
    "Statement",
    "UsageHour",
    "UsageMark",
    "WebhookDelivery",
    "WebhookEndpoint",
]


class CatalogRow(models.Model):
    """What every catalogue row keeps: `loaded` is each field as the data files last gave it, so that a field an
    operator changed since is known, and survives the next load."""

    loaded = models.JSONField(default=dict)
    enabled = models.BooleanField(default=True)

    class Meta:
        abstract = True


class Provider(CatalogRow):
    """Who runs models."""

    slug = models.SlugField(max_length=64, unique=True)
    name = models.CharField(max_length=80)
    # The module of imagesapi.providers that speaks this provider's protocol.
    adapter = models.SlugField(max_length=64)
    website = models.URLField(blank=True)
    # What an adapter that serves several providers must know of this one: its dialect, its address.
    options = models.JSONField(default=dict, blank=True)

    def __str__(self) -> str:
        return self.slug


class ProviderSecret(models.Model):
    """A provider's key or base URL kept in the database, encrypted; it wins over the environment."""

    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="secrets")
    name = models.CharField(max_length=64)
    sealed = models.BinaryField()
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["provider", "name"], name="provider_secret_once"),)

    def __str__(self) -> str:
        return f"{self.provider} {self.name}"


class Model(CatalogRow):
    """What callers name: a slug with its aliases and its description."""

    slug = models.CharField(max_length=120, unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    creator = models.CharField(max_length=80, blank=True)
    released_on = models.DateField()
    aliases = ArrayField(models.CharField(max_length=120), default=list, blank=True)
    tags = ArrayField(models.CharField(max_length=40), default=list, blank=True)
    # Named to callers when every offer is retired; requests go there only when `redirects` is set by an operator.
    successor = models.CharField(max_length=120, blank=True)
    redirects = models.BooleanField(default=False)
    # An operator's fixed order: these providers are tried first, whatever they cost.
    provider_order = ArrayField(models.SlugField(max_length=64), default=list, blank=True)

    def __str__(self) -> str:
        return self.slug


class Offer(CatalogRow):
    """One model at one provider."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="offers")
    provider = models.ForeignKey(Provider, on_delete=models.CASCADE, related_name="offers")
    wire_id = models.CharField(max_length=160)
    edit_wire_id = models.CharField(max_length=160, blank=True)
    capabilities = models.JSONField(default=dict)
    # Rounding, token tables and ceilings; the prices themselves are PriceLine rows.
    pricing = models.JSONField(default=dict)
    deprecated_on = models.DateField(null=True, blank=True)
    retires_on = models.DateField(null=True, blank=True)
    weight = models.IntegerField(default=0)
    notes = models.TextField(blank=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["model", "provider"], name="offer_once_per_provider"),)

    def __str__(self) -> str:
        return f"{self.provider}/{self.model}"


class PriceLine(models.Model):
    """One dated price. Append-only: a change is a new row with a later `valid_from`."""

    offer = models.ForeignKey(Offer, on_delete=models.CASCADE, related_name="price_lines")
    meter = models.CharField(max_length=24)
    conditions = models.JSONField(default=dict)
    unit_price_picos = models.BigIntegerField()
    basis = models.CharField(max_length=8)
    valid_from = models.DateTimeField()
    source = models.CharField(max_length=300)
    as_of = models.DateField()
    confidence = models.CharField(max_length=16)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = (
            models.UniqueConstraint(
                fields=["offer", "meter", "conditions", "basis", "valid_from"], name="price_line_once"
            ),
            models.CheckConstraint(name="price_line_not_negative", condition=Q(unit_price_picos__gte=0)),
            models.CheckConstraint(name="price_line_basis_known", condition=Q(basis__in=["billed", "listed"])),
            models.CheckConstraint(
                name="price_line_meter_known",
                condition=Q(
                    meter__in=[
                        "image",
                        "megapixel",
                        "text_input_token",
                        "image_input_token",
                        "image_output_token",
                        "text_output_token",
                        "input_image",
                        "input_megapixel",
                    ]
                ),
            ),
        )

    def __str__(self) -> str:
        return f"{self.offer} {self.meter} {self.unit_price_picos}"


class CatalogVersion(models.Model):
    """One row whose number every change of the catalogue raises; processes reload their snapshot when it differs."""

    number = models.BigIntegerField(default=1)

    def __str__(self) -> str:
        return str(self.number)


class GenerationStatus(models.TextChoices):
    """The API's words for where a request stands."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    UPSTREAM_FAILURE = "upstream_failure"
    REJECTED = "rejected"
    CANCELLED = "cancelled"


class Generation(models.Model):
    """One API request for images: what was asked, where it went, what it cost."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    # No index of their own where another one begins with the column: each costs every request an insert.
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="generations", db_index=False)
    api_key = models.ForeignKey(
        ApiKey, on_delete=models.SET_NULL, null=True, related_name="generations", db_index=False
    )
    endpoint = models.CharField(max_length=32)
    model = models.CharField(max_length=120)
    provider = models.CharField(max_length=64, default="", db_default="")
    status = models.CharField(max_length=16, choices=GenerationStatus.choices)
    asked = models.JSONField()
    sent = models.JSONField(null=True)
    adjustments = models.JSONField(null=True)
    receipt = models.JSONField(null=True)
    metadata = models.JSONField(null=True)
    user = models.CharField(max_length=512, default="", db_default="")
    simulated = models.BooleanField(default=False, db_default=False)
    cost_nanos = models.BigIntegerField(null=True)
    error_code = models.CharField(max_length=64, default="", db_default="")
    error_message = models.CharField(max_length=1000, default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    request_size_bytes = models.IntegerField(default=0, db_default=0)
    response_size_bytes = models.IntegerField(default=0, db_default=0)
    # What was given to change: facts of the pictures, and their paths while they are kept for a worker.
    inputs = models.JSONField(null=True)
    # The answer as it was rendered, pictures left out: what a replay sends again.
    answer = models.TextField(null=True)  # noqa: DJ001 - null is "none yet"; every row would carry an empty text
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001
    # Of requests that a retry may want to join: a digest of the whole request, and the retry that last did.
    body_hash = models.BinaryField(max_length=16, null=True)
    joined_by_retry = models.SmallIntegerField(default=0, db_default=0)
    is_async = models.BooleanField(default=False, db_default=False)
    cancel_requested_at = models.DateTimeField(null=True)
    # When webhooks were told how it ended; only asynchronous requests have somebody to tell.
    announced_at = models.DateTimeField(null=True)
    # When prompt, pictures and whatever else the caller sent were erased; money and facts stay.
    purged_at = models.DateTimeField(null=True)
    # The process that works on it renews the lease; recovery takes what expired.
    lease_owner = models.BigIntegerField(null=True)
    lease_expires_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (
            # A request that failed was not paid for, so its key may be used again.
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"],
                name="generation_once_per_idempotency_key",
                condition=Q(idempotency_key__isnull=False, status__in=["pending", "processing", "completed"]),
            ),
            # In the database alone (migrations/0001_states.sql): which states there are, and what goes with each.
        )
        indexes = (
            models.Index(fields=["organization", "-id"], name="generation_by_organization"),
            models.Index(fields=["lease_owner"], name="generation_open", condition=Q(lease_expires_at__isnull=False)),
            models.Index(
                fields=["api_key", "body_hash"], name="generation_to_join", condition=Q(body_hash__isnull=False)
            ),
            models.Index(
                fields=["finished_at"],
                name="generation_to_announce",
                condition=Q(is_async=True, finished_at__isnull=False, announced_at__isnull=True),
            ),
        )

    def __str__(self) -> str:
        return ids.public("req", self.id)


class AttemptStatus(models.TextChoices):
    """How one call to one provider stands; an unknown one is closed later by reconciliation."""

    SENT = "sent"
    SUCCEEDED = "succeeded"
    REFUSED = "refused"
    FAILED = "failed"
    UNKNOWN = "unknown"
    NOT_BILLED = "not_billed"
    ABSORBED = "absorbed"


class Attempt(models.Model):
    """One call to one provider for a generation."""

    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="attempts", db_index=False)
    number = models.SmallIntegerField()
    # Offers are switched off, never deleted, so the server need not look for this one on every insert.
    offer = models.ForeignKey(
        Offer, on_delete=models.PROTECT, related_name="attempts", db_index=False, db_constraint=False
    )
    provider = models.CharField(max_length=64)
    executed_model = models.CharField(max_length=240)
    status = models.CharField(max_length=16, choices=AttemptStatus.choices)
    # Made with a key that the organization brought: the provider bills them, and nothing is charged here.
    own_key = models.BooleanField(default=False, db_default=False)
    # The most this attempt can have cost: what reconciliation may find on the provider's bill.
    worst_case_nanos = models.BigIntegerField()
    sent_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)
    http_status = models.SmallIntegerField(null=True)
    error_code = models.CharField(max_length=64, default="", db_default="")
    provider_request_id = models.CharField(max_length=200, default="", db_default="")
    # A queued job's own addresses, kept so that recovery can ask about it; by number where several calls were made.
    job = models.JSONField(null=True)
    # How each call ended, where the offer needed several for the pictures of one request.
    parts = models.JSONField(null=True)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["generation", "number"], name="attempt_number_once"),
            # In the database alone (migrations/0001_states.sql): which states there are, and what goes with each.
        )
        indexes = (
            models.Index(fields=["offer", "-sent_at"], name="attempt_by_offer"),
            models.Index(fields=["sent_at"], name="attempt_unknown", condition=Q(status="unknown")),
        )

    def __str__(self) -> str:
        return f"{self.generation} attempt {self.number} at {self.provider}: {self.status}"


class Image(models.Model):
    """One stored result; the bytes are in the store under `path`."""

    id = models.UUIDField(primary_key=True, default=ids.new)
    # Copied from the generation's own row by the statement that writes this one.
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="images", db_index=False, db_constraint=False
    )
    generation = models.ForeignKey(Generation, on_delete=models.CASCADE, related_name="images", db_index=False)
    position = models.SmallIntegerField()
    path = models.CharField(max_length=200)
    content_type = models.CharField(max_length=40)
    width_px = models.IntegerField()
    height_px = models.IntegerField()
    size_bytes = models.IntegerField()
    revised_prompt = models.TextField(default="", db_default="")
    created_at = models.DateTimeField(db_default=Now())
    # Gone for everybody from this moment; the file goes right after, or with the next sweep, and then `path` is blank.
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["generation", "position"], name="image_position_once"),)
        indexes = (
            models.Index(fields=["organization", "-id"], name="image_by_organization"),
            models.Index(
                fields=["deleted_at"], name="image_to_delete", condition=Q(deleted_at__isnull=False) & ~Q(path="")
            ),
        )

    def __str__(self) -> str:
        return ids.public("img", self.id)
