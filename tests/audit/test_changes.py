"""Every change of a governed record is in the change log, anchored in the event log."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from auditlog.models import LogEntry
from auditlog.registry import auditlog
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models, transaction
from django.utils import timezone

from accounts.models import Environment, Groups, User
from agents.keys import opened_signing_key
from agents.models import (
    Agent,
    AgentIdentity,
    AgentKey,
    DelegationRule,
    EnrolmentCode,
    FederatedCredential,
    Finding,
    FormerPerson,
    Halt,
    PersonDelegation,
    SigningKey,
)
from agents.services.enrolment import issue_enrolment_code
from approvals.models import Tier
from audit.generation import current_mark
from audit.models import Erasure, Event, Generation
from audit.services import erasures
from common.actors import SYSTEM, Actor, acting
from common.ids import uuid7
from policies.models import (
    Elevation,
    Policy,
    PolicyRelease,
    Role,
    RoleMembership,
    SystemGroupPermission,
    ToolGroupPermission,
)
from tests import factories
from tools.models import Endpoint, Secret, SecretVersion, System, Tool
from workflows.models import Rollout, Schedule, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db

Change = Callable[[Any], None]


@dataclass
class World:
    """What the rows below refer to."""

    staging: Environment
    olga: User
    identity: AgentIdentity
    system: System
    tool: Tool
    role: Role
    group: Group
    version: WorkflowVersion

    @property
    def workflow(self) -> Workflow:
        return self.version.workflow


@pytest.fixture
def world(identity: AgentIdentity, olga: User, prod: Environment) -> World:
    staging = Environment.objects.create(slug="staging", title="Staging")
    system = System.objects.create(slug="crm", title="CRM", kind="http")
    group = Group.objects.create(name="Role: keepers")
    factories.identity("otto", owner=olga, environment=prod)
    first = version(Workflow.objects.create(slug="work", title="Work"), 1)
    first.save()
    return World(
        staging=staging,
        olga=olga,
        identity=identity,
        system=system,
        tool=Tool.objects.create(
            system=system, name="get", title="Get", access="read", input_schema={}
        ),
        role=Role.objects.create(slug="keepers", title="Keepers", group=group),
        group=group,
        version=first,
    )


def version(workflow: Workflow, number: int) -> WorkflowVersion:
    return WorkflowVersion(
        workflow=workflow,
        number=number,
        text="steps: {}",
        spec={"steps": {}},
        world={"tools": {}},
        digest="d",
        drafted_by="olga",
        drafted_by_id="1",
    )


def endpoint(w: World) -> Endpoint:
    return Endpoint.objects.create(system=w.system, environment=w.staging, base_url="https://a")


def permission(model: str, name: str) -> Permission:
    return Permission.objects.get(codename=name, content_type__model=model)


def sets(**values: Any) -> Change:
    def change(row: Any) -> None:
        for name, value in values.items():
            setattr(row, name, value)

    return change


@dataclass(frozen=True)
class Case:
    """How a row of a governed model is made and changed, and whether decisions look at it."""

    make: Callable[[World], models.Model]
    change: Change
    decides: bool = True


def release(w: World) -> PolicyRelease:
    return PolicyRelease(number=7, text="", schema={}, tools={}, digest="d", drafted_by="olga")


CASES: dict[type[models.Model], Case] = {
    User: Case(lambda w: User(username="new", password="x"), sets(first_name="New")),
    Group: Case(lambda w: Group(name="New"), sets(name="Other"), decides=False),
    Environment: Case(lambda w: Environment(slug="dev", title="Dev"), sets(title="Other")),
    Tier: Case(lambda w: Tier(slug="top", title="Top", rank=90), sets(quorum=2)),
    Agent: Case(
        lambda w: Agent(slug="a", title="A", purpose="P", owner=w.olga, sponsor=w.olga),
        sets(risk="high"),
    ),
    FormerPerson: Case(
        lambda w: FormerPerson(agent=w.identity.agent, person=w.olga, until=timezone.now()),
        sets(until=timezone.now()),
    ),
    AgentIdentity: Case(
        lambda w: AgentIdentity(
            agent=w.identity.agent, environment=w.staging, client_id="tilda.staging"
        ),
        sets(epoch=2),
    ),
    FederatedCredential: Case(
        lambda w: FederatedCredential(
            identity=w.identity, issuer="https://ci.example", subject="job", jwks=[{"kty": "EC"}]
        ),
        sets(withdrawn_at=timezone.now()),
        decides=False,
    ),
    DelegationRule: Case(
        lambda w: DelegationRule(
            subject=w.identity.agent,
            actor=Agent.objects.get(slug="otto"),
            scope="tools",
            reason="It helps.",
            made_by="olga",
        ),
        sets(max_depth=2),
    ),
    SigningKey: Case(
        lambda w: SigningKey(
            kid="k", environment=w.staging, public_jwk={"x": "y"}, sealed_private=b"sealed"
        ),
        sets(status="retiring"),
    ),
    Halt: Case(lambda w: Halt(kind="global", reason="Stop."), sets(lifted_by="olga")),
    Finding: Case(
        lambda w: Finding(
            identity=w.identity,
            rule="probing",
            response="note",
            evidence={},
            responded_at=timezone.now(),
        ),
        sets(response="ask"),
        decides=False,
    ),
    PersonDelegation: Case(
        lambda w: PersonDelegation(
            person=w.olga,
            identity=w.identity,
            scope="tools",
            code_hmac="h",
            reason="It helps.",
            ends_at=timezone.now() + timedelta(hours=1),
        ),
        sets(ended_at=timezone.now()),
    ),
    AgentKey: Case(
        lambda w: AgentKey(
            identity=w.identity, thumbprint="t", algorithm="ES256", public_jwk={"x": "y"}
        ),
        sets(status="revoked"),
        decides=False,
    ),
    EnrolmentCode: Case(
        lambda w: EnrolmentCode(identity=w.identity, code_hmac="h", expires_at=timezone.now()),
        lambda row: setattr(row, "used_at", timezone.now()),
        decides=False,
    ),
    System: Case(lambda w: System(slug="pay", title="Pay", kind="http"), sets(title="Payments")),
    Endpoint: Case(
        lambda w: Endpoint(system=w.system, environment=w.staging, base_url="https://a"),
        sets(base_url="https://b"),
    ),
    Tool: Case(
        lambda w: Tool(system=w.system, name="set", title="Set", access="write", input_schema={}),
        sets(status="withdrawn"),
    ),
    Secret: Case(
        lambda w: Secret(
            endpoint=endpoint(w), name="key", placement="header", parameter="X", origin="https://a"
        ),
        sets(withdrawn_at=timezone.now()),
    ),
    SecretVersion: Case(
        lambda w: SecretVersion(
            secret=Secret.objects.create(
                endpoint=endpoint(w), name="key", placement="basic", origin="https://a"
            ),
            number=1,
            key_id="k",
            wrapped_key="w",
            ciphertext="c",
            created_by="olga",
        ),
        sets(number=2),
        decides=False,
    ),
    Role: Case(
        lambda w: Role(slug="r", title="R", group=Group.objects.create(name="Role: r")),
        sets(title="Other"),
    ),
    RoleMembership: Case(
        lambda w: RoleMembership(role=w.role, identity=w.identity),
        lambda row: setattr(row, "identity", AgentIdentity.objects.get(agent__slug="otto")),
    ),
    SystemGroupPermission: Case(
        lambda w: SystemGroupPermission(
            group=w.group, permission=permission("system", "call_read"), content_object=w.system
        ),
        lambda row: setattr(row, "permission", permission("system", "call_write")),
    ),
    ToolGroupPermission: Case(
        lambda w: ToolGroupPermission(
            group=w.group, permission=permission("tool", "call_read"), content_object=w.tool
        ),
        lambda row: setattr(row, "permission", permission("tool", "call_write")),
    ),
    Elevation: Case(
        lambda w: Elevation(
            identity=w.identity, run_id=uuid7(), tools=["crm.get"], reason="Why.", minutes=5
        ),
        sets(minutes=6),
    ),
    Policy: Case(lambda w: Policy(slug="p", text="t"), sets(enabled=False), decides=False),
    PolicyRelease: Case(release, sets(status="rejected")),
    Workflow: Case(lambda w: Workflow(slug="new", title="New"), sets(paused=True), decides=False),
    WorkflowVersion: Case(lambda w: version(w.workflow, 2), sets(status="rejected"), decides=False),
    Rollout: Case(
        lambda w: Rollout(workflow=w.workflow, stable=w.version, candidate=w.version, share=10),
        sets(share=20),
        decides=False,
    ),
    Schedule: Case(
        lambda w: Schedule(
            slug="daily", workflow=w.workflow, identity=w.identity, cron="0 3 * * *"
        ),
        sets(paused=True),
        decides=False,
    ),
}
# The database keeps these rows: they change, and are never removed.
KEPT = (PolicyRelease, WorkflowVersion)


def by(actor: Actor, act: Callable[[], Any]) -> bool:
    """Act as a command would; whether the generation moved."""
    mark = current_mark()
    with transaction.atomic(), acting(actor):
        act()
    return current_mark() != mark


def delete(row: models.Model) -> None:
    type(row)._default_manager.filter(pk=row.pk).delete()


def changed_and_saved(case: Case, row: models.Model) -> None:
    case.change(row)
    row.save()


def everything_written() -> str:
    """All that the change log and the event log hold, as text."""
    entries = LogEntry.objects.values_list(
        "changes", "changes_text", "object_repr", "additional_data", "serialized_data"
    )
    return json.dumps([*entries]) + factories.everything_recorded()


def test_every_governed_model_is_tried_here() -> None:
    assert set(auditlog.get_models()) == set(CASES)


@pytest.mark.parametrize("model", CASES, ids=lambda model: model._meta.label_lower)
def test_every_change_has_its_entry_its_event_and_its_actor(
    world: World, clara: User, model: type[models.Model]
) -> None:
    case, actor, label = CASES[model], Actor.from_user(clara), model._meta.label_lower
    row = case.make(world)
    moved = [by(actor, row.save), by(actor, lambda: changed_and_saved(case, row))]
    pk = str(row.pk)
    actions = [LogEntry.Action.CREATE, LogEntry.Action.UPDATE]
    types = ["record.created", "record.updated"]
    if model in KEPT:
        with pytest.raises(IntegrityError), transaction.atomic():
            delete(row)
    else:
        moved.append(by(actor, lambda: delete(row)))
        actions.append(LogEntry.Action.DELETE)
        types.append("record.deleted")
    assert moved == [case.decides] * len(types)

    kind = ContentType.objects.get_for_model(model)
    entries = LogEntry.objects.filter(content_type=kind, object_pk=pk).order_by("id")
    assert [entry.action for entry in entries] == actions
    assert {entry.actor_id for entry in entries} == {clara.pk}
    events = Event.objects.about(label, pk).order_by("id")
    assert [event.type for event in events] == types
    assert {(event.actor_kind, event.actor_label) for event in events} == {("human", "clara")}
    assert [event.details["entry"] for event in events] == [entry.pk for entry in entries]
    assert [event.details["changes"] for event in events] == [sorted(e.changes) for e in entries]
    assert len(entries[1].changes) == 1


def test_agents_and_the_portal_are_named_though_they_are_no_users(prod: Environment) -> None:
    tilda = Actor("agent", "tilda.prod", "tilda.prod")
    by(tilda, lambda: Policy.objects.create(slug="first", text="t"))
    by(SYSTEM, lambda: Policy.objects.create(slug="second", text="t"))
    by_agent, by_portal = LogEntry.objects.get_for_model(Policy).order_by("id")
    assert (by_agent.actor_id, by_portal.actor_id) == (None, None)
    assert by_agent.additional_data == {
        "actor": "agent",
        "id": "tilda.prod",
        "label": "tilda.prod",
    }
    assert by_portal.additional_data == {"actor": "system", "id": "portal", "label": "Chancery"}
    kinds = Event.objects.filter(type="record.created", subject_kind="policies.policy")
    assert list(kinds.order_by("id").values_list("actor_kind", flat=True)) == ["agent", "system"]


def test_a_save_that_changes_nothing_is_no_change(prod: Environment) -> None:
    before = Event.objects.count()
    assert not by(SYSTEM, prod.save)
    assert Event.objects.count() == before


def test_the_hash_of_a_password_is_nowhere_to_be_read(olga: User) -> None:
    hashes = [olga.password]
    olga.set_password("another password")
    by(SYSTEM, olga.save)
    hashes.append(olga.password)
    changes = LogEntry.objects.get_for_object(olga).latest("id").changes
    assert changes == {"password": ["(hidden)", "(hidden)"]}
    guest = factories.person("guest")
    hashes.append(guest.password)
    by(SYSTEM, guest.delete)
    written = everything_written()
    assert "(hidden)" in written
    for value in hashes:
        _, salt, digest = value.rsplit("$", 2)
        assert salt not in written
        assert digest[-8:] not in written


def test_an_enrolment_code_is_nowhere_to_be_read(identity: AgentIdentity) -> None:
    code = issue_enrolment_code(identity.pk, actor=SYSTEM)
    row = EnrolmentCode.objects.get()
    row.used_at = timezone.now()
    by(SYSTEM, row.save)
    by(SYSTEM, lambda: delete(row))
    changes = LogEntry.objects.get_for_model(EnrolmentCode).earliest("id").changes
    assert changes["code_hmac"][1] == "(hidden)"
    written = everything_written()
    assert code not in written
    assert row.code_hmac[:8] not in written
    assert row.code_hmac[-8:] not in written


def test_a_private_key_is_nowhere_to_be_read(prod: Environment) -> None:
    row = SigningKey.objects.get()
    sealed = bytes(row.sealed_private)
    row.sealed_private = b"another"
    by(SYSTEM, row.save)
    by(SYSTEM, lambda: delete(row))
    assert "sealed_private" not in json.dumps(
        list(LogEntry.objects.get_for_model(SigningKey).values_list("changes", flat=True))
    )
    private = opened_signing_key("prod", row.kid, sealed).as_dict(private=True)["d"]
    written = everything_written()
    assert row.kid in written
    assert str(private) not in written
    for form in (sealed.hex(), repr(sealed)[2:20], repr(b"another")):
        assert form not in written


def test_what_a_schedule_starts_with_is_nowhere_to_be_read(world: World) -> None:
    row = Schedule(slug="daily", workflow=world.workflow, identity=world.identity, cron="0 3 * * *")
    for value in ("first-secret", "second-secret"):
        row.inputs = {"account": value}
        by(SYSTEM, row.save)
    changes = LogEntry.objects.get_for_object(row).latest("id").changes
    assert changes == {"inputs": ["(hidden)", "(hidden)"]}
    by(SYSTEM, lambda: delete(row))
    assert "-secret" not in everything_written()


def test_what_is_frozen_is_not_changed_and_leaves_no_entry(world: World) -> None:
    frozen = {
        "workflow": Workflow.objects.create(slug="other", title="Other"),
        "number": 9,
        "text": "changed",
        "spec": {},
        "world": {},
        "digest": "changed",
        "drafted_by": "clara",
        "drafted_by_id": "2",
    }
    entries, events = LogEntry.objects.count(), Event.objects.count()
    for field, value in frozen.items():
        before = getattr(world.version, field)
        setattr(world.version, field, value)
        with pytest.raises(IntegrityError):
            by(SYSTEM, world.version.save)
        world.version.refresh_from_db()
        assert getattr(world.version, field) == before
    assert (LogEntry.objects.count(), Event.objects.count()) == (entries, events)


def test_who_joins_and_leaves_a_group_is_recorded(clara: User, sam: User) -> None:
    managers, _ = Group.objects.get_or_create(name=Groups.MANAGERS)
    actor = Actor.from_user(clara)
    assert by(actor, lambda: sam.groups.add(managers))
    assert by(actor, lambda: sam.groups.set([]))
    events = Event.objects.about("accounts.user", sam.pk).filter(type="record.related_changed")
    assert [event.details["changes"] for event in events.order_by("id")] == [["groups"]] * 2
    entries = LogEntry.objects.get_for_object(sam).order_by("id")
    assert [entry.changes["groups"] for entry in list(entries)[-2:]] == [
        {"type": "m2m", "operation": "add", "objects": [Groups.MANAGERS]},
        {"type": "m2m", "operation": "delete", "objects": [Groups.MANAGERS]},
    ]
    assert {event.actor_label for event in events} == {"clara"}
    assert LogEntry.objects.get_for_object(sam).latest("id").actor_id == clara.pk


def test_a_persons_own_permissions_are_recorded(sam: User) -> None:
    by(SYSTEM, lambda: sam.user_permissions.add(permission("event", "view_event")))
    event = Event.objects.about("accounts.user", sam.pk).latest("id")
    assert event.type == "record.related_changed"
    assert list(event.details["changes"]) == ["user_permissions"]


def test_who_decides_in_a_tier_is_recorded(tiers: dict[str, Tier]) -> None:
    compliance = Group.objects.get(name=Groups.COMPLIANCE)
    assert by(SYSTEM, lambda: tiers["dual"].groups.add(compliance))
    event = Event.objects.about("approvals.tier", "dual").latest("id")
    assert event.details["changes"] == ["groups"]
    assert LogEntry.objects.get_for_object(tiers["dual"]).latest("id").changes == {
        "groups": {"type": "m2m", "operation": "add", "objects": [Groups.COMPLIANCE]}
    }


def test_the_generation_counts_up_and_never_returns_to_a_mark(prod: Environment) -> None:
    marks = [current_mark()]
    number = Generation.objects.get().number
    for title in ("One", "Two", "Three"):
        prod.title = title
        by(SYSTEM, prod.save)
        marks.append(current_mark())
    assert Generation.objects.get().number == number + 3
    assert len(set(marks)) == 4


def test_a_change_that_is_rolled_back_leaves_no_trace(prod: Environment) -> None:
    entries, events, mark = LogEntry.objects.count(), Event.objects.count(), current_mark()

    def renamed_and_failed() -> None:
        prod.title = "Other"
        prod.save()
        raise RuntimeError

    with pytest.raises(RuntimeError):
        by(SYSTEM, renamed_and_failed)
    assert (LogEntry.objects.count(), Event.objects.count()) == (entries, events)
    assert current_mark() == mark


def test_what_a_group_may_do_is_recorded(prod: Environment) -> None:
    auditors, _ = Group.objects.get_or_create(name=Groups.AUDITORS)
    by(SYSTEM, lambda: auditors.permissions.add(permission("event", "view_event")))
    event = Event.objects.about("auth.group", auditors.pk).latest("id")
    assert (event.type, event.details["changes"]) == ("record.related_changed", ["permissions"])


def test_an_event_holds_no_personal_value(clara: User, sam: User) -> None:
    sam.email, sam.first_name = "sam.private@example.org", "Samuel"
    by(Actor.from_user(clara), sam.save)
    event = Event.objects.about("accounts.user", sam.pk).latest("id")
    assert event.details["changes"] == ["email", "first_name"]
    assert "private" not in str(event.details)
    assert event.subject_label == f"accounts.user {sam.pk}"


def test_the_change_log_cannot_be_emptied_or_rewritten(admin_user: User) -> None:
    entry = LogEntry.objects.latest("id")
    for statement in (
        "DELETE FROM auditlog_logentry",
        "UPDATE auditlog_logentry SET object_pk = '99'",
        "UPDATE auditlog_logentry SET changes = '{\"title\": [1, 2]}'",
        "UPDATE auditlog_logentry SET object_repr = 'somebody else'",
        'UPDATE auditlog_logentry SET additional_data = \'{"label": "somebody else"}\'',
    ):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    with pytest.raises(CommandError, match="is kept"):
        call_command("auditlogflush", "--yes")
    assert LogEntry.objects.get(pk=entry.pk).changes == entry.changes


def test_a_person_with_a_history_is_not_deleted(rosa: User, as_actor: Any) -> None:
    with acting(Actor.from_user(rosa)):
        Group.objects.create(name="made by rosa")
    with pytest.raises(IntegrityError), transaction.atomic():
        rosa.delete()
    assert User.objects.filter(pk=rosa.pk).exists()


def test_an_erasure_of_a_person_empties_the_change_log_of_them(rosa: User, olga: User) -> None:
    rosa.first_name, rosa.email = "Rosalinde", "rosalinde@example.org"
    rosa.save()
    with acting(Actor.from_user(rosa)):
        Group.objects.create(name="made by rosa")
    by_rosa = LogEntry.objects.get(additional_data__id=str(rosa.pk))
    asked = erasures.ask(
        Erasure.About.PERSON,
        str(rosa.pk),
        actor=Actor.from_user(olga),
        basis="objection",
        purpose="She left.",
    )
    boss = User.objects.create_user("boss")
    erasures.decide_erasure(asked.pk, actor=Actor.from_user(boss), approve=True, reason="Yes.")
    said = str(list(LogEntry.objects.values()))
    assert "osalinde" not in said
    entry = LogEntry.objects.get(pk=by_rosa.pk)
    assert (entry.actor_id, entry.additional_data) == (rosa.pk, {})
    assert entry.changes != {}
