"""In production an identity becomes active by people's approval, never by one person's word."""

from typing import Any

from accounts.models import Environment
from agents import events
from agents.models import Agent, AgentIdentity
from approvals.models import ApprovalRequest
from approvals.services import NewApprovalRequest, open_request, spend, tier_terms, withdraw
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import Actor

ACTIVATE = "agents.activate"


def needs_people(environment: Environment, actor: Actor) -> bool:
    """Whether people approve that an identity becomes active there. The portal's own commands,
    run by whoever operates it, set up without being asked.
    """
    return environment.is_production and actor.kind != "system"


def ask_people(identity: AgentIdentity, *, actor: Actor, reason: str) -> None:
    """Hold the identity back and ask; one manager, or two for an agent of high risk.

    Within the caller's transaction, the identity locked. Raises UnknownTier.
    """
    agent = identity.agent
    identity.status = AgentIdentity.Status.PENDING
    identity.save(update_fields=["status"])
    # What people would have answered was asked by somebody else, or for another reason.
    take_back_questions(identity, actor=actor)
    question = NewApprovalRequest(
        kind=ACTIVATE,
        title=f"Let {agent.title} act in {identity.environment_id}",
        subject=Subject.of(identity),
        tier=tier_terms("dual" if agent.risk == Agent.Risk.HIGH else "manager"),
        snapshot=_picture(identity, reason),
        reasons=[
            {
                "rule": "portal:production-identity",
                "title": "Production access needs people's consent",
                "reason": "An agent acts in a production environment only after a manager has "
                "approved it; two managers for an agent of high risk.",
            }
        ],
        conflicted_users=agent.involved,
    )
    open_request(question, actor=actor)
    record(
        events.IDENTITY_HELD_BACK,
        actor=actor,
        subject=identity,
        approval=str(question.id),
        reason=reason,
    )


def involved_in_identity(request: ApprovalRequest) -> list[int]:
    """Return the users who own or sponsor the agent, or did in the last 90 days."""
    identities = AgentIdentity.objects.select_related("agent")
    identity = identities.filter(pk=request.subject_id).first()
    return identity.agent.involved if identity is not None else []


def finish(request: ApprovalRequest, actor: Actor) -> None:
    """Apply the decision on an activation request."""
    is_approved = request.status == ApprovalRequest.Status.APPROVED
    if is_approved:
        spend(request.pk, actor=actor, action=f"activate {request.subject_label}")
    _settle(int(request.subject_id), actor=actor, approved=is_approved)


@deciding_command
def _settle(identity_id: int, *, actor: Actor, approved: bool) -> None:
    """Leave an identity as it is if it was stopped or retired since the request."""
    rows = AgentIdentity.objects.select_for_update(of=("self",))
    identity = rows.select_related("agent__sponsor").get(pk=identity_id)
    if identity.status != AgentIdentity.Status.PENDING:
        return
    agent = identity.agent
    may_act = approved and agent.status == Agent.Status.ACTIVE and agent.sponsor.is_active
    states = AgentIdentity.Status
    identity.status = states.ACTIVE if may_act else states.SUSPENDED
    identity.save(update_fields=["status"])
    if may_act:
        record(events.IDENTITY_ACTIVATED, actor=actor, subject=identity)
    else:
        reason = "It was stopped since." if approved else "People did not approve it."
        record(events.IDENTITY_SUSPENDED, actor=actor, subject=identity, reason=reason)


def take_back_questions(identity: AgentIdentity, *, actor: Actor) -> None:
    """Nobody is asked any more whether the identity may act. Within the caller's transaction."""
    waiting = ApprovalRequest.objects.pending().about("agents.agentidentity", identity.pk)
    for request in waiting.filter(kind=ACTIVATE):
        withdraw(request.pk, actor=actor, reason="It was stopped, or asked for anew.")


def _picture(identity: AgentIdentity, reason: str) -> dict[str, Any]:
    agent = identity.agent
    return {
        "agent": agent.slug,
        "environment": identity.environment_id,
        "purpose": agent.purpose,
        "risk": agent.risk,
        "owner": agent.owner.get_username(),
        "sponsor": agent.sponsor.get_username(),
        # What it may use there; a role can be given and taken later, by commands of their own.
        "roles": sorted(identity.roles.values_list("title", flat=True)) or "none yet",
        "reason": reason,
    }
