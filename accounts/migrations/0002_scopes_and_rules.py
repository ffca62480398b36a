"""Keys say what they may do and ask for."""

import django.contrib.postgres.fields
from django.db import migrations, models

import accounts.models


class Migration(migrations.Migration):
    dependencies = (("accounts", "0001_initial"),)
    operations = (
        migrations.AddField(
            model_name="apikey",
            name="scopes",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(max_length=16), default=accounts.models.default_scopes, size=None
            ),
        ),
        migrations.AddField(model_name="apikey", name="rules", field=models.JSONField(default=dict)),
        migrations.AddField(model_name="apikey", name="version", field=models.IntegerField(default=1)),
        migrations.AddConstraint(
            model_name="apikey",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("scopes__contained_by", ["images", "requests", "usage", "keys", "webhooks"]),
                    ("scopes__len__gte", 1),
                ),
                name="api_key_scopes_known",
            ),
        ),
    )
