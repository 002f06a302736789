from django.db import migrations, models

from common import triggers

LABELS = ("actor_label", "subject_label")


def protect(apps, schema_editor):
    event = triggers.append_only("audit_event", unique=("id", "uid"))
    payload = triggers.losing_only("audit_eventpayload", key="event_id", labels=LABELS)
    for statements in (event, payload):
        triggers.run(schema_editor.connection, statements)


def unprotect(apps, schema_editor):
    for table in ("audit_event", "audit_eventpayload"):
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
