"""The ledger's functions and the triggers that keep the journal as written."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("billing", "0001_initial"),)
    operations = (migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),)
