"""The same guards at less cost: states are types of the database, and conditions name few words."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0009_bills"),)
    operations = (
        migrations.RunSQL(
            Path(__file__).with_suffix(".sql").read_text(),
            migrations.RunSQL.noop,
            state_operations=[
                migrations.RemoveConstraint(model_name="generation", name="generation_status_known"),
                migrations.RemoveConstraint(model_name="generation", name="generation_open_has_lease"),
                migrations.RemoveConstraint(model_name="generation", name="generation_cost_when_completed"),
                migrations.RemoveConstraint(model_name="attempt", name="attempt_status_known"),
                migrations.RemoveConstraint(model_name="attempt", name="attempt_finished_when_not_sent"),
            ],
        ),
    )
