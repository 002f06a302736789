"""An entry of the change log says from where a change came: that can be emptied, and not changed."""

from django.db import migrations

from common import triggers

TABLE = "auditlog_logentry"
KEPT = ("id", "content_type_id", "object_pk", "object_id", "action", "timestamp", "cid", "actor_id")
EMPTIED = ("object_repr", "changes", "changes_text", "serialized_data", "additional_data",
           "actor_email", "remote_addr", "remote_port")  # fmt: skip


def _otherwise_than_emptied(column):
    new, old = (f"COALESCE(CAST({row}.{column} AS text), '')" for row in ("NEW", "OLD"))
    return f"({new} <> {old} AND {new} NOT IN ('', '{{}}'))"


def protect_with(emptied):
    def protect(apps, schema_editor):
        never = tuple(_otherwise_than_emptied(column) for column in emptied)
        statements = triggers.frozen_columns(TABLE, KEPT, never=never)
        statements["postgresql"] += triggers.never_truncated(TABLE)
        triggers.run(schema_editor.connection, triggers.removal(TABLE))
        triggers.run(schema_editor.connection, statements)

    return protect


class Migration(migrations.Migration):
    dependencies = [("audit", "0017_leased_sinks_and_sensitive_evidence")]
    operations = [migrations.RunPython(protect_with(EMPTIED), protect_with(EMPTIED[:6]))]
