from typing import Any

import pytest
from auditlog.models import LogEntry
from django.db import IntegrityError, connection, transaction

from accounts.models import Environment, User
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound, ReasonRequired
from tests.factories import Governed
from tests.tools.definitions import SCHEMA, SOURCE
from tools.catalog import catalog
from tools.definitions import compile_spec
from tools.errors import InvalidToolDefinition, ToolStateUnchanged
from tools.models import Endpoint, System, Tool
from tools.services import registration
from tools.services.registration import (
    define_tool,
    register_system,
    reinstate_tool,
    set_endpoint,
    withdraw_tool,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def bank() -> System:
    return register_system("bank", actor=SYSTEM, title="Bank", kind=System.Kind.HTTP)


@pytest.fixture
def pay(bank: System) -> Tool:
    return defined(bank, "pay")


def defined(bank: System, name: str, *, actor: Actor = SYSTEM, **changes: Any) -> Tool:
    attributes: dict[str, Any] = {"title": "Pay", "access": "write", "input_schema": SCHEMA}
    return define_tool(bank, name, actor=actor, **attributes | changes)


def reader(bank: System, name: str = "read_account", **changes: Any) -> Tool:
    return defined(bank, name, **{"access": "read", "input_schema": {"type": "object"}} | changes)


def events_about(tool: Tool) -> list[str]:
    """Types of what was recorded about the tool, without the change log's own."""
    found = Event.objects.about("tools.tool", tool.pk).exclude(type__startswith="record.")
    return list(found.order_by("id").values_list("type", flat=True))


def state() -> tuple[Any, ...]:
    return (
        list(Tool.objects.values()),
        list(System.objects.values()),
        list(Endpoint.objects.values()),
        Event.objects.count(),
        LogEntry.objects.count(),
        current_mark(),
    )


def test_a_new_tool_is_recorded_with_its_digest_and_who_defined_it(
    bank: System, olga: User
) -> None:
    tool = defined(bank, "pay", actor=Actor.from_user(olga))
    event = Event.objects.get(type="tool.registered")
    assert (event.actor_kind, event.actor_label) == ("human", "olga")
    assert (event.subject_label, event.details) == ("bank.pay", {"digest": tool.definition_digest})
    entry = LogEntry.objects.get_for_object(tool).get()
    assert entry.actor == olga
    assert entry.action == LogEntry.Action.CREATE


def test_a_changed_definition_is_recorded_with_both_digests(bank: System, pay: Tool) -> None:
    changed = defined(bank, "pay", description="Pays at once.")
    assert changed.pk == pay.pk
    event = Event.objects.get(type="tool.definition_changed")
    assert event.details == {
        "digest": changed.definition_digest,
        "previous": pay.definition_digest,
    }
    assert changed.definition_digest != pay.definition_digest


def test_another_title_is_a_change_of_the_record_and_not_of_the_definition(
    bank: System, pay: Tool
) -> None:
    changed = defined(bank, "pay", title="Pay money", timeout_seconds=3)
    assert changed.definition_digest == pay.definition_digest
    assert events_about(pay) == ["tool.registered"]
    assert Tool.objects.get(pk=pay.pk).title == "Pay money"
    assert LogEntry.objects.get_for_object(pay).count() == 2


def test_defining_the_same_again_records_nothing(bank: System, pay: Tool) -> None:
    before = state()
    defined(bank, "pay")
    assert state() == before


def test_every_change_moves_the_generation(bank: System, prod: Environment) -> None:
    marks = [current_mark()]
    steps: list[Any] = [
        lambda: defined(bank, "pay"),
        lambda: defined(bank, "pay", description="Changed."),
        lambda: set_endpoint(bank, prod, actor=SYSTEM, base_url="https://bank.example.org"),
        lambda: set_endpoint(bank, prod, actor=SYSTEM, base_url="https://new.example.org"),
        lambda: withdraw_tool(Tool.objects.get().pk, actor=SYSTEM, reason="Broken."),
        lambda: reinstate_tool(Tool.objects.get().pk, actor=SYSTEM, reason="Mended."),
        lambda: register_system("bank", actor=SYSTEM, title="New", kind=System.Kind.HTTP),
    ]
    for step in steps:
        step()
        marks.append(current_mark())
    assert len(set(marks)) == len(steps) + 1


def test_the_catalog_knows_of_a_change_at_once(bank: System, prod: Environment, pay: Tool) -> None:
    assert not catalog.current().tools["bank.pay"].withdrawn
    withdraw_tool(pay.pk, actor=SYSTEM, reason="Broken.")
    assert catalog.current().tools["bank.pay"].withdrawn
    set_endpoint(bank, prod, actor=SYSTEM, base_url="https://bank.example.org")
    assert catalog.current().endpoints["bank", "prod"].base_url == "https://bank.example.org"


@pytest.mark.parametrize(
    "changes",
    [
        {"input_schema": {"type": "array"}},
        {"amount": "args.amount +"},
        {"facts": [{"name": "x", "title": "X", "expression": "args.amount"}]},
        {"claims": [{"name": "x", "title": "X", "type": "bool", "default": None}]},
        {"colour": "red"},
    ],
)
def test_a_definition_that_does_not_compile_changes_nothing(
    bank: System, pay: Tool, changes: dict[str, Any]
) -> None:
    before = state()
    for name in ("pay", "another"):
        with pytest.raises(InvalidToolDefinition):
            defined(bank, name, **changes)
    assert state() == before


@pytest.mark.parametrize(
    "changes", [{"timeout_seconds": 0}, {"timeout_seconds": 301}, {"serves_facts_only": True}]
)
def test_the_database_keeps_the_bounds_of_a_tool(
    bank: System, pay: Tool, changes: dict[str, Any]
) -> None:
    before = state()
    with pytest.raises(IntegrityError), transaction.atomic():
        defined(bank, "pay", **changes)
    assert state() == before


def test_a_source_must_exist(bank: System, pay: Tool) -> None:
    before = state()
    with pytest.raises(InvalidToolDefinition, match="read_account"):
        defined(bank, "pay", sources=[SOURCE])
    assert state() == before
    reader(bank)
    assert defined(bank, "pay", sources=[SOURCE]).sources == [SOURCE]


def test_a_source_must_be_a_read_tool(bank: System, pay: Tool) -> None:
    defined(bank, "read_account", access="write")
    before = state()
    with pytest.raises(InvalidToolDefinition, match="read_account"):
        defined(bank, "pay", sources=[SOURCE])
    assert state() == before


def test_a_source_must_be_of_the_same_system(bank: System, pay: Tool) -> None:
    other = register_system("other", actor=SYSTEM, title="Other", kind=System.Kind.HTTP)
    reader(other)
    before = state()
    with pytest.raises(InvalidToolDefinition, match="read_account"):
        defined(bank, "pay", sources=[SOURCE])
    assert state() == before


def test_withdrawing_and_reinstating_are_recorded_with_the_reason(pay: Tool, olga: User) -> None:
    actor = Actor.from_user(olga)
    assert withdraw_tool(pay.pk, actor=actor, reason=" It pays twice. ").status == "withdrawn"
    assert reinstate_tool(pay.pk, actor=actor, reason="Mended.").status == "active"
    assert events_about(pay) == ["tool.registered", "tool.withdrawn", "tool.reinstated"]
    withdrawn = Event.objects.get(type="tool.withdrawn")
    assert withdrawn.details == {"reason": "It pays twice."}
    assert withdrawn.actor_label == "olga"
    assert set(LogEntry.objects.get_for_object(pay).values_list("actor", flat=True)) == {
        None,
        olga.pk,
    }


@pytest.mark.parametrize("reason", ["", " ", "\n\t"])
def test_withdrawing_needs_a_reason(pay: Tool, reason: str) -> None:
    before = state()
    for command in (withdraw_tool, reinstate_tool):
        with pytest.raises(ReasonRequired):
            command(pay.pk, actor=SYSTEM, reason=reason)
    assert state() == before


def test_a_tool_is_withdrawn_and_reinstated_once(pay: Tool) -> None:
    for command, earlier in ((reinstate_tool, None), (withdraw_tool, withdraw_tool)):
        if earlier is not None:
            earlier(pay.pk, actor=SYSTEM, reason="Broken.")
        before = state()
        with pytest.raises(ToolStateUnchanged):
            command(pay.pk, actor=SYSTEM, reason="Again.")
        assert state() == before


@pytest.mark.parametrize("name", ["", "pay out", "pay.out", "pay/out", "päy", "x" * 101, 'x"y'])
def test_a_tools_name_is_a_slug(bank: System, pay: Tool, name: str) -> None:
    before = state()
    with pytest.raises(InvalidInput):
        defined(bank, name)
    assert state() == before


@pytest.mark.parametrize("access", ["", "admin", "READ", None])
def test_a_tool_reads_writes_or_executes(bank: System, pay: Tool, access: Any) -> None:
    before = state()
    for name in ("pay", "another"):
        with pytest.raises(InvalidInput):
            defined(bank, name, access=access)
    assert state() == before


@pytest.mark.parametrize("slug", ["", "read", "write", "execute", "a b", "bänk", "a/b", "x" * 65])
def test_a_systems_slug_is_plain_and_no_kind_of_access(bank: System, slug: str) -> None:
    before = state()
    with pytest.raises(InvalidInput):
        register_system(slug, actor=SYSTEM, title="Bank", kind=System.Kind.HTTP)
    assert state() == before


def test_a_tool_that_does_not_exist_is_not_withdrawn(pay: Tool) -> None:
    before = state()
    for command in (withdraw_tool, reinstate_tool):
        with pytest.raises(NotFound):
            command(pay.pk + 1, actor=SYSTEM, reason="Broken.")
    assert state() == before


def test_a_systems_slug_has_no_dots(bank: System) -> None:
    before = state()
    with pytest.raises(InvalidInput):
        register_system("bank.eu", actor=SYSTEM, title="Bank", kind=System.Kind.HTTP)
    assert state() == before


def test_a_system_is_in_one_place_per_environment(
    bank: System, prod: Environment, staging: Environment
) -> None:
    for url in ("https://a.example.org", "https://b.example.org"):
        set_endpoint(bank, prod, actor=SYSTEM, base_url=url)
    set_endpoint(bank, staging, actor=SYSTEM, allow_private=True)
    assert {e.environment_id: (e.base_url, e.allow_private) for e in Endpoint.objects.all()} == {
        "prod": ("https://b.example.org", False),
        "staging": ("", True),
    }


def test_a_definition_that_somebody_else_changed_meanwhile_is_compiled_again(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is compiled outside the transaction, and so never saved over what it did not see."""
    compiled: list[str] = []
    real = compile_spec

    def meanwhile(row: Any) -> Any:
        compiled.append(row["title"])
        if len(compiled) == 1:
            Tool.objects.filter(name="pay").update(description="By somebody else.")
        return real(row)

    monkeypatch.setattr(registration, "compile_spec", meanwhile)
    tool = registration.define_tool(governed.system, "pay", actor=SYSTEM, title="Pay now")
    assert compiled == ["Pay now", "Pay now"]
    tool.refresh_from_db()
    assert (tool.title, tool.description) == ("Pay now", "By somebody else.")


def test_nothing_is_compiled_while_the_generation_is_locked(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    depths: list[int] = []
    real = compile_spec

    def noting(row: Any) -> Any:
        depths.append(len(connection.savepoint_ids))
        return real(row)

    monkeypatch.setattr(registration, "compile_spec", noting)
    before = len(connection.savepoint_ids)
    registration.define_tool(governed.system, "pay", actor=SYSTEM, title="Pay now")
    assert depths == [before]
