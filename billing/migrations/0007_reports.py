"""An index for what goes out beside usage, which lists and statements look for among all the charges."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("billing", "0006_budgets"),)
    operations = (
        migrations.AddIndex(
            model_name="transfer",
            index=models.Index(
                condition=models.Q(("kind__in", ["charge", "charge_promo"]), _negated=True),
                fields=["debit_account", "-id"],
                name="transfer_by_debit_beside_usage",
            ),
        ),
    )
