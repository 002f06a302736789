"""Anomalies: written down with their evidence, answered by steps, resolved by people.

The steps are those of the response ladder: note, ask the sponsor, let tokens live a minute,
suspend. A rule begins on one of them, and climbs one with each finding of a week, up to its last.
What only statistics say never stops an agent.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from agents import events
from agents.errors import FindingResolved, InvalidLifecycleTransition
from agents.models import AgentIdentity, Finding
from agents.services.lifecycle import suspend_identity
from agents.services.notifications import notify_responsible
from agents.services.permissions import ensure_manages_every_agent, ensure_may_manage
from audit.generation import deciding_command
from audit.services.recorder import record
from common.actors import SYSTEM, Actor
from common.errors import NotFound
from common.input_checks import clean_reason

log = logging.getLogger(__name__)

SHORT_SECONDS = 60
CLIMBS_WITHIN = timedelta(days=7)
ANSWERED_WITHIN = timedelta(hours=24)

_Rule, _Step = Finding.Rule, Finding.Response
_LADDER = (_Step.NOTE, _Step.ASK, _Step.SHORTEN, _Step.SUSPEND)
# (first step, last step)
_STEPS: Mapping[str, tuple[str, str]] = {
    _Rule.FIRST_USE: (_Step.NOTE, _Step.NOTE),
    _Rule.OUTSIDE_HOURS: (_Step.ASK, _Step.SHORTEN),
    _Rule.MINT_RATE: (_Step.ASK, _Step.SUSPEND),
    _Rule.TWO_NETWORKS: (_Step.SHORTEN, _Step.SUSPEND),
    _Rule.PROBING: (_Step.SHORTEN, _Step.SUSPEND),
    _Rule.SUPERSEDED_KEY: (_Step.SUSPEND, _Step.SUSPEND),
    _Rule.MANY_CALLS: (_Step.NOTE, _Step.ASK),
    _Rule.MANY_DENIALS: (_Step.NOTE, _Step.ASK),
}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An anomaly: of which identity, by which rule, about what."""

    identity_id: int
    rule: Finding.Rule
    about: str
    evidence: Mapping[str, Any]


def report(anomaly: Anomaly) -> Finding | None:
    """Write an anomaly down and answer it; None if it is known already, and still open."""
    if _known(anomaly).exists():
        return None
    return _create_finding(anomaly, actor=SYSTEM)


@deciding_command
def _create_finding(anomaly: Anomaly, *, actor: Actor) -> Finding | None:
    identity = _locked(anomaly.identity_id)
    if _known(anomaly).exists():
        return None
    now = timezone.now()
    lately = Finding.objects.filter(
        identity=identity, rule=anomaly.rule, found_at__gt=now - CLIMBS_WITHIN
    ).count()
    first, last = (_LADDER.index(_Step(step)) for step in _STEPS[anomaly.rule])
    response = _LADDER[min(first + lately, last)]
    finding = Finding.objects.create(
        identity=identity,
        rule=anomaly.rule,
        about=anomaly.about[:200],
        response=response,
        evidence=dict(anomaly.evidence),
        responded_at=now,
    )
    record(
        events.FINDING_MADE,
        actor=actor,
        subject=identity,
        finding=str(finding.pk),
        rule=str(anomaly.rule),
        response=str(response),
    )
    _respond(finding, identity, actor=actor)
    return finding


def _respond(finding: Finding, identity: AgentIdentity, *, actor: Actor) -> None:
    if finding.response == _Step.NOTE:
        return
    if finding.response == _Step.SHORTEN and identity.token_seconds != SHORT_SECONDS:
        # Work goes on: a new epoch would stop it. The shorter life begins with new tokens.
        identity.token_seconds = SHORT_SECONDS
        identity.save(update_fields=["token_seconds"])
    if finding.response == _Step.SUSPEND:
        try:
            suspend_identity(identity.pk, actor=actor, reason=f"{finding.get_rule_display()}.")
        except InvalidLifecycleTransition:
            log.info("%s is suspended already", identity.client_id)
    _tell(finding, identity)


