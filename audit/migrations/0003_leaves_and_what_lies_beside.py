import django.db.models.deletion
from django.db import migrations, models

from common import triggers

TABLE = "audit_event"


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.append_only(TABLE, unique=("id", "uid")))


class Migration(migrations.Migration):
    """Until 0005 the log is unprotected: its rows are given their leaves."""

    dependencies = [("audit", "0002_append_only_events")]
    operations = [
        migrations.RunPython(unprotect, protect),
        migrations.AddField("event", "writer", models.CharField(default="", max_length=16)),
        migrations.AddField("event", "writer_number", models.BigIntegerField(default=0)),
        migrations.AddField("event", "leaf", models.TextField(default="")),
        migrations.AddField("event", "mac", models.BinaryField(default=b"")),
        migrations.AddField("event", "mac_key", models.CharField(default="", max_length=8)),
        migrations.CreateModel(
            name="EventPayload",
            fields=[
                (
                    "event",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="payload",
                        serialize=False,
                        to="audit.event",
                        to_field="uid",
                    ),
                ),
                ("actor_label", models.CharField(blank=True, max_length=200)),
                ("subject_label", models.CharField(blank=True, max_length=200)),
                ("disclosures", models.JSONField(default=dict)),
                ("erased", models.JSONField(default=dict, db_default={})),
            ],
            options={
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["subject_label"], name="payload_by_subject")],
            },
        ),
    ]
