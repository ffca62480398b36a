"""Webhooks tell of budgets too, which are no request's."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_closing"),
        ("imagesapi", "0007_prices_and_dialects"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="webhookdelivery",
            name="webhook_delivery_event_known",
        ),
        migrations.RemoveConstraint(
            model_name="webhookendpoint",
            name="webhook_endpoint_events_known",
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="event_type",
            field=models.CharField(
                choices=[
                    ("request.completed", "Completed"),
                    ("request.failed", "Failed"),
                    ("request.cancelled", "Cancelled"),
                    ("budget.threshold_reached", "Budget"),
                ],
                max_length=32,
            ),
        ),
        migrations.AlterField(
            model_name="webhookdelivery",
            name="generation",
            field=models.ForeignKey(
                null=True,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="webhook_deliveries",
                to="imagesapi.generation",
            ),
        ),
        migrations.AlterField(
            model_name="webhookendpoint",
            name="events",
            field=django.contrib.postgres.fields.ArrayField(
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
        migrations.AddConstraint(
            model_name="webhookdelivery",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "event_type__in",
                        ["request.completed", "request.failed", "request.cancelled", "budget.threshold_reached"],
                    )
                ),
                name="webhook_delivery_event_known",
            ),
        ),
        migrations.AddConstraint(
            model_name="webhookendpoint",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "events__contained_by",
                        ["request.completed", "request.failed", "request.cancelled", "budget.threshold_reached"],
                    ),
                    models.Q(("events", []), _negated=True),
                ),
                name="webhook_endpoint_events_known",
            ),
        ),
    ]
