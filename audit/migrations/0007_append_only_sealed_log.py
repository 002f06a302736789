from django.db import migrations

from common import triggers

KEYS = {
    "audit_leaf": ("seq", "event_id"),
    "audit_tile": ("id",),
    "audit_checkpoint": ("size",),
    "audit_cosignature": ("id",),
    "audit_logkey": ("id", "vkey"),
    "audit_quarantine": ("id", "event_id"),
}


def protect(apps, schema_editor):
    for table, unique in KEYS.items():
        triggers.run(schema_editor.connection, triggers.append_only(table, unique=unique))


def unprotect(apps, schema_editor):
    for table in KEYS:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("audit", "0006_sealed_log")]
    operations = [migrations.RunPython(protect, unprotect)]
