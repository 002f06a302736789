from django.db import migrations

from common import triggers

TABLE = "actions_action"


def protect(apps, schema_editor):
    columns = (
        "run_id",
        "idempotency_key",
        "request_digest",
        "agent",
        "environment",
        "tool",
        "tool_digest",
        "arguments",
        "arguments_digest",
        "claims",
        "epoch",
        "scope",
        "outcome",
        "decided_at",
    )
    triggers.run(schema_editor.connection, triggers.frozen_columns(TABLE, columns))


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


class Migration(migrations.Migration):
    dependencies = [("actions", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
