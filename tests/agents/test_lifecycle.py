from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from auditlog.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from accounts.models import Environment, Groups, User
from agents.errors import InvalidLifecycleTransition, NoActiveSponsor, NotResponsibleForAgent
from agents.models import Agent, AgentIdentity, AgentKey, EnrolmentCode
from agents.services import lifecycle
from agents.services.enrolment import issue_enrolment_code, revoke_key
from agents.services.signing_keys import ensure_signing_key
from approvals.models import Tier
from audit.generation import current_mark
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound, ReasonRequired
from tests import factories
from tests.agents.runtimes import all_at_once, enrolled

pytestmark = pytest.mark.django_db

Step = Callable[..., Any]
AGENT_STEPS: list[Step] = [lifecycle.activate, lifecycle.suspend, lifecycle.retire]
IDENTITY_STEPS: list[Step] = [lifecycle.suspend_identity, lifecycle.resume_identity]


@pytest.fixture
def agent(olga: User) -> Agent:
    """Tilda in draft, without an identity."""
    return registered("tilda", olga)


@pytest.fixture
def by_olga(olga: User) -> Actor:
    return Actor.from_user(olga)


def registered(slug: str, owner: User, *, actor: Actor = SYSTEM, **given: Any) -> Agent:
    terms: dict[str, Any] = {
        "title": "Tilda",
        "purpose": "Be tested.",
        "owner": owner,
        "sponsor": owner,
    }
    return lifecycle.register_agent(slug, actor=actor, **terms | given)


def go(step: Step, subject: models.Model, *, actor: Actor = SYSTEM, reason: str = "So.") -> Any:
    return step(subject.pk, actor=actor, reason=reason)


def state() -> tuple[Any, ...]:
    return (
        list(Agent.objects.values()),
        list(AgentIdentity.objects.values()),
        list(AgentKey.objects.values()),
        list(EnrolmentCode.objects.values()),
        Event.objects.count(),
        LogEntry.objects.count(),
        current_mark(),
    )


def assert_recorded(kind: str, subject: models.Model, *, by: Actor, **details: str) -> None:
    """One event of that kind, and the change log's entries since, are by this actor."""
    event = Event.objects.get(type=kind)
    assert (event.actor_kind, event.actor_id, event.actor_label) == (by.kind, by.id, by.label)
    assert (event.subject_kind, event.subject_id) == (subject._meta.label_lower, str(subject.pk))
    assert event.details == details
    entries = LogEntry.objects.get_for_object(subject).filter(actor_id=int(by.id))
    assert entries.exists()
    named = {"actor": by.kind, "id": by.id, "label": by.label}
    assert all(entry.additional_data == named for entry in entries)


def test_an_agent_is_registered_in_draft(olga: User, sam: User, by_olga: Actor) -> None:
    agent = registered("tilda", olga, actor=by_olga, sponsor=sam, risk=Agent.Risk.HIGH)
    agent.refresh_from_db()
    assert (agent.status, agent.risk) == ("draft", "high")
    assert (agent.owner, agent.sponsor) == (olga, sam)
    assert_recorded("agent.registered", agent, by=by_olga, owner="olga", sponsor="sam")


def test_a_slug_that_is_none_is_refused(olga: User) -> None:
    before = state()
    for slug in ("", "Two Words", "a.b", "tilda/prod", "x" * 65, 'x"y'):
        with pytest.raises((InvalidInput, ValidationError)):
            registered(slug, olga)
    assert state() == before


def test_a_slug_is_given_once(agent: Agent, olga: User) -> None:
    before = state()
    with pytest.raises(InvalidInput, match="tilda"):
        registered("tilda", olga)
    assert state() == before


def test_the_database_wants_a_purpose(agent: Agent) -> None:
    agent.purpose = ""
    with pytest.raises(IntegrityError), transaction.atomic():
        agent.save()
    assert Agent.objects.get().purpose == "Be tested."


