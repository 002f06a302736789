"""Entries of the change log stay, but for values that an erasure takes out of them."""

from django.db import migrations

from common import triggers

TABLE = "auditlog_logentry"
KEPT = ("id", "content_type_id", "object_pk", "object_id", "action", "timestamp", "cid", "actor_id")
EMPTIED = ("object_repr", "changes", "changes_text", "serialized_data", "additional_data",
           "actor_email")  # fmt: skip


def _otherwise_than_emptied(column):
    new, old = (f"COALESCE(CAST({row}.{column} AS text), '')" for row in ("NEW", "OLD"))
    return f"({new} <> {old} AND {new} NOT IN ('', '{{}}'))"


def protect(apps, schema_editor):
    never = tuple(_otherwise_than_emptied(column) for column in EMPTIED)
    statements = triggers.frozen_columns(TABLE, KEPT, never=never)
    statements["postgresql"] += triggers.never_truncated(TABLE)
    triggers.run(schema_editor.connection, statements)


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


class Migration(migrations.Migration):
    dependencies = [
        ("audit", "0010_changes_noticed_by_the_database"),
        ("auditlog", "0017_add_actor_email"),
    ]
    operations = [migrations.RunPython(protect, unprotect)]
