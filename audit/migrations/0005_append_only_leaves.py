from django.db import migrations, models

from common import triggers

KEYS = {"audit_event": ("id", "uid"), "audit_eventpayload": ("event_id",)}


def protect(apps, schema_editor):
    for table, unique in KEYS.items():
        triggers.run(schema_editor.connection, triggers.append_only(table, unique=unique))


def unprotect(apps, schema_editor):
    for table in KEYS:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("audit", "0004_older_events_get_leaves")]
    operations = [
        migrations.RemoveField("event", "actor_label"),
        migrations.RemoveField("event", "subject_label"),
        migrations.RemoveField("event", "details"),
        migrations.AlterField("event", "writer", models.CharField(max_length=16)),
        migrations.AlterField("event", "writer_number", models.BigIntegerField()),
        migrations.AlterField("event", "leaf", models.TextField()),
        migrations.AlterField("event", "mac", models.BinaryField()),
        migrations.AlterField("event", "mac_key", models.CharField(max_length=8)),
        migrations.RunPython(protect, unprotect),
    ]
