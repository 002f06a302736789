from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("agents", "0007_former_people")]
    operations = [migrations.RemoveField("agent", "former_sponsor")]
