from django.db import migrations

from accounts.names import mail_key, name_key


def fill(apps, schema_editor):
    User = apps.get_model("accounts", "User")
    for user in User.objects.order_by("pk"):
        user.name_key = name_key(user.username)
        user.full_name_key = name_key(f"{user.first_name} {user.last_name}".strip())
        user.mail_key = mail_key(user.email or "")
        user.save(update_fields=["name_key", "full_name_key", "mail_key"])


class Migration(migrations.Migration):
    dependencies = [("accounts", "0002_names_and_addresses_once")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
