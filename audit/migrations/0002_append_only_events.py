from django.db import migrations

from common import triggers

TABLE = "audit_event"


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.append_only(TABLE, unique=("id", "uid")))


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
