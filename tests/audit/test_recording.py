"""An event is written with the change that it records, or neither is."""

from contextvars import Context, copy_context
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from accounts.models import Environment
from accounts.services import ensure_environment
from agents import events as agent_events
from audit.errors import RecordOutsideTransaction, UnknownEvent
from audit.event_types import EventType, declare, declared, title_of
from audit.models import Event
from audit.services.recorder import Subject, event_row, record
from common.actors import SYSTEM, Actor
from common.canonical import NotCanonical
from common.commands import command
from common.errors import GovernanceError
from common.ids import uuid7
from common.request_context import set_request_id

THING = Subject("tests.thing", "1", "thing 1")
TILDA = Actor("agent", "tilda.prod", "Tilda")


def suspended(**details: Any) -> None:
    record(agent_events.AGENT_SUSPENDED, actor=TILDA, subject=THING, **details)


@pytest.mark.django_db
def test_an_event_names_who_did_what_to_what() -> None:
    run_id, before = uuid7(), timezone.now()
    with transaction.atomic():
        record(
            agent_events.AGENT_SUSPENDED, actor=TILDA, subject=THING, run_id=run_id, reason="Leak."
        )
    event = Event.objects.get()
    assert (event.type, event.title) == ("agent.suspended", "Agent suspended")
    assert (event.actor_kind, event.actor_id, event.actor_label) == (
        "agent",
        "tilda.prod",
        "Tilda",
    )
    assert (event.subject_kind, event.subject_id, event.subject_label) == (
        "tests.thing",
        "1",
        "thing 1",
    )
    assert (event.run_id, event.details) == (run_id, {"reason": "Leak."})
    assert before <= event.recorded_at <= timezone.now()
    assert list(Event.objects.of_run(run_id)) == [event]
    assert list(Event.objects.about("tests.thing", 1)) == [event]


@pytest.mark.django_db
def test_a_record_may_be_about_a_row(prod: Environment) -> None:
    with transaction.atomic():
        record(agent_events.IDENTITY_CREATED, actor=SYSTEM, subject=prod, environment="prod")
    event = Event.objects.latest("id")
    assert (event.subject_kind, event.subject_id) == ("accounts.environment", "prod")


@pytest.mark.django_db(transaction=True)
def test_there_is_no_record_outside_a_transaction() -> None:
    with pytest.raises(RecordOutsideTransaction, match=r"agent\.suspended"):
        suspended(reason="Leak.")
    assert not Event.objects.exists()
    with transaction.atomic():
        suspended(reason="Leak.")
    assert Event.objects.count() == 1


@pytest.mark.django_db
def test_an_event_that_nobody_declared_is_refused() -> None:
    made_up = EventType("agent.promoted", "An agent was promoted", frozenset())
    look_alike = EventType("agent.suspended", "Anything goes", frozenset({"reason", "mood"}))
    for event_type in (made_up, look_alike):
        with pytest.raises(UnknownEvent, match="is not a declared event"):
            record(event_type, actor=SYSTEM, subject=THING)
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_a_detail_that_was_not_declared_is_refused() -> None:
    with pytest.raises(UnknownEvent, match=r"does not declare \['mood'\]"):
        suspended(reason="Leak.", mood="bad")
    assert not Event.objects.exists()


def test_an_event_is_declared_once() -> None:
    before = declared()
    with pytest.raises(UnknownEvent, match="declared twice"):
        declare("agent.suspended", "Something else")
    assert declared() == before
    assert title_of("agent.suspended") == "Agent suspended"
    assert title_of("gone.since") == "gone.since"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "value", [object(), float("nan"), "\x00", "\ud800", {1: "x"}, timezone.now(), b"x"]
)
def test_a_detail_that_is_not_plain_json_is_refused(value: Any) -> None:
    with pytest.raises(NotCanonical):
        suspended(reason=value)
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_details_are_written_in_one_way() -> None:
    suspended(reason={"whole": 5.0, "part": 0.5, "list": (1, "é", None, True)})
    expected = {"whole": 5, "part": 0.5, "list": [1, "é", None, True]}
    assert Event.objects.get().details == {"reason": expected}


@pytest.mark.django_db
def test_a_change_that_is_rolled_back_takes_its_record_with_it() -> None:
    class Second(Exception):
        pass

    def both() -> None:
        with transaction.atomic():
            ensure_environment("dev", actor=SYSTEM, title="Development")
            suspended(reason="Leak.")
            raise Second

    with pytest.raises(Second):
        both()
    assert not Environment.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_a_record_that_is_refused_takes_its_change_with_it() -> None:
    def both() -> None:
        with transaction.atomic():
            ensure_environment("dev", actor=SYSTEM, title="Development")
            suspended(mood="bad")

    with pytest.raises(UnknownEvent):
        both()
    assert not Environment.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_a_command_needs_an_actor_and_leaves_nothing_behind_when_refused() -> None:
    @command
    def open_then_refuse(*, actor: Actor) -> None:
        ensure_environment("dev", actor=actor, title="Development")
        raise GovernanceError

    with pytest.raises(GovernanceError):
        open_then_refuse(actor=SYSTEM)
    with pytest.raises(TypeError, match="needs actor="):
        open_then_refuse()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="needs actor="):
        open_then_refuse(actor="system")  # type: ignore[arg-type]
    assert not Environment.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.django_db
def test_records_of_one_request_are_tied_together() -> None:
    def served(request_id: str) -> None:
        set_request_id(request_id)
        suspended(reason="First.")
        suspended(reason="Second.")

    copy_context().run(served, "request-1")
    copy_context().run(served, "request-2")
    Context().run(suspended, reason="By a task.")
    ids = Event.objects.order_by("id").values_list("request_id", flat=True)
    assert list(ids) == ["request-1", "request-1", "request-2", "request-2", ""]


@pytest.mark.django_db
def test_long_names_are_cut_to_fit() -> None:
    long = "x" * 300
    with transaction.atomic():
        record(
            agent_events.AGENT_SUSPENDED,
            actor=Actor("agent", long, long),
            subject=Subject("tests.thing", "1", long),
            reason=long,
        )
    event = Event.objects.get()
    assert (len(event.actor_id), len(event.actor_label), len(event.subject_label)) == (64, 200, 200)
    assert event.details["reason"] == long


def test_each_event_has_a_number_that_grows_with_time() -> None:
    rows = [
        event_row(agent_events.AGENT_SUSPENDED, actor=SYSTEM, subject=THING) for _ in range(100)
    ]
    uids = [row["uid"] for row in rows]
    assert len(set(uids)) == 100
    moments = [uid.int >> 80 for uid in uids]
    assert moments == sorted(moments)
    assert {(uid.version, uid.variant) for uid in uids} == {
        (7, "specified in RFC 4122"),
    }
