from django.db import migrations

from common import triggers

FROZEN = {
    "approvals_approvalrequest": (
        "kind",
        "title",
        "run_id",
        "reasons",
        "requester_label",
        "subject_kind",
        "subject_id",
        "snapshot",
        "snapshot_digest",
        "requester_kind",
        "requester_id",
        "conflicted_users",
        "opened_at",
    ),
    "approvals_vote": (
        "request_id",
        "voter_id",
        "tier_id",
        "answer",
        "reason",
        "snapshot_digest",
        "cast_at",
    ),
}

# What people have decided stays decided, and what was spent stays spent.
NEVER = {
    "approvals_approvalrequest": (
        "(OLD.status <> 'pending' AND NEW.status <> OLD.status)",
        "(OLD.spent_at IS NOT NULL AND (NEW.spent_at IS NULL OR NEW.spent_at <> OLD.spent_at))",
    ),
}


def protect(apps, schema_editor):
    for table, columns in FROZEN.items():
        statements = triggers.frozen_columns(table, columns, never=NEVER.get(table, ()))
        triggers.run(schema_editor.connection, statements)


def unprotect(apps, schema_editor):
    for table in FROZEN:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
