"""Each complete tile keeps the hash that its hashes make together."""

from django.db import migrations, models

from audit.merkle import HASH_BYTES, root_of
from common import triggers

TABLE = "audit_tile"


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.removal(TABLE))


def protect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.append_only(TABLE))


def compute(apps, schema_editor):
    for tile in apps.get_model("audit", "Tile").objects.iterator():
        hashes = bytes(tile.hashes)
        parts = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
        tile.root = root_of(parts)
        tile.save(update_fields=["root"])


class Migration(migrations.Migration):
    dependencies = [("audit", "0011_change_log_is_kept")]
    operations = [
        migrations.RunPython(unprotect, protect),
        migrations.AddField("tile", "root", models.BinaryField(null=True)),
        migrations.RunPython(compute, migrations.RunPython.noop),
        migrations.AlterField("tile", "root", models.BinaryField()),
        migrations.RunPython(protect, unprotect),
    ]
