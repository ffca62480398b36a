"""Holds and settlements of several requests in one transaction, begun with the locks of all of them."""

from pathlib import Path

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("billing", "0008_lean_writes"),)
    operations = (
        migrations.RunSQL(
            Path(__file__).with_suffix(".sql").read_text(), "DROP FUNCTION IF EXISTS ledger_lock(bigint[])"
        ),
    )
