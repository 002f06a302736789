"""The database refuses to change what was decided about a call."""

from django.db import migrations

from common import triggers

TABLE = "actions_action"
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
# What waits for people goes on when they have approved; what was refused or withdrawn does not.
NEVER = (
    "(OLD.status = 'waiting' AND NEW.status IN ('ready', 'executing', 'succeeded')"
    " AND NOT EXISTS (SELECT 1 FROM approvals_approvalrequest q"
    " WHERE q.id = NEW.approval_id AND q.status = 'approved'))",
    "(OLD.status IN ('denied', 'halted', 'rejected', 'expired', 'withdrawn')"
    " AND NEW.status <> OLD.status)",
)


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.frozen_columns(TABLE, COLUMNS, never=NEVER))


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


class Migration(migrations.Migration):
    dependencies = [("actions", "0001_initial"), ("approvals", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
