"""An agent's life: registered, given identities, activated, suspended, retired."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from accounts.models import Environment, User
from agents import events
from agents.errors import InvalidLifecycleTransition, NoActiveSponsor
from agents.models import Agent, AgentIdentity
from agents.services.activation import ask_people, needs_people, take_back_questions
from agents.services.permissions import ensure_may_manage, ensure_may_name, locked_identity
from agents.usage_hours import Hours
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import Actor
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from common.model_validation import validate_fields


@deciding_command
def register_agent(
    slug: str,
    *,
    actor: Actor,
    title: str,
    purpose: str,
    owner: User,
    sponsor: User,
    risk: Agent.Risk = Agent.Risk.MEDIUM,
) -> Agent:
    """A new agent, in draft. Raises InvalidInput for a slug that is taken, NotAnswerable if a
    person names somebody else as owner without the right to manage every agent.
    """
    ensure_may_name(owner, actor)
    if Agent.objects.filter(slug=slug).exists():
        message = f"There is an agent {slug} already."
        raise InvalidInput(message)
    agent = Agent(slug=slug, title=title, purpose=purpose, owner=owner, sponsor=sponsor, risk=risk)
    validate_fields(agent, exclude=("owner", "sponsor", "certified_until", "reminded_at"))
    agent.save()
    record(
        events.AGENT_REGISTERED,
        actor=actor,
        subject=agent,
        owner=owner.get_username(),
        sponsor=sponsor.get_username(),
    )
    return agent


@deciding_command
def create_identity(agent_id: int, *, actor: Actor, environment: Environment) -> AgentIdentity:
    """The agent in one environment. In production it waits for people's approval, which is asked
    for once the agent is active. Raises InvalidInput if it has an identity there.
    """
    agent = _locked(agent_id, actor)
    if agent.status == Agent.Status.RETIRED:
        raise InvalidLifecycleTransition
    if agent.identities.filter(environment=environment).exists():
        message = f"{agent} has an identity in {environment} already."
        raise InvalidInput(message)
    waits = needs_people(environment, actor)
    states = AgentIdentity.Status
    identity = AgentIdentity.objects.create(
        agent=agent,
        environment=environment,
        client_id=f"{agent.slug}.{environment.slug}",
        status=states.PENDING if waits else states.ACTIVE,
    )
    record(events.IDENTITY_CREATED, actor=actor, subject=identity, environment=environment.slug)
    if waits and agent.status == Agent.Status.ACTIVE:
        ask_people(identity, actor=actor, reason="A new identity.")
    return identity


@deciding_command
def activate(agent_id: int, *, actor: Actor, reason: str) -> Agent:
    """Draft or suspended to active; its identities in production wait for people's approval.

    Raises NoActiveSponsor, WrongLifeCycleStep.
    """
    reason = clean_reason(reason)
    agent = _locked(agent_id, actor)
    if agent.status not in {Agent.Status.DRAFT, Agent.Status.SUSPENDED}:
        raise InvalidLifecycleTransition
    if not agent.sponsor.is_active:
        raise NoActiveSponsor
    agent.status = Agent.Status.ACTIVE
    agent.certified_until, agent.reminded_at = next_certification(), None
    agent.save(update_fields=["status", "certified_until", "reminded_at"])
    record(events.AGENT_ACTIVATED, actor=actor, subject=agent, reason=reason)
    for identity in agent.identities.select_for_update(of=("self",)).select_related("environment"):
        if identity.status != AgentIdentity.Status.SUSPENDED and needs_people(
            identity.environment, actor
        ):
            ask_people(identity, actor=actor, reason=reason)
    return agent


@deciding_command
def suspend(agent_id: int, *, actor: Actor, reason: str) -> Agent:
    """Active to suspended; every token of every identity is dead from the commit on."""
    reason = clean_reason(reason)
    agent = _locked(agent_id, actor)
    if agent.status != Agent.Status.ACTIVE:
        raise InvalidLifecycleTransition
    agent.status = Agent.Status.SUSPENDED
    agent.save(update_fields=["status"])
    raise_epochs(agent)
    record(events.AGENT_SUSPENDED, actor=actor, subject=agent, reason=reason)
    return agent


@deciding_command
def retire(agent_id: int, *, actor: Actor, reason: str) -> Agent:
    """The end of an agent's life; its history stays."""
    reason = clean_reason(reason)
    agent = _locked(agent_id, actor)
    if agent.status == Agent.Status.RETIRED:
        raise InvalidLifecycleTransition
    agent.status = Agent.Status.RETIRED
    agent.save(update_fields=["status"])
    raise_epochs(agent)
    record(events.AGENT_RETIRED, actor=actor, subject=agent, reason=reason)
    return agent


