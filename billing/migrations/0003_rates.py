"""Limits may count requests by the minute, so their windows start at a moment rather than on a day."""

from pathlib import Path

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("billing", "0002_ledger"),)
    operations = (
        migrations.RemoveConstraint(model_name="limit", name="limit_meter_known"),
        migrations.AddConstraint(
            model_name="limit",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("meter", "spend"), ("window__in", ["day", "month", "total"])),
                    models.Q(("meter", "in_flight"), ("window", "total")),
                    models.Q(("meter", "requests"), ("window", "minute")),
                    _connector="OR",
                ),
                name="limit_meter_known",
            ),
        ),
        migrations.RemoveConstraint(model_name="limituse", name="limit_use_once_per_window"),
        migrations.RenameField(model_name="limituse", old_name="starts_on", new_name="starts_at"),
        migrations.AlterField(model_name="limituse", name="starts_at", field=models.DateTimeField()),
        migrations.AddConstraint(
            model_name="limituse",
            constraint=models.UniqueConstraint(fields=("limit", "starts_at"), name="limit_use_once_per_window"),
        ),
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
    )
