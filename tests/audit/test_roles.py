"""PostgreSQL's roles: under them the portal works, and the log is written once."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from accounts.models import User
from actions.models import Action
from audit.models import Checkpoint, Erasure, Event
from audit.services import change_reconciliation, erasures, search_index
from audit.verification import verify
from common.actors import Actor
from tests.audit.sealed_log import said, sealed_all
from tests.factories import Governed

LOG = (
    "audit_event",
    "audit_eventpayload",
    "audit_leaf",
    "audit_tile",
    "audit_checkpoint",
    "audit_cosignature",
    "audit_logkey",
    "audit_quarantine",
    "auditlog_logentry",
)


@contextmanager
def acting_as(role: str) -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(f"SET ROLE {role}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE")


def refused(statement: str) -> bool:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    except DatabaseError as error:
        return "permission denied" in str(error) or "must be owner" in str(error)
    return False


@pytest.fixture
def roles(db: None) -> None:
    call_command("database_roles", stdout=StringIO())
    call_command("database_roles", stdout=StringIO())  # it can be repeated


@pytest.mark.postgresql
@pytest.mark.parametrize("role", ["chancery_app", "chancery_sealer", "chancery_auditor"])
@pytest.mark.parametrize("table", LOG)
def test_no_role_removes_or_empties_or_unguards(roles: None, role: str, table: str) -> None:
    said("a")
    sealed_all()
    with acting_as(role):
        assert refused(f"DELETE FROM {table}")
        assert refused(f"TRUNCATE {table}")
        assert refused(f"ALTER TABLE {table} DISABLE TRIGGER ALL")
        assert refused(f"DROP TABLE {table}")


@pytest.mark.postgresql
def test_the_app_decides_records_and_erases_but_does_not_seal(
    roles: None, governed: Governed, rosa: User, olga: User
) -> None:
    with acting_as("chancery_app"):
        run = governed.run()
        assert governed.pay(run).action.status == Action.Status.SUCCEEDED
        assert refused("UPDATE audit_event SET type = 'x'")
        assert refused("UPDATE audit_eventpayload SET event_id = event_id")
        assert refused("UPDATE auditlog_logentry SET object_pk = '1'")
        assert refused("INSERT INTO audit_leaf (seq, event_id, hash) VALUES (0, 1, '')")
        assert refused("INSERT INTO audit_checkpoint (size) VALUES (1)")
        assert refused("UPDATE audit_sealermark SET low = 0")
    with acting_as("chancery_sealer"):
        assert sealed_all() > 0
    event = Event.objects.filter(type="decision.made").get()
    with acting_as("chancery_app"):
        search_index.index()
        change_reconciliation.reconcile()
        asked = erasures.ask(
            Erasure.About.EVENT, str(event.uid), actor=Actor.from_user(rosa),
            basis="objection", purpose="Theirs.",
        )  # fmt: skip
        erasures.decide_erasure(asked.pk, actor=Actor.from_user(olga), approve=True, reason="Yes.")
        assert Event.objects.get(pk=event.pk).payload.disclosures == {}
    with acting_as("chancery_sealer"):
        sealed_all()
    assert verify().is_sound


@pytest.mark.postgresql
def test_an_auditor_reads_the_log_and_nothing_else(roles: None, governed: Governed) -> None:
    said("a")
    sealed_all()
    with acting_as("chancery_auditor"):
        assert Event.objects.with_values().count() > 0
        assert Checkpoint.objects.exists()
        for table in ("actions_action", "accounts_user", "tools_secretversion", "audit_export"):
            assert refused(f"SELECT * FROM {table}")
        assert refused("INSERT INTO audit_event (type) VALUES ('x')")


def test_without_postgresql_it_says_so_and_shows_what_it_would_do(db: None) -> None:
    shown = StringIO()
    call_command("database_roles", "--show", stdout=shown)
    assert "CREATE ROLE" in shown.getvalue()
    if connection.vendor != "postgresql":
        with pytest.raises(CommandError, match="PostgreSQL"):
            call_command("database_roles")