def test_an_agent_gets_one_identity_per_environment(
    agent: Agent, prod: Environment, staging: Environment, by_olga: Actor
) -> None:
    identity = lifecycle.create_identity(agent.pk, actor=by_olga, environment=prod)
    assert (identity.client_id, identity.status, identity.epoch) == ("tilda.prod", "pending", 1)
    assert_recorded("identity.created", identity, by=by_olga, environment="prod")
    before = state()
    with pytest.raises(InvalidInput, match="prod"):
        lifecycle.create_identity(agent.pk, actor=by_olga, environment=prod)
    assert state() == before
    lifecycle.create_identity(agent.pk, actor=by_olga, environment=staging)
    assert agent.identities.count() == 2


@pytest.mark.parametrize(
    ("path", "step", "status", "event"),
    [
        ([], lifecycle.activate, "active", "agent.activated"),
        ([lifecycle.activate], lifecycle.suspend, "suspended", "agent.suspended"),
        ([], lifecycle.retire, "retired", "agent.retired"),
        ([lifecycle.activate], lifecycle.retire, "retired", "agent.retired"),
        ([lifecycle.activate, lifecycle.suspend], lifecycle.retire, "retired", "agent.retired"),
    ],
)
def test_each_step_is_taken_and_recorded(
    agent: Agent, by_olga: Actor, path: list[Step], step: Step, status: str, event: str
) -> None:
    for earlier in path:
        go(earlier, agent)
    mark = current_mark()
    assert go(step, agent, actor=by_olga, reason=" Because. ").status == status
    assert Agent.objects.get().status == status
    assert_recorded(event, agent, by=by_olga, reason="Because.")
    assert current_mark() != mark


def test_a_suspended_agent_may_be_activated_again(agent: Agent) -> None:
    for step in (lifecycle.activate, lifecycle.suspend, lifecycle.activate):
        go(step, agent)
    assert Agent.objects.get().status == "active"
    assert Event.objects.filter(type="agent.activated").count() == 2


@pytest.mark.parametrize(
    ("path", "step"),
    [
        ([], lifecycle.suspend),
        ([lifecycle.activate], lifecycle.activate),
        ([lifecycle.activate, lifecycle.suspend], lifecycle.suspend),
        ([lifecycle.retire], lifecycle.activate),
        ([lifecycle.retire], lifecycle.suspend),
        ([lifecycle.retire], lifecycle.retire),
    ],
)
def test_a_step_out_of_order_is_refused(agent: Agent, path: list[Step], step: Step) -> None:
    for earlier in path:
        go(earlier, agent)
    before = state()
    with pytest.raises(InvalidLifecycleTransition):
        go(step, agent)
    assert state() == before


def test_a_retired_agent_gets_no_identity(agent: Agent, prod: Environment) -> None:
    go(lifecycle.retire, agent)
    before = state()
    with pytest.raises(InvalidLifecycleTransition):
        lifecycle.create_identity(agent.pk, actor=SYSTEM, environment=prod)
    assert state() == before


def test_without_an_active_sponsor_an_agent_is_not_activated(agent: Agent, olga: User) -> None:
    olga.is_active = False
    olga.save()
    before = state()
    with pytest.raises(NoActiveSponsor):
        go(lifecycle.activate, agent)
    assert state() == before


@pytest.mark.parametrize("step", AGENT_STEPS + IDENTITY_STEPS)
def test_each_step_needs_a_reason(identity: AgentIdentity, step: Step) -> None:
    before = state()
    for reason in ("", "  ", "\n"):
        with pytest.raises(ReasonRequired):
            step(identity.pk, actor=SYSTEM, reason=reason)
    assert state() == before


@pytest.mark.parametrize("step", AGENT_STEPS + IDENTITY_STEPS)
def test_what_does_not_exist_is_not_found(identity: AgentIdentity, step: Step) -> None:
    before = state()
    with pytest.raises(NotFound):
        step(identity.pk + 1_000, actor=SYSTEM, reason="So.")
    assert state() == before


def test_an_agent_that_does_not_exist_gets_no_identity(agent: Agent, prod: Environment) -> None:
    with pytest.raises(NotFound):
        lifecycle.create_identity(agent.pk + 1, actor=SYSTEM, environment=prod)
    assert not AgentIdentity.objects.exists()


