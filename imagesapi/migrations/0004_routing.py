import django.contrib.postgres.fields
import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

import core.ids


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("imagesapi", "0003_images_api"),
    ]

    operations = [
        migrations.AddField(
            model_name="attempt",
            name="own_key",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="model",
            name="provider_order",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.SlugField(max_length=64), blank=True, default=list, size=None
            ),
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
                        condition=models.Q(("failures__lte", models.F("calls"))),
                        name="offer_health_failures_are_calls",
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
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="own_keys",
                        to="imagesapi.provider",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("organization", "provider", "name"), name="own_provider_key_once")
                ],
            },
        ),
    ]
