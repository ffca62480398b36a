import django.db.models.deletion
from django.db import migrations, models
from django.db.models import F, Q

# The first 48 bits of a version 7 id are the milliseconds at which its request came in.
HOUR_OF = """
CREATE FUNCTION imagesapi_hour_of(uuid) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT to_timestamp(('x' || translate(left($1::text, 13), '-', ''))::bit(48)::bigint / 3600000 * 3600)
$$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("imagesapi", "0005_webhooks"),
    ]

    operations = [
        migrations.RunSQL(HOUR_OF, "DROP FUNCTION imagesapi_hour_of(uuid)"),
        migrations.CreateModel(
            name="UsageMark",
            fields=[
                ("id", models.SmallIntegerField(default=1, primary_key=True, serialize=False)),
                ("rolled_up_to", models.DateTimeField()),
            ],
            options={
                "constraints": [models.CheckConstraint(condition=Q(("id", 1)), name="usage_mark_is_one")],
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
                        condition=Q(("requests__gt", F("completed") + F("failed"))),
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
                        condition=Q(
                            ("completed__gte", 0),
                            ("cost_nanos__gte", 0),
                            ("failed__gte", 0),
                            ("images__gte", 0),
                            ("requests__gt", 0),
                            ("requests__gte", F("completed") + F("failed")),
                        ),
                        name="usage_hour_adds_up",
                    ),
                ],
            },
        ),
        migrations.AddIndex(
            model_name="image",
            index=models.Index(
                condition=Q(("deleted_at__isnull", False), Q(("path", ""), _negated=True)),
                fields=["deleted_at"],
                name="image_to_delete",
            ),
        ),
    ]