def _tell(finding: Finding, identity: AgentIdentity) -> None:
    """Owner and sponsor hear of it; without the evidence, which is to be read in the portal."""
    agent = identity.agent
    text = (
        f"{agent.title} in {identity.environment_id}: {finding.get_rule_display()}.\n"
        f"What was done: {finding.get_response_display()}.\n\n"
        f"Please say what it was: {settings.ISSUER}/admin/agents/finding/{finding.pk}/change/\n"
    )
    notify_responsible(agent, f"Unusual use of the agent {agent.slug}", text)


@deciding_command
def resolve(finding_id: UUID, *, actor: Actor, reason: str) -> Finding:
    """A person says what it was. If nothing else keeps the identity's tokens short, they live
    their usual time again; a suspended identity is resumed by itself.

    Whoever answers for the agent may; where the agent was held back, whoever manages every agent.
    Raises NotFound, NotAnswerable, FindingResolved.
    """
    reason = clean_reason(reason)
    row = Finding.objects.filter(pk=finding_id).first()
    if row is None:
        raise NotFound
    identity = _locked(row.identity_id)
    finding = Finding.objects.select_for_update().get(pk=finding_id)
    if finding.response in {_Step.SHORTEN, _Step.SUSPEND}:
        ensure_manages_every_agent(actor)
    else:
        ensure_may_manage(identity.agent, actor)
    if finding.resolved_at is not None:
        raise FindingResolved
    finding.resolved_at, finding.resolved_by = timezone.now(), actor.label
    finding.resolution = reason
    finding.save(update_fields=["resolved_at", "resolved_by", "resolution"])
    record(
        events.FINDING_RESOLVED,
        actor=actor,
        subject=identity,
        finding=str(finding.pk),
        reason=reason,
    )
    holding = identity.findings.open().filter(response__in=[_Step.SHORTEN, _Step.SUSPEND])
    usual = AgentIdentity.TOKEN_SECONDS
    if identity.token_seconds != usual and not holding.exists():
        identity.token_seconds = usual
        identity.save(update_fields=["token_seconds"])
    return finding


def escalate_unanswered(*, now: datetime | None = None) -> int:
    """Take the next step where a sponsor was asked and has not answered for a day."""
    before = (now or timezone.now()) - ANSWERED_WITHIN
    climbing = [rule for rule, (_, last) in _STEPS.items() if last not in {_Step.NOTE, _Step.ASK}]
    asked = Finding.objects.unanswered(before).filter(rule__in=climbing)
    waiting = asked.values_list("pk", flat=True)
    return sum(_escalate(pk, before, actor=SYSTEM) for pk in list(waiting[:200]))


@deciding_command
def _escalate(finding_id: UUID, before: datetime, *, actor: Actor) -> bool:
    row = Finding.objects.get(pk=finding_id)
    identity = _locked(row.identity_id)
    finding = Finding.objects.unanswered(before).select_for_update().filter(pk=finding_id).first()
    if finding is None or _STEPS[finding.rule][1] == _Step.ASK:
        return False
    finding.response, finding.responded_at = _Step.SHORTEN, timezone.now()
    finding.save(update_fields=["response", "responded_at"])
    record(
        events.FINDING_ESCALATED,
        actor=actor,
        subject=identity,
        finding=str(finding.pk),
        response=str(finding.response),
    )
    _respond(finding, identity, actor=actor)
    return True


def _known(anomaly: Anomaly) -> Any:
    return Finding.objects.open().filter(
        identity_id=anomaly.identity_id, rule=anomaly.rule, about=anomaly.about[:200]
    )


def _locked(identity_id: int) -> AgentIdentity:
    rows = AgentIdentity.objects.select_for_update(of=("self",))
    return rows.select_related("agent__owner", "agent__sponsor").get(pk=identity_id)
