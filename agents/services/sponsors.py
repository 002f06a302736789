"""No active sponsor, no active agent: what happens when a sponsor leaves, and who follows."""

from datetime import datetime, timedelta

from django.utils import timezone

from accounts.models import User
from agents import events
from agents.errors import InvalidLifecycleTransition, NoActiveSponsor
from agents.models import Agent, FormerPerson
from agents.services.lifecycle import raise_epochs
from agents.services.permissions import ensure_may_manage
from approvals.models import ApprovalRequest, Vote
from approvals.services import NewApprovalRequest, open_request, spend, tier_terms
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import SYSTEM, Actor
from common.errors import NotFound
from common.input_checks import clean_reason
from common.isolation import each

SUCCEED = "agents.succeed"
ASKED_AGAIN_AFTER = timedelta(days=1)


@deciding_command
def change_sponsor(agent_id: int, *, actor: Actor, sponsor: User, reason: str) -> Agent:
    """Another person answers for the agent. Raises NotFound, NotAnswerable, NoActiveSponsor,
    WrongLifeCycleStep for an agent that is retired.
    """
    reason = clean_reason(reason)
    agent = _locked(agent_id)
    ensure_may_manage(agent, actor)
    if agent.status == Agent.Status.RETIRED:
        raise InvalidLifecycleTransition
    _follow(agent, sponsor, actor=actor, reason=reason)
    return agent


def suspend_unsponsored(*, now: datetime | None = None) -> int:
    """Suspend agents whose sponsor is no longer active, and ask managers for a successor.

    From the moment that a person is deactivated none of these agents can act: every decision
    looks at the sponsor. This writes it down, and sees that somebody is asked.
    """
    left = Agent.objects.filter(sponsor__is_active=False).exclude(status=Agent.Status.RETIRED)
    moment = now or timezone.now()
    found = list(left.values_list("pk", flat=True))
    return sum(
        each(found, lambda agent_id: _settle_agent(agent_id, moment, actor=SYSTEM), what="agent")
    )


@deciding_command
def _settle_agent(agent_id: int, now: datetime, *, actor: Actor) -> bool:
    agent = _locked(agent_id)
    if agent.sponsor.is_active or agent.status == Agent.Status.RETIRED:
        return False
    was_active = agent.status == Agent.Status.ACTIVE
    if was_active:
        agent.status = Agent.Status.SUSPENDED
        agent.save(update_fields=["status"])
        raise_epochs(agent)
        record(
            events.AGENT_SUSPENDED, actor=actor, subject=agent, reason="It has no active sponsor."
        )
    asked = agent.status != Agent.Status.DRAFT and _ask_for_successor(agent, now, actor=actor)
    return was_active or asked


def _ask_for_successor(agent: Agent, now: datetime, *, actor: Actor) -> bool:
    """One question at a time, and after a no not again at once."""
    asked = ApprovalRequest.objects.filter(kind=SUCCEED).about("agents.agent", agent.pk)
    lately = asked.filter(opened_at__gt=now - ASKED_AGAIN_AFTER)
    if asked.pending().exists() or lately.exists():
        return False
    question = NewApprovalRequest(
        kind=SUCCEED,
        title=f"Become the sponsor of {agent.title}",
        subject=Subject.of(agent),
        tier=tier_terms("manager"),
        snapshot={
            "agent": agent.slug,
            "purpose": agent.purpose,
            "risk": agent.risk,
            "owner": agent.owner.get_username(),
            "former_sponsor": agent.sponsor.get_username(),
            "what_it_means": "Whoever approves answers for this agent from then on.",
        },
        reasons=[
            {
                "rule": "portal:sponsor",
                "title": "The agent has no active sponsor",
                "reason": "An agent acts only while an active person answers for it.",
            }
        ],
        conflicted_users=[agent.sponsor_id],
    )
    open_request(question, actor=actor)
    record(events.SPONSOR_REQUESTED, actor=actor, subject=agent, approval=str(question.id))
    return True


def finish_succession(request: ApprovalRequest, actor: Actor) -> None:
    """Make the user who approved the sponsor. The agent stays suspended until it is activated."""
    if request.status != ApprovalRequest.Status.APPROVED:
        return
    spend(request.pk, actor=actor, action=f"sponsor {request.subject_label}")
    vote = request.votes.filter(answer=Vote.Answer.APPROVE).latest("cast_at")
    _succeed(int(request.subject_id), actor=actor, sponsor=vote.voter)


@deciding_command
def _succeed(agent_id: int, *, actor: Actor, sponsor: User) -> None:
    agent = _locked(agent_id)
    # Somebody may have been named since people were asked.
    if agent.status != Agent.Status.RETIRED and not agent.sponsor.is_active:
        _follow(agent, sponsor, actor=actor, reason="They took it over when they were asked.")


def _follow(agent: Agent, sponsor: User, *, actor: Actor, reason: str) -> None:
    if not sponsor.is_active:
        raise NoActiveSponsor
    former = agent.sponsor
    agent.sponsor = sponsor
    agent.save(update_fields=["sponsor"])
    FormerPerson.objects.update_or_create(
        agent=agent, person=former, defaults={"until": timezone.now()}
    )
    record(
        events.SPONSOR_CHANGED,
        actor=actor,
        subject=agent,
        sponsor=sponsor.get_username(),
        former=former.get_username(),
        reason=reason,
    )


def _locked(agent_id: int) -> Agent:
    rows = Agent.objects.select_for_update(of=("self",)).select_related("sponsor", "owner")
    agent = rows.filter(pk=agent_id).first()
    if agent is None:
        raise NotFound
    return agent
