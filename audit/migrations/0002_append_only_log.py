"""The database refuses to change or remove what the log holds.

Values may be emptied, by an erasure or when their time is over; in the change log too.
"""

from django.db import migrations

from common import change_triggers, triggers

UNIQUE = {
    "audit_event": ("id", "uid"),
    "audit_leaf": ("seq", "event_id"),
    "audit_tile": ("id",),
    "audit_checkpoint": ("size",),
    "audit_cosignature": ("id",),
    "audit_logkey": ("id", "vkey"),
    "audit_quarantine": ("id", "event_id"),
}
PAYLOADS, LABELS = "audit_eventpayload", ("actor_label", "subject_label")
CHANGES = "auditlog_logentry"
KEPT = ("id", "content_type_id", "object_pk", "object_id", "action", "timestamp", "cid", "actor_id")
EMPTIED = (
    "object_repr",
    "changes",
    "changes_text",
    "serialized_data",
    "additional_data",
    "actor_email",
    "remote_addr",
    "remote_port",
)


def _otherwise_than_emptied(column):
    new, old = (f"COALESCE(CAST({row}.{column} AS text), '')" for row in ("NEW", "OLD"))
    return f"({new} <> {old} AND {new} NOT IN ('', '{{}}'))"


def protect(apps, schema_editor):
    connection = schema_editor.connection
    for table, unique in UNIQUE.items():
        triggers.run(connection, triggers.append_only(table, unique=unique))
    triggers.run(connection, triggers.losing_only(PAYLOADS, key="event_id", labels=LABELS))
    never = tuple(_otherwise_than_emptied(column) for column in EMPTIED)
    changes = triggers.frozen_columns(CHANGES, KEPT, never=never)
    changes["postgresql"] += triggers.never_truncated(CHANGES)
    triggers.run(connection, changes)


def unprotect(apps, schema_editor):
    # Those of governed tables are made after all migrations; they have to go before the table does.
    change_triggers.remove(schema_editor.connection)
    for table in (*UNIQUE, PAYLOADS, CHANGES):
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial"), ("auditlog", "0017_add_actor_email")]
    operations = [migrations.RunPython(protect, unprotect)]
