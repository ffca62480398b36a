from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0006_history"),)

    operations = (
        migrations.AddField(
            model_name="provider",
            name="options",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.RemoveConstraint(
            model_name="priceline",
            name="price_line_meter_known",
        ),
        migrations.AddConstraint(
            model_name="priceline",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    (
                        "meter__in",
                        [
                            "image",
                            "megapixel",
                            "text_input_token",
                            "image_input_token",
                            "image_output_token",
                            "text_output_token",
                            "input_image",
                            "input_megapixel",
                        ],
                    )
                ),
                name="price_line_meter_known",
            ),
        ),
    )
