"""An event is never changed or removed, by whichever way one comes."""

from typing import Any

import pytest
from django.db import DEFAULT_DB_ALIAS, IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from agents import events as agent_events
from audit.errors import AppendOnly
from audit.models import Event, EventPayload
from audit.services.recorder import Subject, record
from common.actors import SYSTEM
from common.ids import uuid7

pytestmark = pytest.mark.django_db

on_sqlite = pytest.mark.skipif(
    connection.vendor != "sqlite", reason="SQLite's own ways of replacing a row"
)
COLUMNS = (
    "recorded_at, type, actor_kind, actor_id, subject_kind, subject_id, request_id, "
    "writer, writer_number, leaf, mac, mac_key"
)
VALUES = "'2001-01-01 00:00:00', 'forged', 'x', 'x', 'x', 'x', 'x', 'x', 1, '{}', 'x', 'x'"


@pytest.fixture
def logged() -> Event:
    for reason in ("First.", "Second."):
        record(
            agent_events.AGENT_SUSPENDED,
            actor=SYSTEM,
            subject=Subject("tests.thing", "1", "thing"),
            reason=reason,
        )
    return Event.objects.order_by("id")[0]


def contents() -> list[Any]:
    payloads = EventPayload.objects.order_by("pk").values()
    return [_plain(row) for row in (*Event.objects.order_by("id").values(), *payloads)]


def _plain(row: Any) -> dict[str, Any]:
    return {name: bytes(v) if isinstance(v, memoryview) else v for name, v in row.items()}


def refused(statement: str, *parameters: Any) -> None:
    before = contents()
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters or None)
    assert contents() == before


def test_a_row_knows_neither_save_nor_delete(logged: Event) -> None:
    before = contents()
    logged.type = "forged"
    forged = Event(type="forged", recorded_at=timezone.now())
    for attempt in (logged.save, logged.delete, forged.save, forged.delete):
        with pytest.raises(AppendOnly):
            attempt()
    with pytest.raises(AppendOnly):
        Event.objects.create(type="forged", recorded_at=timezone.now())
    assert contents() == before


def test_a_set_of_rows_knows_neither_update_nor_delete(logged: Event) -> None:
    before = contents()
    with pytest.raises(AppendOnly):
        Event.objects.all().update(type="forged")
    with pytest.raises(AppendOnly):
        Event.objects.filter(pk=logged.pk).delete()
    with pytest.raises(AppendOnly):
        Event.objects.bulk_update([logged], ["type"])
    with pytest.raises(AppendOnly):
        Event.objects.update_or_create(pk=logged.pk, defaults={"type": "forged"})
    assert contents() == before


def test_the_database_refuses_what_goes_round_the_model(logged: Event) -> None:
    before = contents()
    plain: QuerySet[Event] = QuerySet(Event)
    with pytest.raises(IntegrityError), transaction.atomic():
        plain.update(type="forged")
    with pytest.raises(IntegrityError), transaction.atomic():
        plain.delete()
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.all()._raw_delete(DEFAULT_DB_ALIAS)
    with pytest.raises(IntegrityError), transaction.atomic():
        Event.objects.bulk_create(
            [logged],
            update_conflicts=True,
            unique_fields=["uid"],
            update_fields=["leaf"],
        )
    assert contents() == before


def test_raw_statements_are_refused(logged: Event) -> None:
    for column in ("leaf", "mac", "type", "actor_id", "recorded_at", "run_id", "id", "uid"):
        refused(f"UPDATE audit_event SET {column} = {column}")
    refused("UPDATE audit_event SET leaf = '{}' WHERE id = %s", logged.pk)
    for column in ("actor_label", "subject_label"):
        refused(f"UPDATE audit_eventpayload SET {column} = 'x'")
    refused("UPDATE audit_eventpayload SET disclosures = '{}'")
    refused("DELETE FROM audit_eventpayload")
    refused("DELETE FROM audit_event")
    refused("DELETE FROM audit_event WHERE id = %s", logged.pk)


def test_an_upsert_is_refused(logged: Event) -> None:
    uid = logged.uid if connection.vendor == "postgresql" else logged.uid.hex
    refused(
        f"INSERT INTO audit_event (uid, {COLUMNS}) VALUES (%s, {VALUES}) "
        "ON CONFLICT (uid) DO UPDATE SET leaf = excluded.leaf",
        uid,
    )
    refused(
        f"INSERT INTO audit_event (id, uid, {COLUMNS}) VALUES (%s, %s, {VALUES}) "
        "ON CONFLICT (id) DO UPDATE SET type = 'forged'",
        logged.pk,
        uuid7() if connection.vendor == "postgresql" else uuid7().hex,
    )


@on_sqlite
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE"])
@pytest.mark.parametrize("key", ["id", "rowid", "oid", "_rowid_", "uid"])
def test_an_insert_that_would_replace_is_refused(logged: Event, verb: str, key: str) -> None:
    if key == "uid":
        refused(f"{verb} INTO audit_event (uid, {COLUMNS}) VALUES (%s, {VALUES})", logged.uid.hex)
        return
    for value in (logged.pk, str(logged.pk), float(logged.pk)):
        refused(
            f"{verb} INTO audit_event ({key}, uid, {COLUMNS}) VALUES (%s, %s, {VALUES})",
            value,
            uuid7().hex,
        )


@on_sqlite
def test_an_update_that_would_replace_is_refused(logged: Event) -> None:
    refused("UPDATE OR REPLACE audit_event SET id = id + 1")
    refused("UPDATE OR IGNORE audit_event SET type = 'forged'")


def test_a_new_event_is_still_taken(logged: Event) -> None:
    record(agent_events.AGENT_RETIRED, actor=SYSTEM, subject=Subject("t", "1", "t"), reason="x")
    assert list(Event.objects.order_by("id").values_list("type", flat=True)) == [
        "agent.suspended",
        "agent.suspended",
        "agent.retired",
    ]


@pytest.mark.postgresql
def test_the_triggers_fire_for_replication_roles_too(logged: Event) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, tgenabled FROM pg_trigger "
            "WHERE tgrelid = 'audit_event'::regclass AND NOT tgisinternal ORDER BY tgname"
        )
        triggers = cursor.fetchall()
    assert triggers == [("audit_event_no_change", "A"), ("audit_event_no_truncate", "A")]
    for statement in ("UPDATE audit_event SET type = 'forged'", "DELETE FROM audit_event"):
        refused(f"SET LOCAL session_replication_role = replica; {statement}")
