"""One function for every movement beside usage, and the balance after each movement."""

from pathlib import Path

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("billing", "0003_rates"),)
    operations = (
        migrations.AlterField(
            model_name="transfer",
            name="kind",
            field=models.CharField(
                choices=[
                    ("grant", "Grant"),
                    ("grant_expired", "Grant Expired"),
                    ("charge", "Charge"),
                    ("charge_promo", "Charge Promo"),
                    ("absorbed", "Absorbed"),
                    ("top_up", "Top Up"),
                    ("top_up_tax", "Top Up Tax"),
                    ("stripe_fee", "Stripe Fee"),
                    ("refund", "Refund"),
                    ("refund_outside", "Refund Outside"),
                    ("refund_tax", "Refund Tax"),
                    ("refund_failed", "Refund Failed"),
                    ("refund_tax_failed", "Refund Tax Failed"),
                    ("dispute", "Dispute"),
                    ("dispute_tax", "Dispute Tax"),
                    ("dispute_won", "Dispute Won"),
                    ("dispute_tax_won", "Dispute Tax Won"),
                    ("dispute_fee", "Dispute Fee"),
                    ("suspense", "Suspense"),
                    ("suspense_returned", "Suspense Returned"),
                    ("true_up", "True Up"),
                    ("true_up_promo", "True Up Promo"),
                    ("bill_absorbed", "Bill Absorbed"),
                    ("bill_credited", "Bill Credited"),
                    ("forfeited", "Forfeited"),
                    ("debt_written_off", "Debt Written Off"),
                ],
                max_length=24,
            ),
        ),
        migrations.AddField(
            model_name="transfer",
            name="balance_nanos",
            field=models.BigIntegerField(null=True),
        ),
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
    )
