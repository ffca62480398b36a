"""The same guards at less cost: fewer and shorter conditions where every request writes."""

from pathlib import Path

from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = (("billing", "0007_reports"),)
    operations = (
        migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text(), migrations.RunSQL.noop),
        *(
            migrations.RemoveConstraint(model_name="account", name=name)
            for name in (
                "account_kind_known",
                "account_of_an_organization_or_the_system",
                "account_of_a_provider_names_it",
                "account_held_not_negative",
                "account_never_below_its_floor",
                "account_of_the_system_has_no_balance",
            )
        ),
        migrations.AddConstraint(
            model_name="account",
            constraint=models.CheckConstraint(
                name="account_balance_in_bounds",
                condition=Q(organization__isnull=True, posted_nanos=0, held_nanos=0)
                | Q(
                    organization__isnull=False, held_nanos__gte=0, posted_nanos__gte=F("held_nanos") + F("floor_nanos")
                ),
            ),
        ),
        *(
            migrations.RemoveConstraint(model_name="hold", name=name)
            for name in (
                "hold_state_known",
                "hold_amounts_not_negative",
                "hold_resolved_when_not_held",
                "hold_never_charged_above_itself",
            )
        ),
        migrations.AddConstraint(
            model_name="hold",
            constraint=models.CheckConstraint(
                name="hold_resolved_within_itself",
                condition=Q(promo_nanos__gte=0, wallet_nanos__gte=0)
                & (
                    Q(resolved_at__isnull=True, charged_nanos__isnull=True, state="held")
                    | Q(resolved_at__isnull=False, charged_nanos__isnull=True, state="voided")
                    | Q(
                        resolved_at__isnull=False,
                        charged_nanos__isnull=False,
                        charged_nanos__gte=0,
                        charged_nanos__lte=F("promo_nanos") + F("wallet_nanos"),
                        state="settled",
                    )
                ),
            ),
        ),
    )
