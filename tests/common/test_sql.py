from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, connection, transaction
from pytest_django import DjangoAssertNumQueries

from accounts.models import Environment
from audit.errors import RecordOutsideTransaction
from audit.models import Event
from audit.services.recorder import EVENTS
from common.actors import SYSTEM
from common.ids import uuid7
from common.sql import Expanding, Insert, Row, Update, Write, write
from tools.models import System, Tool
from tools.services.registration import define_tool, register_system

pytestmark = pytest.mark.django_db

TITLES = Update("accounts_environment", "slug", {"slug": "text", "title": "text"})
ENVIRONMENTS = Insert(
    "accounts_environment",
    {"slug": "text", "title": "text", "is_production": "boolean", "position": "integer"},
)
AT = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)
HOSTILE = "'; DROP TABLE audit_event; -- %s %(x)s \\ \" {} $1 ü 😀 \n\t\u2028"


def event(**given: Any) -> dict[str, Any]:
    return {
        "uid": uuid7(),
        "recorded_at": AT,
        "type": "agent.activated",
        "actor_kind": "system",
        "actor_id": "portal",
        "actor_label": "Chancery",
        "subject_kind": "agents.agent",
        "subject_id": "1",
        "subject_label": "tilda",
        "run_id": None,
        "request_id": "",
        "details": {},
        **given,
    }


def environment(slug: str) -> dict[str, Any]:
    return {"slug": slug, "title": slug, "is_production": False, "position": 1}


def test_nothing_to_write_is_no_statement(
    django_assert_num_queries: DjangoAssertNumQueries,
) -> None:
    with django_assert_num_queries(0):
        write(connection, [])
        write(connection, [(EVENTS, []), (TITLES, [])])


def test_every_kind_of_value_arrives_as_it_was_given() -> None:
    run_id = uuid7()
    details = {"list": [1, 2.5, None, True], "object": {"ü": HOSTILE}, "empty": {}}
    given = event(run_id=run_id, details=details, subject_label=HOSTILE)
    write(connection, [(EVENTS, [given])])
    stored = Event.objects.get(uid=given["uid"])
    assert stored.recorded_at == AT
    assert stored.run_id == run_id
    assert stored.details == details
    assert stored.subject_label == HOSTILE


def test_an_absent_value_is_null() -> None:
    write(connection, [(EVENTS, [event(run_id=None)])])
    assert Event.objects.get(run_id__isnull=True).run_id is None


def test_an_identifier_may_be_given_as_text() -> None:
    write(connection, [(EVENTS, [event(run_id="01960000-0000-7000-8000-000000000001")])])
    assert Event.objects.get().run_id == UUID("01960000-0000-7000-8000-000000000001")


def test_many_rows_of_several_tables_are_written_together(prod: Environment) -> None:
    before = Event.objects.count()
    write(
        connection,
        [
            (EVENTS, [event(subject_id=str(n)) for n in range(500)]),
            (ENVIRONMENTS, [environment(f"env-{n}") for n in range(50)]),
            (TITLES, [{"slug": "prod", "title": "New"}]),
            (EVENTS, []),
        ],
    )
    assert Event.objects.count() == before + 500
    assert len(set(Event.objects.values_list("subject_id", flat=True))) >= 500
    assert Environment.objects.filter(slug__startswith="env-").count() == 50
    assert Environment.objects.get(slug="prod").title == "New"


@pytest.mark.postgresql
def test_one_statement_writes_any_number_of_rows_and_tables(
    prod: Environment, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_num_queries(1):
        write(
            connection,
            [
                (EVENTS, [event() for _ in range(20)]),
                (ENVIRONMENTS, [environment("a"), environment("b")]),
                (TITLES, [{"slug": "prod", "title": "New"}]),
            ],
        )


def test_one_bad_row_and_nothing_is_written(prod: Environment) -> None:
    before = Event.objects.count()
    known = event()
    write(connection, [(EVENTS, [known])])
    rows = [event(), event(), event(uid=known["uid"])]
    with pytest.raises(IntegrityError), transaction.atomic():
        write(connection, [(ENVIRONMENTS, [environment("dev")]), (EVENTS, rows)])
    assert Event.objects.count() == before + 1
    assert list(Environment.objects.values_list("slug", flat=True)) == ["prod"]


def test_a_row_that_breaks_a_check_takes_the_other_tables_back(prod: Environment) -> None:
    before = Event.objects.count()
    batches: list[tuple[Write | Expanding, list[Row]]] = [
        (EVENTS, [event()]),
        (TITLES, [{"slug": "prod", "title": "New"}]),
        (ENVIRONMENTS, [environment("dev"), environment("")]),
    ]
    with pytest.raises(IntegrityError), transaction.atomic():
        write(connection, batches)
    assert Event.objects.count() == before
    assert Environment.objects.get().title == "Production"


@pytest.mark.django_db(transaction=True)
def test_without_a_callers_transaction_it_is_all_or_nothing_as_well(prod: Environment) -> None:
    before = Event.objects.count()
    batches: list[tuple[Write, list[Row]]] = [
        (TITLES, [{"slug": "prod", "title": "New"}]),
        (ENVIRONMENTS, [environment("dev"), environment("prod")]),
    ]
    with pytest.raises(IntegrityError):
        write(connection, batches)
    with pytest.raises(RecordOutsideTransaction):
        write(connection, [(ENVIRONMENTS, [environment("dev")]), (EVENTS, [event()])])
    assert Event.objects.count() == before
    assert list(Environment.objects.values_list("slug", "title")) == [("prod", "Production")]


def test_no_json_is_null_and_not_the_word_null() -> None:
    system = register_system("bank", actor=SYSTEM, title="Bank", kind=System.Kind.HTTP)
    terms = {"title": "Pay", "access": "write", "input_schema": {"type": "object"}}
    tool = define_tool(system, "pay", actor=SYSTEM, output_schema={"type": "object"}, **terms)
    schemas = Update("tools_tool", "id", {"id": "bigint", "output_schema": "jsonb"})
    for given, is_null in (({}, False), (None, True)):
        write(connection, [(schemas, [{"id": tool.pk, "output_schema": given}])])
        assert Tool.objects.filter(output_schema__isnull=True).exists() is is_null


def test_what_is_written_shares_the_callers_transaction() -> None:
    @transaction.atomic
    def taken_back() -> None:
        write(connection, [(EVENTS, [event()])])
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        taken_back()
    assert not Event.objects.exists()


def test_an_update_changes_the_rows_it_names(prod: Environment, staging: Environment) -> None:
    rows = [{"slug": "staging", "title": HOSTILE}, {"slug": "nowhere", "title": "Nothing"}]
    write(connection, [(TITLES, rows)])
    assert Environment.objects.get(slug="staging").title == HOSTILE
    assert Environment.objects.get(slug="prod").title == "Production"
    assert Environment.objects.count() == 2


def test_an_updated_row_that_breaks_a_constraint_changes_nothing(prod: Environment) -> None:
    positions = Update("accounts_environment", "slug", {"slug": "text", "position": "integer"})
    with pytest.raises(IntegrityError), transaction.atomic():
        write(connection, [(positions, [{"slug": "prod", "position": -1}])])
    assert Environment.objects.get().position == 0
