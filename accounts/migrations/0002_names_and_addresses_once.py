from django.db import migrations, models



class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [
        migrations.AddField("user", "name_key", models.CharField(editable=False, max_length=300, null=True)),
        migrations.AddField("user", "full_name_key", models.CharField(blank=True, db_index=True, default="", editable=False, max_length=600), preserve_default=False),
        migrations.AddField("user", "mail_key", models.CharField(blank=True, default="", editable=False, max_length=254), preserve_default=False),
    ]