@pytest.mark.parametrize("step", [lifecycle.suspend, lifecycle.retire])
def test_stopping_an_agent_raises_the_epoch_of_every_identity(
    identity: AgentIdentity, staging: Environment, by_olga: Actor, step: Step
) -> None:
    twin = lifecycle.create_identity(identity.agent_id, actor=SYSTEM, environment=staging)
    go(step, identity.agent, actor=by_olga)
    for one in (identity, twin):
        one.refresh_from_db()
        assert one.epoch == 2
        assert LogEntry.objects.get_for_object(one).filter(actor_id=int(by_olga.id)).exists()


def test_an_identity_is_suspended_by_itself(
    identity: AgentIdentity, staging: Environment, by_olga: Actor
) -> None:
    twin = lifecycle.create_identity(identity.agent_id, actor=SYSTEM, environment=staging)
    mark = current_mark()
    suspended = go(lifecycle.suspend_identity, identity, actor=by_olga, reason="Odd calls.")
    assert (suspended.status, suspended.epoch) == ("suspended", 2)
    assert_recorded("identity.suspended", identity, by=by_olga, reason="Odd calls.")
    assert current_mark() != mark
    twin.refresh_from_db()
    assert (twin.status, twin.epoch) == ("active", 1)


def test_an_identity_is_resumed_in_its_new_epoch(identity: AgentIdentity, by_olga: Actor) -> None:
    Environment.objects.update(is_production=False)
    go(lifecycle.suspend_identity, identity)
    mark = current_mark()
    resumed = go(lifecycle.resume_identity, identity, actor=by_olga, reason="Explained.")
    assert (resumed.status, resumed.epoch) == ("active", 2)
    assert_recorded("identity.resumed", identity, by=by_olga, reason="Explained.")
    assert current_mark() != mark


def test_an_identity_is_not_suspended_or_resumed_twice(identity: AgentIdentity) -> None:
    before = state()
    with pytest.raises(InvalidLifecycleTransition):
        go(lifecycle.resume_identity, identity)
    assert state() == before
    go(lifecycle.suspend_identity, identity)
    before = state()
    with pytest.raises(InvalidLifecycleTransition):
        go(lifecycle.suspend_identity, identity)
    assert state() == before


@pytest.fixture
def otto(db: Any) -> User:
    """Otto owns agents, but not Tilda."""
    return factories.person("otto", Groups.AGENT_OWNERS, Groups.MANAGERS)


Deed = Callable[[AgentIdentity, Actor], Any]


def _key_revoked(identity: AgentIdentity, actor: Actor) -> Any:
    return revoke_key(identity.keys.get().pk, actor=actor, reason="So.")


def _identity_added(identity: AgentIdentity, actor: Actor) -> Any:
    staging = Environment.objects.get(slug="staging")
    return lifecycle.create_identity(identity.agent_id, actor=actor, environment=staging)


# In an order in which one after the other succeeds for who may.
DEEDS: dict[str, Deed] = {
    "issue a code": lambda i, actor: issue_enrolment_code(i.pk, actor=actor),
    "add an identity": _identity_added,
    "revoke a key": _key_revoked,
    "suspend the identity": lambda i, actor: go(lifecycle.suspend_identity, i, actor=actor),
    "resume the identity": lambda i, actor: go(lifecycle.resume_identity, i, actor=actor),
    "suspend": lambda i, actor: go(lifecycle.suspend, i.agent, actor=actor),
    "activate": lambda i, actor: go(lifecycle.activate, i.agent, actor=actor),
    "retire": lambda i, actor: go(lifecycle.retire, i.agent, actor=actor),
}


@pytest.fixture
def tilda(identity: AgentIdentity, staging: Environment, tiers: dict[str, Tier]) -> AgentIdentity:
    """Tilda in production, with a key."""
    enrolled(identity)
    return identity


def assert_may_do_nothing(identity: AgentIdentity, actor: Actor) -> None:
    for what, deed in DEEDS.items():
        before = state()
        with pytest.raises(NotResponsibleForAgent):
            deed(identity, actor)
        assert state() == before, what


