from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0004_routing"),)

    operations = ()
