"""What providers billed, what was booked for it, and the journal added up by day and month."""

import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
import uuid
from pathlib import Path
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_closing"),
        ("billing", "0007_reports"),
        ("imagesapi", "0008_budget_events"),
    ]

    operations = [
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
            ],
        ),
        migrations.CreateModel(
            name="LedgerMark",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("last_transfer", models.BigIntegerField(default=0)),
                ("complete_until", models.DateTimeField()),
                ("next_month", models.DateField()),
            ],
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
            name="Statement",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("month", models.DateField()),
                ("opening_nanos", models.BigIntegerField()),
                ("change_nanos", models.BigIntegerField()),
                ("closing_nanos", models.BigIntegerField()),
                ("lines", models.JSONField()),
                ("closed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddIndex(
            model_name="attempt",
            index=models.Index(condition=models.Q(("status", "unknown")), fields=["sent_at"], name="attempt_unknown"),
        ),
        migrations.AddField(
            model_name="billadjustment",
            name="organization",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="billday",
            constraint=models.UniqueConstraint(fields=("provider", "day"), name="bill_day_once"),
        ),
        migrations.AddIndex(
            model_name="billline",
            index=models.Index(fields=["provider", "day"], name="bill_line_by_day"),
        ),
        migrations.AddConstraint(
            model_name="billline",
            constraint=models.UniqueConstraint(
                fields=("provider", "source", "source_key", "revision"), name="bill_line_once_per_revision"
            ),
        ),
        migrations.AddConstraint(
            model_name="billline",
            constraint=models.CheckConstraint(
                condition=models.Q(("revision__gt", 0)), name="bill_line_revision_positive"
            ),
        ),
        migrations.AddField(
            model_name="ledgerday",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="accounts.organization",
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgermark",
            constraint=models.CheckConstraint(condition=models.Q(("id", 1)), name="ledger_mark_is_one"),
        ),
        migrations.AddIndex(
            model_name="providerday",
            index=models.Index(fields=["-day"], name="provider_day_by_day"),
        ),
        migrations.AddConstraint(
            model_name="providerday",
            constraint=models.UniqueConstraint(fields=("provider", "model", "day"), name="provider_day_once"),
        ),
        migrations.AddConstraint(
            model_name="providerday",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("true_up_nanos__lte", models.F("charged_wallet_nanos")),
                    ("true_up_promo_nanos__lte", models.F("charged_promo_nanos")),
                ),
                name="provider_day_credits_no_more_than_it_charged",
            ),
        ),
        migrations.AddField(
            model_name="statement",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="statements",
                to="accounts.organization",
            ),
        ),
        migrations.AddIndex(
            model_name="billadjustment",
            index=models.Index(fields=["provider", "day"], name="bill_adjustment_by_day"),
        ),
        migrations.AddConstraint(
            model_name="billadjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nanos__gt", 0)), name="bill_adjustment_positive"
            ),
        ),
        migrations.AddConstraint(
            model_name="billadjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("kind__in", ["true_up", "true_up_promo"]), ("organization__isnull", False)),
                    models.Q(("kind__in", ["bill_absorbed", "bill_credited"]), ("organization__isnull", True)),
                    _connector="OR",
                ),
                name="bill_adjustment_of_an_organization_or_the_platform",
            ),
        ),
        migrations.AddConstraint(
            model_name="billadjustment",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason__in", ["rounding", "unknown", "undercharge", "overcharge"])),
                name="bill_adjustment_reason_known",
            ),
        ),
        migrations.AddIndex(
            model_name="ledgerday",
            index=models.Index(fields=["day"], name="ledger_day_by_day"),
        ),
        migrations.AddConstraint(
            model_name="ledgerday",
            constraint=models.UniqueConstraint(
                fields=("organization", "day", "account", "kind", "provider", "model"), name="ledger_day_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="ledgerday",
            constraint=models.CheckConstraint(condition=models.Q(("count__gt", 0)), name="ledger_day_counts"),
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.UniqueConstraint(fields=("organization", "month"), name="statement_once_a_month"),
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.CheckConstraint(
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
        ),
        migrations.AddConstraint(
            model_name="statement",
            constraint=models.CheckConstraint(condition=models.Q(("month__day", 1)), name="statement_of_a_month"),
        ),
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
    ]
