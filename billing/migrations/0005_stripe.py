"""Payments through Stripe: top-ups, refunds, disputes, the saved card, the inbox of events."""

from pathlib import Path

import core.ids
import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (
        ("accounts", "0002_scopes_and_rules"),
        ("billing", "0004_postings"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    )

    operations = (
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
        migrations.AddIndex(
            model_name="topup",
            index=models.Index(fields=["organization", "-id"], name="top_up_by_organization"),
        ),
        migrations.AddIndex(
            model_name="topup",
            index=models.Index(fields=["ip_hash", "-id"], name="top_up_by_address"),
        ),
        migrations.AddIndex(
            model_name="topup",
            index=models.Index(
                condition=models.Q(("state__in", ("created", "open", "processing", "action"))),
                fields=["id"],
                name="top_up_unfinished",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "state__in",
                        ["created", "open", "processing", "action", "paid", "unexplained", "failed", "expired"],
                    )
                ),
                name="top_up_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(("origin__in", ["checkout", "automatic"])), name="top_up_origin_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nanos__gt", 0)), name="top_up_amount_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("clawed_nanos__gte", 0),
                    ("clawed_nanos__lte", models.F("credited_nanos")),
                    ("clawed_tax_nanos__gte", 0),
                    ("clawed_tax_nanos__lte", models.F("tax_nanos")),
                ),
                name="top_up_clawed_at_most_what_was_paid",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.UniqueConstraint(
                condition=models.Q(("payment_intent", ""), _negated=True),
                fields=("payment_intent",),
                name="top_up_once_per_intent",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.UniqueConstraint(
                condition=models.Q(("checkout_session", ""), _negated=True),
                fields=("checkout_session",),
                name="top_up_once_per_session",
            ),
        ),
        migrations.AddConstraint(
            model_name="topup",
            constraint=models.UniqueConstraint(
                condition=models.Q(("origin", "automatic"), ("state__in", ("created", "open", "processing", "action"))),
                fields=("organization",),
                name="top_up_one_automatic_at_a_time",
            ),
        ),
        migrations.AddIndex(
            model_name="refund",
            index=models.Index(
                condition=models.Q(("state__in", ["asked", "pending"])), fields=["id"], name="refund_unfinished"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["asked", "pending", "succeeded", "failed"])),
                name="refund_state_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nanos__gte", 0), ("tax_nanos__gte", 0)), name="refund_amounts_not_negative"
            ),
        ),
        migrations.AddConstraint(
            model_name="refund",
            constraint=models.UniqueConstraint(
                condition=models.Q(("stripe_id", ""), _negated=True),
                fields=("stripe_id",),
                name="refund_once_per_object",
            ),
        ),
        migrations.AddConstraint(
            model_name="dispute",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nanos__gte", 0), ("excess_nanos__gte", 0), ("tax_nanos__gte", 0)),
                name="dispute_amounts_not_negative",
            ),
        ),
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
    )
