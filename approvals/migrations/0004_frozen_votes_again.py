from django.db import migrations

from common import triggers

TABLE = "approvals_vote"
# SQLite drops a table's triggers when a migration rebuilds it: all of 0002, and the factor.
COLUMNS = (
    "request_id",
    "voter_id",
    "tier_id",
    "answer",
    "reason",
    "snapshot_digest",
    "factor",
    "cast_at",
)


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))
    triggers.run(schema_editor.connection, triggers.frozen_columns(TABLE, COLUMNS))


class Migration(migrations.Migration):
    dependencies = [("approvals", "0003_fresh_sign_in")]
    operations = [migrations.RunPython(protect, migrations.RunPython.noop)]
