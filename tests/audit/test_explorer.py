"""Finding events: by what they are, whose, about what, by words and by time."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import User
from actions import events as action_events
from audit import blind_index
from audit.models import Erasure, Event, Leaf, Term
from audit.search import Search
from audit.services import erasures, search_index
from audit.services.recorder import Subject, record
from common.actors import SYSTEM, Actor
from tests.audit.sealed_log import many, said, sealed_all
from tests.audit.test_pages import person, url

pytestmark = pytest.mark.django_db

TILDA, OTTO = (Actor("agent", name, name) for name in ("tilda.prod", "otto.prod"))


def begun(actor: Actor) -> UUID:
    run = uuid4()
    with transaction.atomic():
        record(
            action_events.RUN_STARTED,
            actor=actor,
            subject=Subject("actions.run", str(run), "run"),
            run_id=run,
            purpose=f"Work of {actor.id}",
        )
    return run


def called(run: UUID, tool: str, result: Any = None, **more: Any) -> None:
    with transaction.atomic():
        record(
            action_events.CALL_COMPLETED,
            actor=SYSTEM,
            subject=Subject("actions.action", str(uuid4()), tool),
            run_id=run,
            tool=tool,
            attempt=1,
            result=result,
            **more,
        )


def found(**given: Any) -> list[str]:
    events = Search(**given).found_in(Event.objects.with_values()).order_by("id")
    return [event.type for event in events]


def indexed() -> None:
    sealed_all()
    search_index.index()


def test_an_agents_events_are_those_of_its_runs_too() -> None:
    run, other = begun(TILDA), begun(OTTO)
    called(run, "crm.read", {"name": "Müller"})
    called(other, "crm.read", {"name": "Mueller"})
    assert found(agent="tilda.prod") == []  # it is found once it is sealed and indexed
    indexed()
    assert found(agent="tilda.prod") == ["run.started", "tool.call.completed"]
    assert found(agent="tilda.prod", tool="crm.read") == ["tool.call.completed"]
    assert found(agent="tilda") == []
    assert found(run=run) == found(agent="tilda.prod")


def test_words_are_found_whatever_their_case_and_all_of_them_have_to_fit() -> None:
    run = begun(TILDA)
    called(run, "crm.read", {"deep": [{"er": "Straße des 17. Juni, JÜRGEN"}], "n": 4711})
    called(run, "crm.read", {"note": "Jürgen"})
    indexed()
    for text, number in (
        ("jürgen", 2),
        ("JÜRGEN strasse", 1),
        ("juni jürgen", 1),
        ("4711", 1),
        ("jürg", 0),
        ("...", 0),
        ("jürgen nobody", 0),
    ):
        assert len(found(text=text)) == number, text


def test_by_time_from_one_moment_until_before_another() -> None:
    said("first")
    event = Event.objects.get()
    at = event.recorded_at
    step = timedelta(microseconds=1)
    assert len(found(since=at)) == len(found(until=at + step)) == 1
    assert found(since=at + step) == found(until=at) == []
    assert len(found(since=at - timedelta(days=400), until=at + timedelta(days=400))) == 1


def test_a_time_before_there_was_any_finds_all() -> None:
    said("first")
    assert found(since=datetime(1960, 1, 1, tzinfo=UTC)) == ["agent.suspended"]


def test_who_what_and_about_what(rosa: User) -> None:
    said("one")
    with transaction.atomic():
        record(
            action_events.RUN_REOPENED,
            actor=Actor.from_user(rosa),
            subject=Subject("tests.thing", "7", "the seventh"),
            reason="Again.",
        )
    indexed()
    mine = {"type": "run.reopened"}
    assert found(person="rosa", **mine) == found(person=str(rosa.pk), **mine) == ["run.reopened"]
    assert found(person="ruben", **mine) == []
    assert found(subject="7") == found(subject="the seventh") == ["run.reopened"]
    assert found(type="run.reopened", subject="1") == []
    assert found(subject="1", type="agent.suspended") == ["agent.suspended"]


def test_the_index_holds_no_word_and_none_of_what_is_kept_apart() -> None:
    run = begun(TILDA)
    called(run, "crm.read", {"name": "[personal]"}, sensitive={"/name": "Hildegard"})
    indexed()
    assert found(text="personal") == ["tool.call.completed"]
    assert found(text="hildegard") == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM audit_term")
        rows = cursor.fetchall()
    assert rows
    assert all(isinstance(cell, int) for row in rows for cell in row)


def test_what_was_erased_is_not_found_by_its_words(rosa: User, olga: User) -> None:
    said("Maria Muster")
    indexed()
    [event] = Event.objects.filter(type="agent.suspended")
    assert found(text="muster") == ["agent.suspended"]
    asked = erasures.ask(
        Erasure.About.EVENT,
        str(event.uid),
        actor=Actor.from_user(rosa),
        basis="objection",
        purpose="Hers.",
        fields=["details.reason"],
    )
    erasures.decide_erasure(asked.pk, actor=Actor.from_user(olga), approve=True, reason="Yes.")
    assert found(text="muster") == []
    assert found(text="rose") == ["agent.suspended"]  # the name of who did it is still there
    assert not Term.objects.filter(term=blind_index.word("muster"), event_number=event.pk).exists()


def test_indexing_goes_on_where_it_ended_and_repeats_nothing() -> None:
    many(25)
    sealed_all()
    waiting = Leaf.objects.count()
    assert search_index.behind() == waiting >= 25
    assert search_index.index(limit=10) == waiting
    assert search_index.behind() == 0
    before = Term.objects.count()
    many(5, of="more")
    sealed_all()
    assert search_index.index() >= 5
    assert Term.objects.count() > before
    assert search_index.index() == 0
    assert len(found(text="x 24")) == 1


def test_a_search_is_recorded_with_what_was_looked_for() -> None:
    many(60)
    indexed()
    client = person("anna", "view_eventpayload")
    page: Any = client.get(url("event_changelist"), {"text": "x", "since": "2020-01-01T00:00"})
    assert page.status_code == 200
    [event] = Event.objects.filter(type="audit.searched").with_values()
    assert event.details["fields"] == ["text", "since"]
    assert event.details["sought"]["text"] == "x"
    assert "sought" not in event.plain()
    older = page.context_data["cl"].older
    assert "text=x" in older
    assert client.get(f"{url('event_changelist')}{older}").status_code == 200
    client.get(url("event_changelist"))
    # Each page of what was found is looked at, whatever way its address came about.
    assert Event.objects.filter(type="audit.searched").count() == 2


@pytest.mark.parametrize(
    "lookup", ["leaf__contains", "payload__disclosures__icontains", "mac__gt", "actor_id"]
)
def test_no_other_way_of_asking_is_answered(lookup: str) -> None:
    said("secret thing")
    client = person("anna", "view_eventpayload")
    answer = client.get(url("event_changelist"), {lookup: "secret"})
    assert answer.status_code == 400 or "e=1" in answer.get("Location", "")


def test_words_are_looked_for_by_those_who_may_see_them() -> None:
    said("secret thing")
    indexed()
    page = person("carl").get(url("event_changelist"), {"text": "thing"}, follow=True)
    assert "Words in it" not in page.content.decode()
    assert not Event.objects.filter(type="audit.searched").exists()


def test_what_makes_no_sense_is_said_and_finds_nothing() -> None:
    many(2)
    page: Any = person("anna").get(url("event_changelist"), {"since": "yesterday"})
    assert page.context_data["cl"].result_count == 0
    assert "Enter a valid date/time" in page.content.decode()


def test_sensitive_values_take_a_right_of_their_own(admin_user: User) -> None:
    called(begun(TILDA), "crm.read", {"born": "[personal]"}, sensitive={"/born": "1970-01-02"})
    sealed_all()
    event = Event.objects.get(type="tool.call.completed")
    may = person("bert", "view_eventpayload")
    assert "1970-01-02" not in may.post(url("event_values", event.pk)).content.decode()
    assert may.post(url("event_sensitive", event.pk)).status_code == 403
    office = Client()
    office.force_login(admin_user)
    assert "1970-01-02" in office.post(url("event_sensitive", event.pk)).content.decode()
    looked = Event.objects.filter(type="audit.payload_viewed").order_by("id").with_values()
    assert [one.details["apart"] for one in looked] == [False, True]


def test_a_page_of_found_events_takes_the_same_queries_however_many() -> None:
    many(300)
    indexed()
    assert Event.objects.filter(recorded_at__lte=timezone.now()).count() >= 300
    client = person("anna", "view_eventpayload")
    client.get(url("event_changelist"), {"text": "x"})
    with connection.execute_wrapper(_no_count):
        assert client.get(url("event_changelist"), {"text": "x"}).status_code == 200


def _no_count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    assert "COUNT(" not in sql.upper() or "audit_" not in sql
    return execute(sql, params, many, context)
