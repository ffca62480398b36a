"""Lots of promotional credit, alerts of budgets, credit for signing up, and the end of an organization."""

from pathlib import Path

import core.ids
import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.expressions
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_closing"),
        ("billing", "0005_stripe"),
    ]

    operations = [
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
            ],
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
            ],
        ),
        migrations.CreateModel(
            name="DailyCount",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=100)),
                ("day", models.DateField()),
                ("used", models.BigIntegerField(db_default=0, default=0)),
            ],
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
            ],
        ),
        migrations.CreateModel(
            name="SignupCredit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("mailbox_hash", models.BinaryField(max_length=32, unique=True)),
                ("amount_nanos", models.BigIntegerField()),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
        ),
        migrations.AddField(
            model_name="limit",
            name="refused_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddIndex(
            model_name="limit",
            index=models.Index(
                condition=models.Q(("active", True), ("meter", "spend")), fields=["window"], name="limit_budgets"
            ),
        ),
        migrations.AddField(
            model_name="budgetalert",
            name="limit",
            field=models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="alerts", to="billing.limit"
            ),
        ),
        migrations.AddField(
            model_name="closing",
            name="organization",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="closing", to="accounts.organization"
            ),
        ),
        migrations.AddConstraint(
            model_name="dailycount",
            constraint=models.UniqueConstraint(fields=("day", "name"), name="daily_count_once"),
        ),
        migrations.AddConstraint(
            model_name="dailycount",
            constraint=models.CheckConstraint(condition=models.Q(("used__gte", 0)), name="daily_count_not_negative"),
        ),
        migrations.AddField(
            model_name="grant",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="grants",
                to="accounts.organization",
            ),
        ),
        migrations.AddField(
            model_name="grant",
            name="transfer",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="grant", to="billing.transfer"
            ),
        ),
        migrations.AddField(
            model_name="signupcredit",
            name="organization",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="accounts.organization",
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetalert",
            constraint=models.UniqueConstraint(
                fields=("limit", "starts_at", "threshold_percent"), name="budget_alert_once_per_window"
            ),
        ),
        migrations.AddConstraint(
            model_name="budgetalert",
            constraint=models.CheckConstraint(
                condition=models.Q(("threshold_percent__in", [80, 100])), name="budget_alert_threshold_known"
            ),
        ),
        migrations.AddConstraint(
            model_name="closing",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("expired_nanos__gte", 0),
                    ("owed_nanos__gte", 0),
                    ("refunded_nanos__gte", 0),
                    ("written_off_nanos__gte", 0),
                ),
                name="closing_amounts_not_negative",
            ),
        ),
        migrations.AddConstraint(
            model_name="closing",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("settled_at__isnull", True), ("statement__isnull", True)),
                    models.Q(("settled_at__isnull", False), ("statement__isnull", False)),
                    _connector="OR",
                ),
                name="closing_has_its_statement_when_settled",
            ),
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
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
        ),
        migrations.AddIndex(
            model_name="grant",
            index=models.Index(
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
        ),
        migrations.AddConstraint(
            model_name="grant",
            constraint=models.CheckConstraint(
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
            ),
        ),
        migrations.AddConstraint(
            model_name="signupcredit",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount_nanos__gt", 0)), name="signup_credit_positive"
            ),
        ),
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
    ]
