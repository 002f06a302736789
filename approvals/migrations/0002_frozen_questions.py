from django.db import migrations

from common import triggers

FROZEN = {
    "approvals_approvalrequest": (
        "kind",
        "subject_kind",
        "subject_id",
        "snapshot",
        "snapshot_digest",
        "requester_kind",
        "requester_id",
        "answerable_users",
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


def protect(apps, schema_editor):
    for table, columns in FROZEN.items():
        triggers.run(schema_editor.connection, triggers.frozen_columns(table, columns))


def unprotect(apps, schema_editor):
    for table in FROZEN:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
