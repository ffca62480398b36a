"""No digest of each stored picture: nothing read it, and it was the dearest step of a large answer after the network."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = (("imagesapi", "0010_lean_writes"),)
    operations = (migrations.RemoveField(model_name="image", name="sha256"),)
