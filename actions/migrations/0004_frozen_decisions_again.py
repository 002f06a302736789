from django.db import migrations

from common import triggers

TABLE = "actions_action"
# SQLite drops a table's triggers when a migration rebuilds it: all of 0002, and the executor.
COLUMNS = (
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
    "executor",
    "outcome",
    "decided_at",
)


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))
    triggers.run(schema_editor.connection, triggers.frozen_columns(TABLE, COLUMNS))


class Migration(migrations.Migration):
    dependencies = [("actions", "0003_drivers_chains_and_late_answers")]
    operations = [migrations.RunPython(protect, migrations.RunPython.noop)]
