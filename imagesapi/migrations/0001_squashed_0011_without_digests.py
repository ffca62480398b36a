"""The catalogue, requests, history, webhooks and bills, as 0001 to 0011 leave them: in one step for a new database."""

from pathlib import Path

import core.ids
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
import django.utils.timezone
import uuid
from django.db import migrations, models


HERE = Path(__file__).parent


class Migration(migrations.Migration):
    replaces = [
        ("imagesapi", "0001_initial"),
        ("imagesapi", "0002_states"),
        ("imagesapi", "0003_images_api"),
        ("imagesapi", "0004_routing"),
        ("imagesapi", "0005_webhooks"),
        ("imagesapi", "0006_history"),
        ("imagesapi", "0007_prices_and_dialects"),
        ("imagesapi", "0008_budget_events"),
        ("imagesapi", "0009_bills"),
        ("imagesapi", "0010_lean_writes"),
        ("imagesapi", "0011_without_digests"),
    ]

    initial = True

    dependencies = [
        ("accounts", "0001_squashed_0003_closing"),
        ("billing", "0001_squashed_0008_lean_writes"),
    ]

    operations = [
        migrations.CreateModel(
            name="CatalogVersion",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.BigIntegerField(default=1)),
            ],
        ),
        migrations.CreateModel(
            name="Model",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("loaded", models.JSONField(default=dict)),
                ("enabled", models.BooleanField(default=True)),
                ("slug", models.CharField(max_length=120, unique=True)),
                ("name", models.CharField(max_length=120)),
                ("description", models.TextField(blank=True)),
                ("creator", models.CharField(blank=True, max_length=80)),
                ("released_on", models.DateField()),
                (
                    "aliases",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=120), blank=True, default=list, size=None
                    ),
                ),
                (
                    "tags",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=40), blank=True, default=list, size=None
                    ),
                ),
                ("successor", models.CharField(blank=True, max_length=120)),
                ("redirects", models.BooleanField(default=False)),
                (
                    "provider_order",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.SlugField(max_length=64), blank=True, default=list, size=None
                    ),
                ),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Provider",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("loaded", models.JSONField(default=dict)),
                ("enabled", models.BooleanField(default=True)),
                ("slug", models.SlugField(max_length=64, unique=True)),
                ("name", models.CharField(max_length=80)),
                ("adapter", models.SlugField(max_length=64)),
                ("website", models.URLField(blank=True)),
                ("options", models.JSONField(blank=True, default=dict)),
            ],
            options={
                "abstract": False,
            },
        ),
        migrations.CreateModel(
            name="Reconciliation",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first", models.DateField()),
                ("last", models.DateField()),
                ("providers", models.JSONField()),
                ("booked", models.IntegerField()),
                ("closed_attempts", models.IntegerField()),
                ("unexplained_nanos", models.BigIntegerField()),
                ("findings", models.JSONField(default=list)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.CreateModel(
            name="BillDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=64)),
                ("day", models.DateField()),
                ("source", models.CharField(max_length=24)),
                ("imported_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("provider", "day"), name="bill_day_once")],
            },
        ),
        migrations.CreateModel(
            name="BillLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=64)),
                ("source", models.CharField(max_length=24)),
                ("source_key", models.CharField(max_length=200)),
                ("revision", models.SmallIntegerField(default=1)),
                ("day", models.DateField()),
                ("model", models.CharField(blank=True, max_length=120)),
                ("line_item", models.CharField(blank=True, max_length=200)),
                ("provider_request_id", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("amount_nanos", models.BigIntegerField()),
                ("told", models.CharField(max_length=64)),
                ("imported_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "indexes": [models.Index(fields=["provider", "day"], name="bill_line_by_day")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("provider", "source", "source_key", "revision"), name="bill_line_once_per_revision"
                    ),
                    models.CheckConstraint(condition=models.Q(("revision__gt", 0)), name="bill_line_revision_positive"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Generation",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("endpoint", models.CharField(max_length=32)),
                ("model", models.CharField(max_length=120)),
                ("provider", models.CharField(db_default="", default="", max_length=64)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("processing", "Processing"),
                            ("completed", "Completed"),
                            ("upstream_failure", "Upstream Failure"),
                            ("rejected", "Rejected"),
                            ("cancelled", "Cancelled"),
                        ],
                        max_length=16,
                    ),
                ),
                ("asked", models.JSONField()),
                ("sent", models.JSONField(null=True)),
                ("adjustments", models.JSONField(null=True)),
                ("receipt", models.JSONField(null=True)),
                ("metadata", models.JSONField(null=True)),
                ("user", models.CharField(db_default="", default="", max_length=512)),
                ("simulated", models.BooleanField(db_default=False, default=False)),
                ("cost_nanos", models.BigIntegerField(null=True)),
                ("error_code", models.CharField(db_default="", default="", max_length=64)),
                ("error_message", models.CharField(db_default="", default="", max_length=1000)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
                ("request_size_bytes", models.IntegerField(db_default=0, default=0)),
                ("response_size_bytes", models.IntegerField(db_default=0, default=0)),
                ("lease_owner", models.BigIntegerField(null=True)),
                ("lease_expires_at", models.DateTimeField(null=True)),
                (
                    "api_key",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="generations",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="generations",
                        to="accounts.organization",
                    ),
                ),
                ("announced_at", models.DateTimeField(null=True)),
                ("answer", models.TextField(null=True)),
                ("body_hash", models.BinaryField(max_length=16, null=True)),
                ("cancel_requested_at", models.DateTimeField(null=True)),
                ("idempotency_key", models.CharField(max_length=255, null=True)),
                ("inputs", models.JSONField(null=True)),
                ("is_async", models.BooleanField(db_default=False, default=False)),
                ("joined_by_retry", models.SmallIntegerField(db_default=0, default=0)),
                ("purged_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="generation_by_organization"),
                    models.Index(
                        condition=models.Q(("lease_expires_at__isnull", False)),
                        fields=["lease_owner"],
                        name="generation_open",
                    ),
                    models.Index(
                        condition=models.Q(("body_hash__isnull", False)),
                        fields=["api_key", "body_hash"],
                        name="generation_to_join",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("announced_at__isnull", True), ("finished_at__isnull", False), ("is_async", True)
                        ),
                        fields=["finished_at"],
                        name="generation_to_announce",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("idempotency_key__isnull", False), ("status__in", ["pending", "processing", "completed"])
                        ),
                        fields=("organization", "idempotency_key"),
                        name="generation_once_per_idempotency_key",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Image",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("position", models.SmallIntegerField()),
                ("path", models.CharField(max_length=200)),
                ("content_type", models.CharField(max_length=40)),
                ("width_px", models.IntegerField()),
                ("height_px", models.IntegerField()),
                ("size_bytes", models.IntegerField()),
                ("revised_prompt", models.TextField(db_default="", default="")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("deleted_at", models.DateTimeField(null=True)),
                (
                    "generation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="images",
                        to="imagesapi.generation",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="images",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="image_by_organization"),
                    models.Index(
                        condition=models.Q(("deleted_at__isnull", False), models.Q(("path", ""), _negated=True)),
                        fields=["deleted_at"],
                        name="image_to_delete",
                    ),
                ],
                "constraints": [models.UniqueConstraint(fields=("generation", "position"), name="image_position_once")],
            },
        ),
        migrations.CreateModel(
            name="LedgerDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("account", models.CharField(max_length=8)),
                ("kind", models.CharField(max_length=24)),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=120)),
                ("count", models.IntegerField()),
                ("amount_nanos", models.BigIntegerField()),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["day"], name="ledger_day_by_day")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "day", "account", "kind", "provider", "model"), name="ledger_day_once"
                    ),
                    models.CheckConstraint(condition=models.Q(("count__gt", 0)), name="ledger_day_counts"),
                ],
            },
        ),
        migrations.CreateModel(
            name="LedgerMark",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("last_transfer", models.BigIntegerField(default=0)),
                ("complete_until", models.DateTimeField()),
                ("next_month", models.DateField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="ledger_mark_is_one")],
            },
        ),
        migrations.CreateModel(
            name="Offer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("loaded", models.JSONField(default=dict)),
                ("enabled", models.BooleanField(default=True)),
                ("wire_id", models.CharField(max_length=160)),
                ("edit_wire_id", models.CharField(blank=True, max_length=160)),
                ("capabilities", models.JSONField(default=dict)),
                ("pricing", models.JSONField(default=dict)),
                ("deprecated_on", models.DateField(blank=True, null=True)),
                ("retires_on", models.DateField(blank=True, null=True)),
                ("weight", models.IntegerField(default=0)),
                ("notes", models.TextField(blank=True)),
                (
                    "model",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="offers", to="imagesapi.model"
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="offers", to="imagesapi.provider"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("model", "provider"), name="offer_once_per_provider")],
            },
        ),
        migrations.CreateModel(
            name="Breaker",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("state", models.CharField(db_default="open", default="open", max_length=16)),
                ("opened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("open_until", models.DateTimeField()),
                ("probe_until", models.DateTimeField(null=True)),
                ("reason", models.CharField(db_default="", default="", max_length=200)),
                (
                    "offer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="breaker", to="imagesapi.offer"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("probe_until__isnull", True), ("state", "open")),
                            models.Q(("probe_until__isnull", False), ("state", "half_open")),
                            _connector="OR",
                        ),
                        name="breaker_probes_when_half_open",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.SmallIntegerField()),
                ("provider", models.CharField(max_length=64)),
                ("executed_model", models.CharField(max_length=240)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("sent", "Sent"),
                            ("succeeded", "Succeeded"),
                            ("refused", "Refused"),
                            ("failed", "Failed"),
                            ("unknown", "Unknown"),
                            ("not_billed", "Not Billed"),
                            ("absorbed", "Absorbed"),
                        ],
                        max_length=16,
                    ),
                ),
                ("worst_case_nanos", models.BigIntegerField()),
                ("sent_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("finished_at", models.DateTimeField(null=True)),
                ("http_status", models.SmallIntegerField(null=True)),
                ("error_code", models.CharField(db_default="", default="", max_length=64)),
                ("provider_request_id", models.CharField(db_default="", default="", max_length=200)),
                ("job", models.JSONField(null=True)),
                (
                    "generation",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attempts",
                        to="imagesapi.generation",
                    ),
                ),
                (
                    "offer",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="attempts",
                        to="imagesapi.offer",
                    ),
                ),
                ("parts", models.JSONField(null=True)),
                ("own_key", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["offer", "-sent_at"], name="attempt_by_offer"),
                    models.Index(condition=models.Q(("status", "unknown")), fields=["sent_at"], name="attempt_unknown"),
                ],
                "constraints": [models.UniqueConstraint(fields=("generation", "number"), name="attempt_number_once")],
            },
        ),
        migrations.CreateModel(
            name="OfferHealth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("calls", models.IntegerField()),
                ("failures", models.IntegerField()),
                ("p50_ms", models.IntegerField(null=True)),
                ("p95_ms", models.IntegerField(null=True)),
                ("measured_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "offer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, related_name="health", to="imagesapi.offer"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("calls__gte", 1), ("failures__gte", 0)), name="offer_health_adds_up"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("failures__lte", models.F("calls"))), name="offer_health_failures_are_calls"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="PriceLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("meter", models.CharField(max_length=24)),
                ("conditions", models.JSONField(default=dict)),
                ("unit_price_picos", models.BigIntegerField()),
                ("basis", models.CharField(max_length=8)),
                ("valid_from", models.DateTimeField()),
                ("source", models.CharField(max_length=300)),
                ("as_of", models.DateField()),
                ("confidence", models.CharField(max_length=16)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "offer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="price_lines", to="imagesapi.offer"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("offer", "meter", "conditions", "basis", "valid_from"), name="price_line_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("unit_price_picos__gte", 0)), name="price_line_not_negative"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("basis__in", ["billed", "listed"])), name="price_line_basis_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "meter__in",
                                [
                                    "image",
                                    "megapixel",
                                    "text_input_token",
                                    "image_input_token",
                                    "image_output_token",
                                    "text_output_token",
                                    "input_image",
                                    "input_megapixel",
                                ],
                            )
                        ),
                        name="price_line_meter_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="OwnProviderKey",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=64)),
                ("sealed", models.BinaryField()),
                ("last_four", models.CharField(max_length=4)),
                ("fallback", models.BooleanField(db_default=True, default=True)),
                ("enabled", models.BooleanField(db_default=True, default=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("changed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="own_provider_keys",
                        to="accounts.organization",
                    ),
                ),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="own_keys", to="imagesapi.provider"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "provider", "name"), name="own_provider_key_once")
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=120)),
                ("day", models.DateField()),
                ("calls", models.IntegerField(default=0)),
                ("charged_wallet_nanos", models.BigIntegerField(default=0)),
                ("charged_promo_nanos", models.BigIntegerField(default=0)),
                ("absorbed_nanos", models.BigIntegerField(default=0)),
                ("bill_absorbed_nanos", models.BigIntegerField(default=0)),
                ("bill_credited_nanos", models.BigIntegerField(default=0)),
                ("true_up_nanos", models.BigIntegerField(default=0)),
                ("true_up_promo_nanos", models.BigIntegerField(default=0)),
                ("billed_nanos", models.BigIntegerField(null=True)),
                ("unknown_attempts", models.IntegerField(default=0)),
            ],
            options={
                "indexes": [models.Index(fields=["-day"], name="provider_day_by_day")],
                "constraints": [
                    models.UniqueConstraint(fields=("provider", "model", "day"), name="provider_day_once"),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("true_up_nanos__lte", models.F("charged_wallet_nanos")),
                            ("true_up_promo_nanos__lte", models.F("charged_promo_nanos")),
                        ),
                        name="provider_day_credits_no_more_than_it_charged",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="ProviderSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64)),
                ("sealed", models.BinaryField()),
                ("changed_at", models.DateTimeField(default=django.utils.timezone.now)),
                (
                    "provider",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="secrets", to="imagesapi.provider"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("provider", "name"), name="provider_secret_once")],
            },
        ),
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField()),
                ("opening_nanos", models.BigIntegerField()),
                ("change_nanos", models.BigIntegerField()),
                ("closing_nanos", models.BigIntegerField()),
                ("lines", models.JSONField()),
                ("closed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="statements",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "month"), name="statement_once_a_month"),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "closing_nanos",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("opening_nanos"), "+", models.F("change_nanos")
                                ),
                            )
                        ),
                        name="statement_adds_up",
                    ),
                    models.CheckConstraint(condition=models.Q(("month__day", 1)), name="statement_of_a_month"),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField()),
                ("model", models.CharField(max_length=120)),
                ("provider", models.CharField(max_length=64)),
                ("requests", models.IntegerField()),
                ("completed", models.IntegerField()),
                ("failed", models.IntegerField()),
                ("images", models.IntegerField()),
                ("cost_nanos", models.BigIntegerField()),
                (
                    "api_key",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to="accounts.apikey",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(
                            (
                                "requests__gt",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("completed"), "+", models.F("failed")
                                ),
                            )
                        ),
                        fields=["hour"],
                        name="usage_hour_unfinished",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "hour", "api_key", "model", "provider"),
                        name="usage_hour_once",
                        nulls_distinct=False,
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("completed__gte", 0),
                            ("cost_nanos__gte", 0),
                            ("failed__gte", 0),
                            ("images__gte", 0),
                            ("requests__gt", 0),
                            (
                                "requests__gte",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("completed"), "+", models.F("failed")
                                ),
                            ),
                        ),
                        name="usage_hour_adds_up",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="UsageMark",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("rolled_up_to", models.DateTimeField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=models.Q(("id", 1)), name="usage_mark_is_one")],
            },
        ),
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("url", models.CharField(max_length=2048)),
                (
                    "events",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(
                            choices=[
                                ("request.completed", "Completed"),
                                ("request.failed", "Failed"),
                                ("request.cancelled", "Cancelled"),
                                ("budget.threshold_reached", "Budget"),
                            ],
                            max_length=32,
                        ),
                        size=None,
                    ),
                ),
                ("description", models.CharField(blank=True, default="", max_length=200)),
                ("sealed", models.BinaryField()),
                ("enabled", models.BooleanField(default=True)),
                ("disabled_reason", models.CharField(blank=True, default="", max_length=300)),
                ("failing_since", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhook_endpoints",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["organization", "-id"], name="webhook_by_organization")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("enabled", False), ("disabled_reason", ""), _connector="OR"),
                        name="webhook_endpoint_reason_when_disabled",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "events__contained_by",
                                [
                                    "request.completed",
                                    "request.failed",
                                    "request.cancelled",
                                    "budget.threshold_reached",
                                ],
                            ),
                            models.Q(("events", []), _negated=True),
                        ),
                        name="webhook_endpoint_events_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("event_id", models.UUIDField()),
                (
                    "event_type",
                    models.CharField(
                        choices=[
                            ("request.completed", "Completed"),
                            ("request.failed", "Failed"),
                            ("request.cancelled", "Cancelled"),
                            ("budget.threshold_reached", "Budget"),
                        ],
                        max_length=32,
                    ),
                ),
                ("payload", models.TextField()),
                (
                    "status",
                    models.CharField(
                        choices=[("pending", "Pending"), ("delivered", "Delivered"), ("failed", "Failed")],
                        default="pending",
                        max_length=16,
                    ),
                ),
                ("tries", models.SmallIntegerField(default=0)),
                ("next_try_at", models.DateTimeField(null=True)),
                ("last_status", models.SmallIntegerField(null=True)),
                ("last_error", models.CharField(blank=True, default="", max_length=300)),
                ("last_duration_ms", models.IntegerField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("delivered_at", models.DateTimeField(null=True)),
                (
                    "generation",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="webhook_deliveries",
                        to="imagesapi.generation",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
                (
                    "endpoint",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="imagesapi.webhookendpoint",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["endpoint", "-id"], name="webhook_delivery_by_endpoint"),
                    models.Index(
                        condition=models.Q(("status", "pending")), fields=["next_try_at"], name="webhook_delivery_due"
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("endpoint", "event_id"), name="webhook_delivery_once_per_event"),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["pending", "delivered", "failed"])),
                        name="webhook_delivery_status_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("next_try_at__isnull", False), ("status", "pending")),
                            models.Q(models.Q(("status", "pending"), _negated=True), ("next_try_at__isnull", True)),
                            _connector="OR",
                        ),
                        name="webhook_delivery_tried_again_when_pending",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("delivered_at__isnull", False), ("status", "delivered")),
                            models.Q(models.Q(("status", "delivered"), _negated=True), ("delivered_at__isnull", True)),
                            _connector="OR",
                        ),
                        name="webhook_delivery_time_when_delivered",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "event_type__in",
                                [
                                    "request.completed",
                                    "request.failed",
                                    "request.cancelled",
                                    "budget.threshold_reached",
                                ],
                            )
                        ),
                        name="webhook_delivery_event_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BillAdjustment",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=120)),
                ("day", models.DateField()),
                ("kind", models.CharField(max_length=24)),
                ("amount_nanos", models.BigIntegerField()),
                ("reason", models.CharField(max_length=16)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "organization",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["provider", "day"], name="bill_adjustment_by_day")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_nanos__gt", 0)), name="bill_adjustment_positive"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("kind__in", ["true_up", "true_up_promo"]), ("organization__isnull", False)),
                            models.Q(("kind__in", ["bill_absorbed", "bill_credited"]), ("organization__isnull", True)),
                            _connector="OR",
                        ),
                        name="bill_adjustment_of_an_organization_or_the_platform",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("reason__in", ["rounding", "unknown", "undercharge", "overcharge"])),
                        name="bill_adjustment_reason_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL(HERE.joinpath("0001_states.sql").read_text(), migrations.RunSQL.noop),
    ]
