"""What a role has been granted, and from when to when."""

from collections.abc import Callable
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType

from accounts.models import Environment, User
from agents.models import AgentIdentity
from agents.services import lifecycle
from approvals.models import Tier
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM, Actor
from policies.models import Role, RoleMembership, SystemGroupPermission, ToolGroupPermission
from policies.services import grants
from tests import factories
from tests.factories import Governed
from tests.toolbox import TOOLS, ToolboxSystem
from tools.models import Tool
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db

CALLS: dict[str, tuple[str, dict[str, Any]]] = {
    "read": ("toolbox.read_account", {"id": "a"}),
    "write": ("toolbox.pay", {"account": "a", "amount": 1}),
    "execute": ("toolbox.mail", {"to": "x"}),
}


@pytest.fixture
def ungranted(identity: AgentIdentity, tiers: dict[str, Tier], toolbox: ToolboxSystem) -> Governed:
    """Tilda as a keeper, with a live policy and no grant."""
    system = factories.toolbox_system(identity.environment)
    role = grants.create_role("keepers", actor=SYSTEM, title="Keepers")
    grants.add_member(role, identity, actor=SYSTEM)
    factories.publish()
    return Governed(identity, system, role, toolbox)


def permitted(governed: Governed) -> set[str]:
    """The kinds of access with which a call is allowed now."""
    found = set()
    for access, (tool, arguments) in CALLS.items():
        action = governed.propose(governed.run(), tool, arguments).action
        if action.outcome == "allowed":
            found.add(access)
        else:
            assert [reason["rule"] for reason in action.reasons] == ["chancery:no-grant"]
    return found


def changes_of(model: Any) -> list[str]:
    """What the change log says was done to rows of the model, oldest first."""
    kind = ContentType.objects.get_for_model(model)
    names = dict(LogEntry.Action.choices)
    actions = LogEntry.objects.filter(content_type=kind).order_by("id")
    return [str(names[action]) for action in actions.values_list("action", flat=True)]


def test_without_a_grant_nothing_is_allowed(ungranted: Governed) -> None:
    assert permitted(ungranted) == set()
    assert ungranted.toolbox.effects == []
    assert ungranted.toolbox.calls == []


def test_reading_writing_and_executing_are_granted_one_by_one(ungranted: Governed) -> None:
    for access in Tool.Access:
        grants.grant(ungranted.role, ungranted.system, access, actor=SYSTEM)
        assert permitted(ungranted) == {access.value}
        grants.revoke(ungranted.role, ungranted.system, access, actor=SYSTEM)
    assert permitted(ungranted) == set()


def test_a_grant_on_a_tool_is_not_one_on_its_system(ungranted: Governed) -> None:
    lend = {**TOOLS["pay"], "title": "Lend"}
    define_tool(ungranted.system, "lend", actor=SYSTEM, **lend)
    factories.publish()
    run, arguments = ungranted.run(), {"account": "a", "amount": 1}

    def outcomes() -> list[str]:
        tools = ("toolbox.pay", "toolbox.lend")
        return [ungranted.propose(run, tool, arguments).action.outcome for tool in tools]

    grants.grant(ungranted.role, ungranted.tool("pay"), Tool.Access.WRITE, actor=SYSTEM)
    assert outcomes() == ["allowed", "denied"]
    grants.grant(ungranted.role, ungranted.system, Tool.Access.WRITE, actor=SYSTEM)
    assert outcomes() == ["allowed", "allowed"]
    grants.revoke(ungranted.role, ungranted.tool("pay"), Tool.Access.WRITE, actor=SYSTEM)
    assert outcomes() == ["allowed", "allowed"]


def test_a_grant_of_another_access_on_the_very_tool_is_no_grant(ungranted: Governed) -> None:
    for access in (Tool.Access.READ, Tool.Access.EXECUTE):
        grants.grant(ungranted.role, ungranted.tool("pay"), access, actor=SYSTEM)
    assert permitted(ungranted) == set()


def test_a_grant_is_no_permit(ungranted: Governed) -> None:
    grants.grant(ungranted.role, ungranted.tool("pay"), Tool.Access.WRITE, actor=SYSTEM)
    closed = '@id("closed") @reason("Closed.") forbid(principal, action, resource);'
    factories.publish(closed=closed)
    assert ungranted.pay(ungranted.run()).action.reasons[0]["rule"] == "closed"


def test_a_revoked_grant_ends_with_the_next_decision(governed: Governed) -> None:
    run = governed.run()
    assert governed.pay(run).action.outcome == "allowed"
    grants.revoke(governed.role, governed.system, Tool.Access.WRITE, actor=SYSTEM)
    action = governed.pay(run).action
    assert action.outcome == "denied"
    assert [reason["rule"] for reason in action.reasons] == ["chancery:no-grant"]
    assert len(governed.toolbox.effects) == 1
    grants.grant(governed.role, governed.system, Tool.Access.WRITE, actor=SYSTEM)
    assert governed.pay(run).action.outcome == "allowed"