@deciding_command
def suspend_identity(identity_id: int, *, actor: Actor, reason: str) -> AgentIdentity:
    """Stop the agent in one environment."""
    reason = clean_reason(reason)
    identity = locked_identity(identity_id, actor)
    if identity.status == AgentIdentity.Status.SUSPENDED:
        raise InvalidLifecycleTransition
    identity.status = AgentIdentity.Status.SUSPENDED
    take_back_questions(identity, actor=actor)
    identity.epoch += 1
    identity.save(update_fields=["status", "epoch"])
    record(events.IDENTITY_SUSPENDED, actor=actor, subject=identity, reason=reason)
    return identity


@deciding_command
def resume_identity(identity_id: int, *, actor: Actor, reason: str) -> AgentIdentity:
    """Let the agent act in the environment again; in production when people have approved it."""
    reason = clean_reason(reason)
    identity = locked_identity(identity_id, actor)
    if identity.status != AgentIdentity.Status.SUSPENDED:
        raise InvalidLifecycleTransition
    if identity.agent.status == Agent.Status.RETIRED:
        raise InvalidLifecycleTransition
    if needs_people(identity.environment, actor):
        ask_people(identity, actor=actor, reason=reason)
        return identity
    identity.status = AgentIdentity.Status.ACTIVE
    identity.save(update_fields=["status"])
    record(events.IDENTITY_RESUMED, actor=actor, subject=identity, reason=reason)
    return identity


def next_certification() -> datetime:
    """Until when an agent that is confirmed now may act."""
    return timezone.now() + timedelta(days=settings.RECERTIFICATION_DAYS)


def raise_epochs(agent: Agent) -> None:
    """Every token of every identity is dead. Within the caller's transaction."""
    for identity in agent.identities.select_for_update():
        identity.epoch += 1
        identity.save(update_fields=["epoch"])


def _locked(agent_id: int, actor: Actor) -> Agent:
    try:
        agent = Agent.objects.select_for_update().get(pk=agent_id)
    except Agent.DoesNotExist as error:
        raise NotFound from error
    ensure_may_manage(agent, actor)
    return agent


@deciding_command
def declare_use(
    identity_id: int, *, actor: Actor, replicas: int, hours: str, reason: str
) -> AgentIdentity:
    """Declare the expected use of an identity, so that other use is noticed. Raises NotFound,
    NotResponsibleForAgent, InvalidInput for hours that are not like `mon-fri 8-18`.
    """
    reason = clean_reason(reason)
    identity = locked_identity(identity_id, actor)
    hours = hours.strip().lower()
    if hours:
        Hours.parsed(hours)
    if not 1 <= replicas <= 10_000:
        message = "Between 1 and 10,000 runtimes."
        raise InvalidInput(message)
    identity.replicas, identity.hours = replicas, hours
    identity.save(update_fields=["replicas", "hours"])
    record(
        events.USE_DECLARED,
        actor=actor,
        subject=identity,
        replicas=replicas,
        hours=hours,
        reason=reason,
    )
    return identity
