"""The database refuses to change versions, what runs began with, and what steps brought."""

from django.db import migrations

from common import triggers

FROZEN = {
    "workflows_workflowversion": (
        "workflow_id",
        "number",
        "text",
        "spec",
        "world",
        "digest",
        "drafted_by",
        "drafted_by_id",
    ),
    "workflows_workflowrun": (
        "workflow_id",
        "version_id",
        "parent_id",
        "parent_path",
        "inputs",
        "inputs_digest",
        "idempotency_key",
        "scope",
        "started_at",
    ),
    "workflows_steprun": ("run_id", "path", "scope", "kind", "compensates", "started_at"),
    "workflows_signal": ("run_id", "name", "key", "payload", "received_at"),
    "workflows_schedulefire": ("schedule_id", "fire_time"),
}
# What a step has brought stays; a signal is taken up once; a run that succeeded can only be undone.
NEVER = {
    "workflows_steprun": (
        "(OLD.status = 'succeeded' AND (NEW.status <> 'succeeded' OR NEW.folded < OLD.folded))",
    ),
    "workflows_signal": ("(OLD.consumed_by <> '' AND NEW.consumed_by <> OLD.consumed_by)",),
    "workflows_workflowrun": (
        "(OLD.status = 'succeeded' AND NEW.status NOT IN ('succeeded', 'compensating'))",
        "(OLD.status = 'compensated' AND NEW.status <> 'compensated')",
    ),
}


def protect(apps, schema_editor):
    for table, columns in FROZEN.items():
        key = "run_id" if table == "workflows_workflowrun" else "id"
        statements = triggers.frozen_columns(
            table, columns, never=NEVER.get(table, ()), key=key
        )
        triggers.run(schema_editor.connection, statements)


def unprotect(apps, schema_editor):
    for table in FROZEN:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("workflows", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
