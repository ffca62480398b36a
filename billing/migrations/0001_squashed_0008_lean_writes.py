"""The ledger's tables and functions, payments and budgets, as 0001 to 0008 leave them: in one step for a new database."""

from pathlib import Path

import core.ids
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
import uuid
from django.conf import settings
from django.db import migrations, models


HERE = Path(__file__).parent


class Migration(migrations.Migration):
    replaces = [
        ("billing", "0001_initial"),
        ("billing", "0002_ledger"),
        ("billing", "0003_rates"),
        ("billing", "0004_postings"),
        ("billing", "0005_stripe"),
        ("billing", "0006_budgets"),
        ("billing", "0007_reports"),
        ("billing", "0008_lean_writes"),
    ]

    initial = True

    dependencies = [
        ("accounts", "0001_squashed_0003_closing"),
    ]

    operations = [
        migrations.CreateModel(
            name="Account",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("wallet", "Wallet"),
                            ("promo", "Promo"),
                            ("provider_payable", "Provider Payable"),
                            ("simulated", "Simulated"),
                            ("absorbed", "Absorbed"),
                            ("promo_expense", "Promo Expense"),
                            ("breakage", "Breakage"),
                            ("stripe_clearing", "Stripe Clearing"),
                            ("stripe_fees", "Stripe Fees"),
                            ("tax_payable", "Tax Payable"),
                            ("suspense", "Suspense"),
                        ],
                        max_length=24,
                    ),
                ),
                ("provider", models.CharField(blank=True, db_default="", default="", max_length=64)),
                ("posted_nanos", models.BigIntegerField(db_default=0, default=0)),
                ("held_nanos", models.BigIntegerField(db_default=0, default=0)),
                ("floor_nanos", models.BigIntegerField(db_default=0, default=0)),
                ("frozen", models.BooleanField(db_default=False, default=False)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="accounts",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("organization", "kind", "provider"), name="account_once", nulls_distinct=False
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("held_nanos", 0), ("organization__isnull", True), ("posted_nanos", 0)),
                            models.Q(
                                ("held_nanos__gte", 0),
                                ("organization__isnull", False),
                                (
                                    "posted_nanos__gte",
                                    django.db.models.expressions.CombinedExpression(
                                        models.F("held_nanos"), "+", models.F("floor_nanos")
                                    ),
                                ),
                            ),
                            _connector="OR",
                        ),
                        name="account_balance_in_bounds",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="AutomaticTopUp",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="automatic_top_up",
                        serialize=False,
                        to="accounts.organization",
                    ),
                ),
                ("enabled", models.BooleanField(default=False)),
                ("threshold_nanos", models.BigIntegerField()),
                ("target_nanos", models.BigIntegerField()),
                ("monthly_ceiling_nanos", models.BigIntegerField()),
                ("failures", models.SmallIntegerField(default=0)),
                ("tried_at", models.DateTimeField(null=True)),
                ("off_reason", models.CharField(blank=True, default="", max_length=200)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("target_nanos__gt", models.F("threshold_nanos")),
                            ("threshold_nanos__gte", 0),
                            ("monthly_ceiling_nanos__gt", 0),
                        ),
                        name="automatic_top_up_amounts_ordered",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("enabled", False), ("off_reason", ""), _connector="OR"),
                        name="automatic_top_up_reason_when_off",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Closing",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("asked_by", models.CharField(blank=True, default="", max_length=254)),
                (
                    "mail_to",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.CharField(max_length=254), blank=True, default=list, size=None
                    ),
                ),
                ("frozen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("settled_at", models.DateTimeField(null=True)),
                ("emptied_at", models.DateTimeField(null=True)),
                ("claimed_at", models.DateTimeField(null=True)),
                ("wallet_nanos", models.BigIntegerField(default=0)),
                ("expired_nanos", models.BigIntegerField(default=0)),
                ("refunded_nanos", models.BigIntegerField(default=0)),
                ("owed_nanos", models.BigIntegerField(default=0)),
                ("written_off_nanos", models.BigIntegerField(default=0)),
                ("statement", models.JSONField(null=True)),
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="closing", to="accounts.organization"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expired_nanos__gte", 0),
                            ("owed_nanos__gte", 0),
                            ("refunded_nanos__gte", 0),
                            ("written_off_nanos__gte", 0),
                        ),
                        name="closing_amounts_not_negative",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("settled_at__isnull", True), ("statement__isnull", True)),
                            models.Q(("settled_at__isnull", False), ("statement__isnull", False)),
                            _connector="OR",
                        ),
                        name="closing_has_its_statement_when_settled",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="DailyCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("day", models.DateField()),
                ("used", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("day", "name"), name="daily_count_once"),
                    models.CheckConstraint(condition=models.Q(("used__gte", 0)), name="daily_count_not_negative"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Hold",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("state", models.CharField(db_default="held", default="held", max_length=8)),
                ("promo_nanos", models.BigIntegerField()),
                ("wallet_nanos", models.BigIntegerField()),
                ("charged_nanos", models.BigIntegerField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("resolved_at", models.DateTimeField(null=True)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="holds",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(condition=models.Q(("state", "held")), fields=["organization"], name="hold_open")
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("promo_nanos__gte", 0),
                            ("wallet_nanos__gte", 0),
                            models.Q(
                                models.Q(
                                    ("charged_nanos__isnull", True), ("resolved_at__isnull", True), ("state", "held")
                                ),
                                models.Q(
                                    ("charged_nanos__isnull", True), ("resolved_at__isnull", False), ("state", "voided")
                                ),
                                models.Q(
                                    ("charged_nanos__gte", 0),
                                    ("charged_nanos__isnull", False),
                                    (
                                        "charged_nanos__lte",
                                        django.db.models.expressions.CombinedExpression(
                                            models.F("promo_nanos"), "+", models.F("wallet_nanos")
                                        ),
                                    ),
                                    ("resolved_at__isnull", False),
                                    ("state", "settled"),
                                ),
                                _connector="OR",
                            ),
                        ),
                        name="hold_resolved_within_itself",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("scope", models.CharField(max_length=16)),
                ("scope_id", models.BigIntegerField(null=True)),
                ("meter", models.CharField(max_length=16)),
                ("window", models.CharField(max_length=8)),
                ("cap", models.BigIntegerField()),
                ("active", models.BooleanField(db_default=True, default=True)),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="limits",
                        to="accounts.organization",
                    ),
                ),
                ("refused_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("active", True), ("meter", "spend")),
                        fields=["window"],
                        name="limit_budgets",
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("scope", "organization"), ("scope_id__isnull", True)),
                            models.Q(("scope__in", ["key", "member"]), ("scope_id__isnull", False)),
                            _connector="OR",
                        ),
                        name="limit_scope_known",
                    ),
                    models.CheckConstraint(condition=models.Q(("cap__gte", 0)), name="limit_cap_not_negative"),
                    models.UniqueConstraint(
                        fields=("organization", "scope", "scope_id", "meter", "window"),
                        name="limit_once_per_scope",
                        nulls_distinct=False,
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("meter", "spend"), ("window__in", ["day", "month", "total"])),
                            models.Q(("meter", "in_flight"), ("window", "total")),
                            models.Q(("meter", "requests"), ("window", "minute")),
                            _connector="OR",
                        ),
                        name="limit_meter_known",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="BudgetAlert",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("starts_at", models.DateTimeField()),
                ("threshold_percent", models.SmallIntegerField()),
                ("cap_nanos", models.BigIntegerField()),
                ("used_nanos", models.BigIntegerField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("mailed_at", models.DateTimeField(null=True)),
                (
                    "limit",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="alerts",
                        to="billing.limit",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=("limit", "starts_at", "threshold_percent"), name="budget_alert_once_per_window"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("threshold_percent__in", [80, 100])), name="budget_alert_threshold_known"
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="LimitUse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("starts_at", models.DateTimeField()),
                ("used", models.BigIntegerField(db_default=0, default=0)),
                ("held", models.BigIntegerField(db_default=0, default=0)),
                (
                    "limit",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="uses",
                        to="billing.limit",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("held__gte", 0), ("used__gte", 0)), name="limit_use_not_negative"
                    ),
                    models.UniqueConstraint(fields=("limit", "starts_at"), name="limit_use_once_per_window"),
                ],
            },
        ),
        migrations.CreateModel(
            name="HoldLimit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount", models.BigIntegerField()),
                (
                    "hold",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="limits",
                        to="billing.hold",
                    ),
                ),
                (
                    "use",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="holds", to="billing.limituse"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("hold", "use"), name="hold_limit_once")],
            },
        ),
        migrations.CreateModel(
            name="SignupCredit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("mailbox_hash", models.BinaryField(max_length=32, unique=True)),
                ("amount_nanos", models.BigIntegerField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
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
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("amount_nanos__gt", 0)), name="signup_credit_positive")
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeCustomer",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("stripe_id", models.CharField(blank=True, default="", max_length=255)),
                ("payment_method", models.CharField(blank=True, default="", max_length=255)),
                ("card_brand", models.CharField(blank=True, default="", max_length=40)),
                ("card_last_four", models.CharField(blank=True, default="", max_length=4)),
                ("card_ends", models.CharField(blank=True, default="", max_length=7)),
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="stripe_customer",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("stripe_id", ""), _negated=True),
                        fields=("stripe_id",),
                        name="stripe_customer_once",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="StripeEvent",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("type", models.CharField(max_length=100)),
                ("livemode", models.BooleanField()),
                ("object_id", models.CharField(max_length=255)),
                ("payment_intent", models.CharField(blank=True, default="", max_length=255)),
                ("created_at", models.DateTimeField()),
                ("received_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("state", models.CharField(default="received", max_length=8)),
                ("tries", models.IntegerField(default=0)),
                ("next_try_at", models.DateTimeField(null=True)),
                ("error", models.CharField(blank=True, default="", max_length=300)),
                ("processed_at", models.DateTimeField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "received")), fields=["received_at"], name="stripe_event_waiting"
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("processed_at__isnull", True), ("state", "received")),
                            models.Q(("processed_at__isnull", False), ("state", "done")),
                            _connector="OR",
                        ),
                        name="stripe_event_state_known",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="TopUp",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("origin", models.CharField(max_length=12)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("created", "Created"),
                            ("open", "Open"),
                            ("processing", "Processing"),
                            ("action", "Action"),
                            ("paid", "Paid"),
                            ("unexplained", "Unexplained"),
                            ("failed", "Failed"),
                            ("expired", "Expired"),
                        ],
                        default="created",
                        max_length=12,
                    ),
                ),
                ("amount_nanos", models.BigIntegerField()),
                ("save_card", models.BooleanField(default=False)),
                ("ip_hash", models.CharField(blank=True, default="", max_length=32)),
                ("checkout_session", models.CharField(blank=True, default="", max_length=255)),
                ("payment_intent", models.CharField(blank=True, default="", max_length=255)),
                ("payment_method", models.CharField(blank=True, default="", max_length=255)),
                ("receipt_url", models.CharField(blank=True, default="", max_length=2048)),
                ("reference", models.UUIDField(null=True)),
                ("credited_nanos", models.BigIntegerField(default=0)),
                ("tax_nanos", models.BigIntegerField(default=0)),
                ("clawed_nanos", models.BigIntegerField(default=0)),
                ("clawed_tax_nanos", models.BigIntegerField(default=0)),
                ("fee_nanos", models.BigIntegerField(default=0)),
                ("declines", models.IntegerField(default=0)),
                ("failure", models.CharField(blank=True, default="", max_length=64)),
                ("fraud_warning", models.CharField(blank=True, default="", max_length=255)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("paid_at", models.DateTimeField(null=True)),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="top_ups",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization", "-id"], name="top_up_by_organization"),
                    models.Index(fields=["ip_hash", "-id"], name="top_up_by_address"),
                    models.Index(
                        condition=models.Q(("state__in", ("created", "open", "processing", "action"))),
                        fields=["id"],
                        name="top_up_unfinished",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            (
                                "state__in",
                                ["created", "open", "processing", "action", "paid", "unexplained", "failed", "expired"],
                            )
                        ),
                        name="top_up_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("origin__in", ["checkout", "automatic"])), name="top_up_origin_known"
                    ),
                    models.CheckConstraint(condition=models.Q(("amount_nanos__gt", 0)), name="top_up_amount_positive"),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(
                                ("credited_nanos__gt", 0),
                                ("paid_at__isnull", False),
                                ("reference__isnull", False),
                                ("state", "paid"),
                                models.Q(("payment_intent", ""), _negated=True),
                            ),
                            models.Q(
                                models.Q(("state", "paid"), _negated=True),
                                ("credited_nanos", 0),
                                ("paid_at__isnull", True),
                                ("tax_nanos", 0),
                            ),
                            _connector="OR",
                        ),
                        name="top_up_credited_when_paid",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("clawed_nanos__gte", 0),
                            ("clawed_nanos__lte", models.F("credited_nanos")),
                            ("clawed_tax_nanos__gte", 0),
                            ("clawed_tax_nanos__lte", models.F("tax_nanos")),
                        ),
                        name="top_up_clawed_at_most_what_was_paid",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("payment_intent", ""), _negated=True),
                        fields=("payment_intent",),
                        name="top_up_once_per_intent",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("checkout_session", ""), _negated=True),
                        fields=("checkout_session",),
                        name="top_up_once_per_session",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(
                            ("origin", "automatic"), ("state__in", ("created", "open", "processing", "action"))
                        ),
                        fields=("organization",),
                        name="top_up_one_automatic_at_a_time",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Refund",
            fields=[
                ("id", models.UUIDField(default=core.ids.new, primary_key=True, serialize=False)),
                ("stripe_id", models.CharField(blank=True, default="", max_length=255)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("asked", "Asked"),
                            ("pending", "Pending"),
                            ("succeeded", "Succeeded"),
                            ("failed", "Failed"),
                        ],
                        default="asked",
                        max_length=12,
                    ),
                ),
                ("amount_nanos", models.BigIntegerField()),
                ("tax_nanos", models.BigIntegerField(default=0)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "created_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "top_up",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="refunds", to="billing.topup"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("state__in", ["asked", "pending"])), fields=["id"], name="refund_unfinished"
                    )
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("state__in", ["asked", "pending", "succeeded", "failed"])),
                        name="refund_state_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount_nanos__gte", 0), ("tax_nanos__gte", 0)),
                        name="refund_amounts_not_negative",
                    ),
                    models.UniqueConstraint(
                        condition=models.Q(("stripe_id", ""), _negated=True),
                        fields=("stripe_id",),
                        name="refund_once_per_object",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Dispute",
            fields=[
                ("stripe_id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("status", models.CharField(max_length=40)),
                ("reason", models.CharField(blank=True, default="", max_length=60)),
                ("amount_nanos", models.BigIntegerField(default=0)),
                ("tax_nanos", models.BigIntegerField(default=0)),
                ("bookings", models.SmallIntegerField(default=0)),
                ("excess_nanos", models.BigIntegerField(default=0)),
                ("returned", models.BooleanField(default=False)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "top_up",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="disputes", to="billing.topup"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("amount_nanos__gte", 0), ("excess_nanos__gte", 0), ("tax_nanos__gte", 0)),
                        name="dispute_amounts_not_negative",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Transfer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount_nanos", models.BigIntegerField()),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("grant", "Grant"),
                            ("grant_expired", "Grant Expired"),
                            ("charge", "Charge"),
                            ("charge_promo", "Charge Promo"),
                            ("absorbed", "Absorbed"),
                            ("top_up", "Top Up"),
                            ("top_up_tax", "Top Up Tax"),
                            ("stripe_fee", "Stripe Fee"),
                            ("refund", "Refund"),
                            ("refund_outside", "Refund Outside"),
                            ("refund_tax", "Refund Tax"),
                            ("refund_failed", "Refund Failed"),
                            ("refund_tax_failed", "Refund Tax Failed"),
                            ("dispute", "Dispute"),
                            ("dispute_tax", "Dispute Tax"),
                            ("dispute_won", "Dispute Won"),
                            ("dispute_tax_won", "Dispute Tax Won"),
                            ("dispute_fee", "Dispute Fee"),
                            ("suspense", "Suspense"),
                            ("suspense_returned", "Suspense Returned"),
                            ("true_up", "True Up"),
                            ("true_up_promo", "True Up Promo"),
                            ("bill_absorbed", "Bill Absorbed"),
                            ("bill_credited", "Bill Credited"),
                            ("forfeited", "Forfeited"),
                            ("debt_written_off", "Debt Written Off"),
                        ],
                        max_length=24,
                    ),
                ),
                ("reference_type", models.CharField(max_length=24)),
                ("reference_id", models.UUIDField()),
                ("note", models.CharField(blank=True, db_default="", default="", max_length=200)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "credit_account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="credits",
                        to="billing.account",
                    ),
                ),
                (
                    "debit_account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="debits",
                        to="billing.account",
                    ),
                ),
                ("balance_nanos", models.BigIntegerField(null=True)),
            ],
            options={
                "indexes": [
                    models.Index(fields=["debit_account", "-id"], name="transfer_by_debit"),
                    models.Index(fields=["credit_account", "-id"], name="transfer_by_credit"),
                    models.Index(
                        condition=models.Q(("kind__in", ["charge", "charge_promo"]), _negated=True),
                        fields=["debit_account", "-id"],
                        name="transfer_by_debit_beside_usage",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("reference_id", "reference_type", "kind"), name="transfer_once_per_reference"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("amount_nanos__gt", 0)), name="transfer_amount_positive"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("debit_account", models.F("credit_account")), _negated=True),
                        name="transfer_between_two_accounts",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Grant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("amount_nanos", models.BigIntegerField()),
                ("spent_nanos", models.BigIntegerField(db_default=0, default=0)),
                ("expired_nanos", models.BigIntegerField(db_default=0, default=0)),
                ("expires_at", models.DateTimeField(null=True)),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="grants",
                        to="accounts.organization",
                    ),
                ),
                (
                    "transfer",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="grant", to="billing.transfer"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(
                            (
                                "amount_nanos__gt",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("spent_nanos"), "+", models.F("expired_nanos")
                                ),
                            )
                        ),
                        fields=["organization"],
                        name="grant_of_which_some_is_left",
                    ),
                    models.Index(
                        condition=models.Q(
                            ("expires_at__isnull", False),
                            (
                                "amount_nanos__gt",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("spent_nanos"), "+", models.F("expired_nanos")
                                ),
                            ),
                        ),
                        fields=["expires_at"],
                        name="grant_to_expire",
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("expired_nanos__gte", 0),
                            ("spent_nanos__gte", 0),
                            (
                                "amount_nanos__gte",
                                django.db.models.expressions.CombinedExpression(
                                    models.F("spent_nanos"), "+", models.F("expired_nanos")
                                ),
                            ),
                        ),
                        name="grant_never_used_above_itself",
                    )
                ],
            },
        ),
        *(
            migrations.RunSQL(HERE.joinpath(f"0001_{part}.sql").read_text(), migrations.RunSQL.noop)
            for part in ("ledger", "postings", "lots", "guards")
        ),
    ]
