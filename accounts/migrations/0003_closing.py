"""Organizations that have left, and the one that is the platform's own."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_scopes_and_rules"),
    ]

    operations = [
        migrations.AddField(
            model_name="organization",
            name="closed_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="organization",
            name="is_platform",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.CheckConstraint(
                condition=models.Q(("closed_at__isnull", True), ("suspended_at__isnull", False), _connector="OR"),
                name="organization_closed_stays_suspended",
            ),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_platform", True)),
                fields=("is_platform",),
                name="organization_of_the_platform_once",
            ),
        ),
    ]
