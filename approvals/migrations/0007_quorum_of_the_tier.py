"""The database refuses a request that needs fewer people than its tier does."""

from django.db import migrations

from common import triggers

REQUESTS = "approvals_approvalrequest"
_PENDING = "NEW.status = 'pending' AND NEW.spent_at IS NULL"
_QUORUM = "NEW.quorum >= (SELECT quorum FROM approvals_tier WHERE slug = NEW.tier_id)"


def _begin(schema_editor, when):
    connection = schema_editor.connection
    triggers.run(connection, triggers.inserted_removal(REQUESTS))
    triggers.run(connection, triggers.inserted_only(REQUESTS, when=when))


def protect(apps, schema_editor):
    _begin(schema_editor, f"{_PENDING} AND {_QUORUM}")


def unprotect(apps, schema_editor):
    _begin(schema_editor, _PENDING)


class Migration(migrations.Migration):
    dependencies = [("approvals", "0006_approved_only_with_votes")]
    operations = [migrations.RunPython(protect, unprotect)]
