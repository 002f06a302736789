"""Who may manage an agent: its owner, its sponsor, and whoever manages every agent."""

from accounts.models import User
from agents.errors import NotAnswerable
from agents.models import Agent
from common.actors import Actor

EVERY_AGENT = "agents.manage_every_agent"


def ensure_answers_for(agent: Agent, actor: Actor) -> None:
    """Raises NotAnswerable for a person who does not answer for the agent. The portal may."""
    if actor.kind == "system":
        return
    person = User.objects.filter(pk=actor.id).first() if actor.kind == "human" else None
    if person is None:
        raise NotAnswerable
    if person.pk not in {agent.owner_id, agent.sponsor_id} and not person.has_perm(EVERY_AGENT):
        raise NotAnswerable