def test_who_leaves_a_role_loses_its_grants_with_the_next_decision(governed: Governed) -> None:
    run = governed.run()
    grants.remove_member(governed.role, governed.identity, actor=SYSTEM)
    assert governed.pay(run).action.outcome == "denied"
    grants.add_member(governed.role, governed.identity, actor=SYSTEM)
    assert governed.pay(run).action.outcome == "allowed"
    assert len(governed.toolbox.effects) == 1


def test_a_role_is_held_in_one_environment_at_a_time(
    governed: Governed, staging: Environment
) -> None:
    elsewhere = lifecycle.create_identity(
        governed.identity.agent_id, actor=SYSTEM, environment=staging
    )
    there = Governed(elsewhere, governed.system, governed.role, governed.toolbox)
    assert permitted(there) == set()
    assert governed.toolbox.effects == []
    assert permitted(governed) == {"read", "write", "execute"}


def test_another_agent_has_its_own_roles(governed: Governed, olga: User, prod: Environment) -> None:
    other = factories.identity("otto", owner=olga, environment=prod)
    role = grants.create_role("others", actor=SYSTEM, title="Others")
    grants.add_member(role, other, actor=SYSTEM)
    grants.grant(role, governed.tool("read_account"), Tool.Access.READ, actor=SYSTEM)
    otto = Governed(other, governed.system, role, governed.toolbox)
    for tool, arguments in (CALLS["write"], CALLS["execute"]):
        action = otto.propose(otto.run(), tool, arguments).action
        assert action.reasons[0]["rule"] == "chancery:no-grant"
    action = otto.propose(otto.run(), *CALLS["read"]).action
    assert action.reasons[0]["rule"] == "chancery:no-permit"
    assert governed.toolbox.effects == []


def test_a_grant_by_one_of_several_roles_is_enough(ungranted: Governed) -> None:
    second = grants.create_role("payers", actor=SYSTEM, title="Payers")
    grants.add_member(second, ungranted.identity, actor=SYSTEM)
    grants.grant(second, ungranted.tool("pay"), Tool.Access.WRITE, actor=SYSTEM)
    assert permitted(ungranted) == {"write"}


def test_a_role_is_made_once(ungranted: Governed) -> None:
    again = grants.create_role("keepers", actor=SYSTEM, title="Other title")
    assert again == ungranted.role
    assert again.title == "Keepers"
    assert Role.objects.count() == 1


def test_granting_and_joining_twice_is_granting_and_joining_once(governed: Governed) -> None:
    grants.grant(governed.role, governed.system, Tool.Access.WRITE, actor=SYSTEM)
    grants.add_member(governed.role, governed.identity, actor=SYSTEM)
    assert SystemGroupPermission.objects.count() == 3
    assert RoleMembership.objects.count() == 1
    assert Event.objects.filter(type="role.member_added").count() == 1
    grants.revoke(governed.role, governed.system, Tool.Access.WRITE, actor=SYSTEM)
    assert SystemGroupPermission.objects.count() == 2


def test_who_is_not_a_member_cannot_leave(ungranted: Governed, olga: User) -> None:
    other = factories.identity("otto", owner=olga, environment=ungranted.identity.environment)
    mark = current_mark()
    grants.remove_member(ungranted.role, other, actor=SYSTEM)
    assert RoleMembership.objects.count() == 1
    assert not Event.objects.filter(type="role.member_removed").exists()
    assert current_mark() == mark


Change = Callable[[Governed, Actor], None]
CHANGES: list[tuple[str, str, Any, Change, dict[str, str]]] = [
    (
        "access.granted",
        "create",
        ToolGroupPermission,
        lambda g, actor: grants.grant(g.role, g.tool("pay"), Tool.Access.WRITE, actor=actor),
        {"role": "keepers", "on": "toolbox.pay", "access": "write"},
    ),
    (
        "access.revoked",
        "delete",
        SystemGroupPermission,
        lambda g, actor: grants.revoke(g.role, g.system, Tool.Access.READ, actor=actor),
        {"role": "keepers", "on": "toolbox", "access": "read"},
    ),
    (
        "role.member_removed",
        "delete",
        RoleMembership,
        lambda g, actor: grants.remove_member(g.role, g.identity, actor=actor),
        {"role": "keepers", "identity": "tilda.prod"},
    ),
    (
        "role.member_added",
        "create",
        RoleMembership,
        lambda g, actor: grants.add_member(
            grants.create_role("second", actor=actor, title="Second"), g.identity, actor=actor
        ),
        {"role": "second", "identity": "tilda.prod"},
    ),
]


def test_each_change_of_access_is_recorded_and_moves_the_generation(
    governed: Governed, clara: User
) -> None:
    for event_type, change, model, act, details in CHANGES:
        before, mark = changes_of(model), current_mark()
        act(governed, Actor.from_user(clara))
        assert changes_of(model) == [*before, change]
        entry = LogEntry.objects.get_for_model(model).order_by("-id")[0]
        assert entry.actor_id == clara.pk
        event = Event.objects.filter(type=event_type).latest("id")
        assert (event.details, event.actor_label) == (details, "clara")
        assert current_mark() != mark
