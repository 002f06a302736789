"""The database refuses to change a request or a vote, or to approve without the votes."""

from django.db import migrations

from common import triggers

REQUESTS, VOTES = "approvals_approvalrequest", "approvals_vote"
FROZEN = {
    REQUESTS: (
        "kind",
        "title",
        "run_id",
        "reasons",
        "requester_label",
        "subject_kind",
        "subject_id",
        "snapshot",
        "snapshot_digest",
        "requester_kind",
        "requester_id",
        "conflicted_users",
        "initiator",
        "opened_at",
    ),
    VOTES: (
        "request_id",
        "voter_id",
        "tier_id",
        "answer",
        "reason",
        "snapshot_digest",
        "factor",
        "cast_at",
    ),
}
# An approval is as many standing votes as its tier asks for, a rejection is one, and a tier is left
# for the one it escalates to only.
_VOTES = (
    "(SELECT COUNT(*) FROM approvals_vote v WHERE v.request_id = NEW.id AND v.answer = '{answer}'"
    " AND v.tier_id = NEW.tier_id AND v.struck_at IS NULL)"
)
_NEXT = (
    "EXISTS (SELECT 1 FROM approvals_tier t JOIN approvals_tier n ON n.slug = t.escalate_to_id"
    " WHERE t.slug = OLD.tier_id AND n.slug = NEW.tier_id AND n.quorum = NEW.quorum)"
)
NEVER = {
    REQUESTS: (
        "(OLD.status <> 'pending' AND NEW.status <> OLD.status)",
        "(OLD.spent_at IS NOT NULL AND (NEW.spent_at IS NULL OR NEW.spent_at <> OLD.spent_at))",
        "(NEW.status = 'approved' AND OLD.status <> 'approved' AND "
        + _VOTES.format(answer="approve")
        + " < NEW.quorum)",
        "(NEW.status = 'rejected' AND OLD.status <> 'rejected' AND "
        + _VOTES.format(answer="reject")
        + " < 1)",
        f"(NEW.tier_id <> OLD.tier_id AND NOT (OLD.status = 'pending' AND {_NEXT}))",
        "(NEW.tier_id = OLD.tier_id AND NEW.quorum <> OLD.quorum)",
    ),
    VOTES: ("(OLD.struck_at IS NOT NULL AND NEW.struck_at IS NULL)",),
}
# A request begins undecided, and needs as many people as its tier at least.
BEGINS = (
    "NEW.status = 'pending' AND NEW.spent_at IS NULL"
    " AND NEW.quorum >= (SELECT quorum FROM approvals_tier WHERE slug = NEW.tier_id)"
)


def protect(apps, schema_editor):
    for table, columns in FROZEN.items():
        statements = triggers.frozen_columns(table, columns, never=NEVER[table])
        triggers.run(schema_editor.connection, statements)
    triggers.run(schema_editor.connection, triggers.inserted_only(REQUESTS, when=BEGINS))


def unprotect(apps, schema_editor):
    triggers.run(schema_editor.connection, triggers.inserted_removal(REQUESTS))
    for table in FROZEN:
        triggers.run(schema_editor.connection, triggers.removal(table))


class Migration(migrations.Migration):
    dependencies = [("approvals", "0001_initial")]
    operations = [migrations.RunPython(protect, unprotect)]
