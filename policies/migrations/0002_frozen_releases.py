"""The database refuses to change a policy release."""

from django.db import migrations

from common import triggers

TABLE = "policies_policyrelease"


def protect(apps, schema_editor):
    columns = ("number", "text", "schema", "tools", "digest", "drafted_by", "drafted_by_id", "writers")
    triggers.run(schema_editor.connection, triggers.frozen_columns(TABLE, columns))


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


class Migration(migrations.Migration):
    dependencies = [("policies", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
