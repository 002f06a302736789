"""Every way of writing to a governed record is in the change log, or is reported."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from accounts.models import Environment, User
from agents.models import Agent, SigningKey
from agents.services import lifecycle
from approvals.models import Tier
from audit import change_capture
from audit.change_capture import ENTRIES
from audit.models import DbChange, Event
from audit.services import change_reconciliation
from audit.services.change_reconciliation import reconcile
from common import change_triggers
from common.actors import SYSTEM
from tests import factories
from tests.factories import Governed
from tests.tools.secret_system import ANYTHING
from tools.models import System, Tool
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db

NOW = timedelta(seconds=-1)


def compared() -> list[dict[str, Any]]:
    """What is reported about everything that was noticed until now."""
    before = set(Event.objects.values_list("pk", flat=True))
    number = reconcile(settle=NOW)
    reported = Event.objects.filter(type="record.bypass_detected").exclude(pk__in=before)
    found = [event.details for event in reported.order_by("id").with_values()]
    assert len(found) == number
    return found


def raw(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def group() -> Group:
    return Group.objects.create(name="some")


BYPASSES: dict[str, Callable[[System], object]] = {
    "update of a query set": lambda system: System.objects.update(title="Other"),
    "bulk_create": lambda _: Environment.objects.bulk_create([Environment(slug="x", title="X")]),
    "bulk_update": lambda system: System.objects.bulk_update([_named(system)], ["title"]),
    "raw update": lambda system: raw("UPDATE tools_system SET title = 'Raw'"),
    "raw delete": lambda _: raw("DELETE FROM accounts_environment WHERE slug = 'spare'"),
    "raw insert": lambda _: raw("INSERT INTO auth_group (name) VALUES ('raw')"),
    "_raw_delete": lambda _: Environment.objects.filter(slug="spare")._raw_delete("default"),
    "save over an existing row": lambda system: System(
        pk=system.pk, slug=system.slug, title="Over", kind=system.kind
    ).save(),
    "rows of a relation": lambda _: _permit_in_bulk(),
}


def _named(system: System) -> System:
    system.title = "Bulk"
    return system


def _permit_in_bulk() -> None:
    rows = Group.permissions.through
    rows.objects.bulk_create(
        [rows(group=Group.objects.get(name="some"), permission=Permission.objects.first())]
    )


@pytest.fixture
def system() -> System:
    Environment.objects.create(slug="spare", title="Spare")
    group()
    made = System.objects.create(slug="shop", title="Shop", kind=System.Kind.HTTP)
    assert compared() == []
    return made


@pytest.mark.parametrize("way", list(BYPASSES))
def test_what_the_change_log_does_not_see_is_reported(system: System, way: str) -> None:
    with transaction.atomic():
        BYPASSES[way](system)
    [found] = compared()
    assert found["kind"] in {"insert", "update", "delete"}
    if found["kind"] == "update":
        assert found["fields"] == ["title"]
    assert compared() == []


def test_what_the_change_log_sees_is_not(
    governed: Governed, rosa: User, tiers: dict[str, Tier]
) -> None:
    define_tool(
        governed.system, "new", actor=SYSTEM, title="N", access=Tool.Access.READ,
        idempotent=True, input_schema=ANYTHING,
    )  # fmt: skip
    some = group()
    rosa.groups.add(some)
    some.permissions.set(Permission.objects.all()[:3])
    some.permissions.clear()
    rosa.first_name = "Rosa"
    rosa.save()
    Tool.objects.filter(name="new").get().delete()
    lifecycle.suspend(governed.identity.agent_id, actor=SYSTEM, reason="A test.")
    factories.publish()
    User.objects.create_user("gone").delete()
    assert DbChange.objects.count() > 10
    assert compared() == []
    assert not DbChange.objects.exists()


def test_a_change_beside_one_that_is_logged_is_still_seen(system: System) -> None:
    with transaction.atomic():
        system.title = "Logged"
        system.save()
        System.objects.update(title="And again")
    assert [found["model"] for found in compared()] == ["tools.system"]


def test_what_changes_nothing_or_only_what_is_not_logged_is_not_noticed(
    governed: Governed, system: System
) -> None:
    compared()
    with transaction.atomic():
        System.objects.update(title=F("title"))
        Agent.objects.update(reminded_at="2026-01-01T00:00Z")
        User.objects.update(last_login="2026-01-01T00:00Z")
    assert not DbChange.objects.exists()


def test_what_was_undone_was_not_done(system: System) -> None:
    with transaction.atomic():
        System.objects.update(title="Undone")
        transaction.set_rollback(True)
    assert not DbChange.objects.exists()
    assert compared() == []


def test_what_may_not_be_over_yet_waits(system: System) -> None:
    System.objects.update(title="Just now")
    assert reconcile() == 0
    assert DbChange.objects.exists()
    assert timedelta(seconds=10) <= change_reconciliation.SETTLE
    [found] = compared()
    assert found["pk"] == str(system.pk)
    user = "" if connection.vendor == "sqlite" else connection.settings_dict["USER"]
    assert found["database_user"] == user


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_batch_that_ends_within_a_transaction_reports_nothing_of_it(
    system: System, rosa: User, limit: int
) -> None:
    some = Group.objects.get(name="some")
    with transaction.atomic():
        for number in range(3):
            system.title = f"Title {number}"
            system.save()
        rosa.groups.add(some)
        some.permissions.set(Permission.objects.all()[:3])
    while DbChange.objects.exists():
        assert reconcile(settle=NOW, limit=limit) == 0


def test_what_was_written_late_in_a_long_transaction_is_of_it_too(system: System) -> None:
    long_ago = timezone.now() - 4 * change_reconciliation.SETTLE
    with transaction.atomic():
        system.title = "Slowly"
        system.save()
    # The change was half a transaction before its entry, and the cut lies between them.
    DbChange.objects.exclude(table=ENTRIES).update(at=long_ago)
    near = long_ago + timedelta(seconds=20)
    DbChange.objects.filter(table=ENTRIES).update(at=near)
    assert reconcile(settle=timezone.now() - near + timedelta(seconds=10)) == 0
    assert compared() == []
    assert not DbChange.objects.exists()


def test_an_entry_serves_one_change_only_also_in_the_next_round(system: System) -> None:
    system.title = "Logged"
    system.save()
    assert compared() == []
    System.objects.update(title="Passed by")
    [found] = compared()
    assert found["fields"] == ["title"]


def test_an_entry_of_a_kind_that_is_gone_stops_nothing(system: System) -> None:
    DbChange.objects.create(
        at=timezone.now(), transaction="", table=ENTRIES, row="1", operation="1", columns="999999",
        database_user="",
    )  # fmt: skip
    System.objects.update(title="Passed by")
    assert len(compared()) == 1


@pytest.mark.postgresql
def test_a_table_of_a_sessions_own_takes_no_note(system: System) -> None:
    raw("CREATE TEMPORARY TABLE audit_dbchange (LIKE public.audit_dbchange INCLUDING ALL)")
    raw("SET LOCAL search_path = pg_temp, public")
    System.objects.update(title="Elsewhere")
    raw("SET LOCAL search_path = public")
    raw("DROP TABLE pg_temp.audit_dbchange")
    [found] = compared()
    assert found["fields"] == ["title"]


@pytest.mark.postgresql
def test_emptying_a_table_at_once_is_reported(system: System) -> None:
    raw("TRUNCATE auth_group CASCADE")
    found = {one["model"] for one in compared() if one["kind"] == "truncate"}
    assert "auth.group" in found


def test_an_entry_about_relations_covers_no_change_of_the_record(
    system: System, rosa: User
) -> None:
    some, other = Group.objects.get(name="some"), Group.objects.create(name="other")
    rosa.groups.add(some)
    compared()
    with transaction.atomic():
        rosa.groups.set([other])
        User.objects.filter(pk=rosa.pk).update(is_superuser=True)
    [found] = compared()
    assert (found["model"], found["fields"]) == ("accounts.user", ["is_superuser"])


@pytest.mark.parametrize("raw_entry", [True, False])
def test_an_entry_that_nothing_anchors_covers_nothing(
    system: System, rosa: User, raw_entry: bool
) -> None:
    compared()
    made = LogEntry(
        content_type=ContentType.objects.get_for_model(User), object_pk=str(rosa.pk),
        object_id=rosa.pk, object_repr="x", action=LogEntry.Action.UPDATE,
        changes={"is_superuser": ["False", "True"]}, timestamp=timezone.now(),
    )  # fmt: skip
    with transaction.atomic():
        User.objects.filter(pk=rosa.pk).update(is_superuser=True)
        if raw_entry:
            LogEntry.objects.bulk_create([made])
    [found] = compared()
    assert found["fields"] == ["is_superuser"]


def test_what_is_deleted_with_its_relations_is_said_once(system: System, rosa: User) -> None:
    some = Group.objects.get(name="some")
    some.permissions.set(Permission.objects.all()[:3])
    compared()
    some.delete()
    assert compared() == []


def test_what_is_sealed_cannot_be_exchanged_unseen(prod: Environment) -> None:
    compared()
    SigningKey.objects.update(sealed_private=b"another")
    [found] = compared()
    assert found["fields"] == ["sealed_private"]


def test_without_the_table_of_notes_nothing_writes_to_it(system: System) -> None:
    with transaction.atomic():
        connection.check_constraints()  # PostgreSQL changes no table with checks that wait
        change_triggers.remove(connection)
        raw("ALTER TABLE audit_dbchange RENAME TO gone")
        System.objects.update(title="Unnoticed")
        raw("ALTER TABLE gone RENAME TO audit_dbchange")
        change_capture.notice(None)
    compared()
    System.objects.update(title="Noticed again")
    assert len(compared()) == 1
