"""Recertification: who answers for an agent confirms it again and again, or it is suspended."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from agents import events
from agents.errors import InvalidLifecycleTransition
from agents.models import Agent
from agents.services import lifecycle
from agents.services.notifications import notify_responsible
from agents.services.permissions import ensure_may_manage
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason
from common.isolation import each

# How long before the end people are told; each once.
REMINDERS = (timedelta(days=14), timedelta(days=7), timedelta(days=1))


@deciding_command
def certify(agent_id: int, *, actor: Actor, reason: str) -> Agent:
    """The agent is still needed, and its rights are right: confirmed by who answers for it.

    Raises NotFound, NotAnswerable, WrongLifeCycleStep unless it is active.
    """
    reason = clean_reason(reason)
    agent = Agent.objects.select_for_update().filter(pk=agent_id).first()
    if agent is None:
        raise NotFound
    ensure_may_manage(agent, actor)
    if agent.status != Agent.Status.ACTIVE:
        raise InvalidLifecycleTransition
    agent.certified_until = lifecycle.next_certification()
    agent.reminded_at = None
    agent.save(update_fields=["certified_until", "reminded_at"])
    record(
        events.AGENT_CERTIFIED,
        actor=actor,
        subject=agent,
        until=agent.certified_until.isoformat(),
        reason=reason,
    )
    return agent


def run_recertification(*, now: datetime | None = None) -> int:
    """Suspend what nobody has confirmed in time, and remind of what is due; the number of both."""
    moment = now or timezone.now()
    active = Agent.objects.filter(status=Agent.Status.ACTIVE)
    overdue = active.filter(certified_until__lte=moment).values_list("pk", flat=True)
    suspended = sum(
        each(list(overdue), lambda agent: _suspend(agent, moment, actor=SYSTEM), what="agent")
    )
    due = active.filter(certified_until__gt=moment, certified_until__lte=moment + REMINDERS[0])
    reminded = sum(
        each(
            list(due.values_list("pk", flat=True)),
            lambda agent: _remind(agent, moment, actor=SYSTEM),
            what="agent",
        )
    )
    return suspended + reminded


@deciding_command
def _suspend(agent_id: int, now: datetime, *, actor: Actor) -> bool:
    agent = Agent.objects.select_for_update().get(pk=agent_id)
    is_over = agent.certified_until is not None and agent.certified_until <= now
    if agent.status != Agent.Status.ACTIVE or not is_over:
        return False
    lifecycle.suspend(agent_id, actor=actor, reason="Nobody confirmed it in time.")
    return True


@command
def _remind(agent_id: int, now: datetime, *, actor: Actor) -> bool:
    rows = Agent.objects.select_for_update(of=("self",)).select_related("owner", "sponsor")
    agent = rows.get(pk=agent_id)
    if agent.status != Agent.Status.ACTIVE or not _is_due(agent, now):
        return False
    # Not a change of what is decided, so neither the change log nor decisions hear of it.
    Agent.objects.filter(pk=agent_id).update(reminded_at=now)
    until = agent.certified_until or now
    record(events.AGENT_REMINDED, actor=actor, subject=agent, until=until.isoformat())
    day = f"{until:%-d %B %Y}"
    notify_responsible(
        agent,
        f"Confirm the agent {agent.slug} by {day}",
        f"You answer for the agent {agent.title}. If it is still needed and its rights are right, "
        f"confirm it by {day} {until:%H:%M} UTC; after that it is suspended.\n\n"
        f"{settings.ISSUER}/admin/agents/agent/{agent.pk}/change/\n",
    )
    return True


def _is_due(agent: Agent, now: datetime) -> bool:
    """Whether a moment to remind has come since people were last told."""
    if agent.certified_until is None:
        return False
    passed = [agent.certified_until - before for before in REMINDERS]
    return any(
        moment <= now and (agent.reminded_at is None or agent.reminded_at < moment)
        for moment in passed
    )
