from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0005_webhooks"),)

    operations = ()
