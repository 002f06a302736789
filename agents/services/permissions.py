"""The right to manage an agent: its owner, its sponsor, and users who manage every agent."""

from accounts.models import User
from agents.errors import NotResponsibleForAgent
from agents.models import Agent, AgentIdentity
from common.actors import Actor
from common.errors import NotFound

EVERY_AGENT = "agents.manage_every_agent"


def ensure_may_manage(agent: Agent, actor: Actor) -> None:
    """Raises NotAnswerable for a person who does not answer for the agent. The portal may."""
    _ensure_one_of({agent.owner_id, agent.sponsor_id}, actor)


def locked_identity(identity_id: int, actor: Actor) -> AgentIdentity:
    """The identity, locked, for whoever answers for its agent. Raises NotFound, NotAnswerable."""
    identities = AgentIdentity.objects.select_for_update(of=("self",)).select_related("agent")
    identity = identities.filter(pk=identity_id).first()
    if identity is None:
        raise NotFound
    ensure_may_manage(identity.agent, actor)
    return identity


def ensure_may_name(owner: User, actor: Actor) -> None:
    """Raises NotAnswerable for a person who makes somebody else an agent's owner."""
    _ensure_one_of({owner.pk}, actor)


def ensure_manages_every_agent(actor: Actor) -> None:
    """Raises NotAnswerable for a person without the right to manage every agent."""
    _ensure_one_of(set(), actor)


def _ensure_one_of(people: set[int], actor: Actor) -> None:
    if actor.kind == "system":
        return
    found = User.objects.filter(pk=actor.id, is_active=True) if actor.kind == "human" else None
    person = found.first() if found is not None else None
    if person is None or (person.pk not in people and not person.has_perm(EVERY_AGENT)):
        raise NotResponsibleForAgent
