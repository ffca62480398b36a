from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0003_images_api"),)

    operations = ()