@pytest.mark.parametrize("status", Agent.Status.values)
def test_somebody_elses_agent_is_left_alone(tilda: AgentIdentity, otto: User, status: str) -> None:
    Agent.objects.update(status=status)
    assert_may_do_nothing(tilda, Actor.from_user(otto))


def test_a_person_who_does_not_exist_answers_for_nothing(tilda: AgentIdentity) -> None:
    assert_may_do_nothing(tilda, Actor("human", "1000000", "olga"))


@pytest.mark.parametrize("who", ["tilda.prod", "guard.prod"])
def test_an_agent_manages_no_agent_and_not_itself(tilda: AgentIdentity, who: str) -> None:
    assert_may_do_nothing(tilda, Actor("agent", who, who))


def test_an_agent_whose_name_is_its_owners_number_manages_nothing(
    tilda: AgentIdentity, olga: User
) -> None:
    assert_may_do_nothing(tilda, Actor("agent", str(olga.pk), "olga"))


def assert_may_do_everything(identity: AgentIdentity, actor: Actor) -> None:
    for deed in DEEDS.values():
        deed(identity, actor)
    assert Agent.objects.get().status == "retired"


def test_the_owner_may_manage_an_agent(tilda: AgentIdentity, olga: User) -> None:
    assert_may_do_everything(tilda, Actor.from_user(olga))


def test_the_portal_may_manage_an_agent(tilda: AgentIdentity) -> None:
    assert_may_do_everything(tilda, SYSTEM)


def test_the_sponsor_may_manage_an_agent(tilda: AgentIdentity, sam: User) -> None:
    Agent.objects.update(sponsor=sam)
    assert_may_do_everything(tilda, Actor.from_user(sam))


def test_whoever_manages_every_agent_may_manage_this_one(tilda: AgentIdentity, otto: User) -> None:
    otto.user_permissions.add(Permission.objects.get(codename="manage_every_agent"))
    assert_may_do_everything(tilda, Actor.from_user(otto))


def test_nobody_registers_an_agent_for_somebody_else(olga: User, otto: User) -> None:
    before = state()
    for actor in (Actor.from_user(otto), Actor("agent", "guard.prod", "guard.prod")):
        with pytest.raises(NotResponsibleForAgent):
            registered("tilda", olga, actor=actor)
    assert state() == before


def test_a_retired_agents_identity_is_not_resumed(identity: AgentIdentity) -> None:
    go(lifecycle.suspend_identity, identity)
    go(lifecycle.retire, identity.agent)
    before = state()
    with pytest.raises(InvalidLifecycleTransition):
        go(lifecycle.resume_identity, identity)
    assert state() == before


def test_the_database_keeps_epochs_and_environments_apart(identity: AgentIdentity) -> None:
    identity.epoch = 0
    with pytest.raises(IntegrityError), transaction.atomic():
        identity.save()
    with pytest.raises(IntegrityError), transaction.atomic():
        AgentIdentity.objects.create(
            agent=identity.agent, environment=identity.environment, client_id="another"
        )
    assert AgentIdentity.objects.get().epoch == 1


def test_an_environment_has_one_signing_key(prod: Environment, by_olga: Actor) -> None:
    key = ensure_signing_key(prod, actor=by_olga)
    before = Event.objects.count()
    assert ensure_signing_key(prod, actor=by_olga) == key
    assert Event.objects.count() == before
    assert b'"d"' not in bytes(key.sealed_private)
    with pytest.raises(IntegrityError), transaction.atomic():
        type(key).objects.create(
            kid="second", environment=prod, public_jwk={}, sealed_private=b"sealed"
        )


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_of_six_suspensions_at_once_one_counts(identity: AgentIdentity) -> None:
    go_on = partial(go, lifecycle.suspend, identity.agent)
    outcomes = all_at_once([go_on] * 6)
    assert sum(isinstance(outcome, Agent) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, InvalidLifecycleTransition) for outcome in outcomes) == 5
    identity.refresh_from_db()
    assert identity.epoch == 2
    assert Event.objects.filter(type="agent.suspended").count() == 1
