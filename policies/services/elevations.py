"""Elevation: tools that an agent does not hold, for one run and a while, by people's approval."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from accounts.people import people_named
from agents.directory import KnownIdentity
from agents.models import AgentIdentity
from approvals.errors import AlreadyRequested
from approvals.models import ApprovalRequest
from approvals.services import NewApprovalRequest, open_request, spend, tier_terms
from approvals.services import withdraw as withdraw_request
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import SYSTEM, Actor
from common.canonical import digest
from common.errors import InvalidInput, NotFound
from common.input_checks import clean_reason
from policies import events
from policies.errors import ElevationExpired, TooManyQuestions
from policies.models import Elevation
from tools.catalog import Catalog, catalog
from tools.definitions import ToolSpec
from tools.errors import UnknownTool

ELEVATE = "policies.elevate"
MAX_TOOLS = 20
MAX_ASKED = 5


@deciding_command
def ask(
    identity: KnownIdentity,
    run_id: UUID,
    *,
    actor: Actor,
    tools: Sequence[str],
    minutes: int,
    reason: str,
    initiator: str = "",
) -> Elevation:
    """Ask people for tools in one run. Two managers answer for tools that change something, or
    for an agent of high risk; one for reading. Owner, sponsor and whoever the run is for do not.

    Raises UnknownTool, InvalidInput, ReasonRequired, AlreadyRequested, TooManyQuestions or
    UnknownTier.
    """
    reason = clean_reason(reason)
    held = catalog.current()
    specs = [_spec(held, name) for name in sorted(set(tools))]
    if not 0 < len(specs) <= MAX_TOOLS or not 1 <= minutes <= Elevation.MAX_MINUTES:
        message = f"Between 1 and {MAX_TOOLS} tools, for 1 to {Elevation.MAX_MINUTES} minutes."
        raise InvalidInput(message)
    # One at a time per identity, so that what is asked already is seen.
    AgentIdentity.objects.select_for_update().get(pk=identity.pk)
    _ensure_room(identity.pk, run_id, [spec.full_name for spec in specs])
    elevation = Elevation(
        identity_id=identity.pk,
        run_id=run_id,
        tools=[spec.full_name for spec in specs],
        reason=reason,
        minutes=minutes,
    )
    writes = any(spec.access != "read" for spec in specs)
    question = NewApprovalRequest(
        kind=ELEVATE,
        title=f"{identity.agent_title} asks for more rights, for {minutes} minutes",
        subject=Subject("policies.elevation", str(elevation.pk), identity.client_id),
        tier=tier_terms("dual" if writes or identity.risk == "high" else "manager"),
        snapshot=_picture(elevation, identity.agent_slug, identity.environment, specs),
        reasons=[
            {
                "rule": "portal:elevation",
                "title": "Tools beyond the agent's grants",
                "reason": "Tools that an agent is not granted are given for one run and a limited "
                "time, by people: one manager for reading, two for more or for high risk.",
            }
        ],
        conflicted_users=_involved(identity, initiator),
        initiator=initiator,
        run_id=run_id,
    )
    elevation.approval_id = question.id
    elevation.save()
    open_request(question, actor=actor)
    record(
        events.ELEVATION_ASKED,
        actor=actor,
        subject=elevation,
        run_id=run_id,
        tools=elevation.tools,
        minutes=minutes,
        approval=str(question.id),
        tier=question.tier.slug,
    )
    return elevation


def finish(request: ApprovalRequest, actor: Actor) -> None:
    """Apply the decision on an elevation. People approve what they saw: if a tool or the row has
    changed since, nothing is granted.
    """
    if request.status != ApprovalRequest.Status.APPROVED:
        _refuse(UUID(request.subject_id), actor=actor, reason=f"The request was {request.status}.")
        return
    spend(request.pk, actor=actor, action=f"elevate {request.subject_label}")
    _give(UUID(request.subject_id), request.snapshot_digest, actor=actor)


@deciding_command
def _give(elevation_id: UUID, approved: str, *, actor: Actor) -> None:
    elevation = _locked(elevation_id)
    identity = elevation.identity
    held = catalog.current()
    specs = [spec for name in elevation.tools if (spec := held.tools.get(name)) is not None]
    slug = identity.agent.slug
    shown = digest(_picture(elevation, slug, identity.environment_id, specs))
    if elevation.status != Elevation.Status.ASKED or shown != approved:
        _refuse(elevation_id, actor=actor, reason="What was approved has changed since.")
        return
    now = timezone.now()
    elevation.status = Elevation.Status.ACTIVE
    elevation.starts_at, elevation.ends_at = now, now + timedelta(minutes=elevation.minutes)
    elevation.save(update_fields=["status", "starts_at", "ends_at"])
    record(
        events.ELEVATION_GIVEN,
        actor=actor,
        subject=elevation,
        run_id=elevation.run_id,
        tools=elevation.tools,
        ends_at=elevation.ends_at.isoformat(),
    )


@deciding_command
def _refuse(elevation_id: UUID, *, actor: Actor, reason: str) -> None:
    elevation = _locked(elevation_id)
    if elevation.status != Elevation.Status.ASKED:
        return
    _over(elevation, Elevation.Status.REFUSED, reason)
    record(
        events.ELEVATION_REFUSED,
        actor=actor,
        subject=elevation,
        run_id=elevation.run_id,
        reason=reason,
    )


@deciding_command
def end(elevation_id: UUID, *, actor: Actor, reason: str) -> Elevation:
    """Nothing is allowed by it from the commit on. Raises NotFound, ElevationOver."""
    reason = clean_reason(reason)
    elevation = _locked(elevation_id)
    if elevation.status != Elevation.Status.ACTIVE:
        raise ElevationExpired
    _over(elevation, Elevation.Status.ENDED, reason)
    record(
        events.ELEVATION_ENDED,
        actor=actor,
        subject=elevation,
        run_id=elevation.run_id,
        reason=reason,
    )
    return elevation


@deciding_command
def take_back(elevation_id: UUID, *, actor: Actor, reason: str) -> None:
    """An elevation is asked for no more; people need not answer. Raises NotFound."""
    elevation = _locked(elevation_id)
    if elevation.status != Elevation.Status.ASKED:
        return
    asked = ApprovalRequest.objects.pending().about("policies.elevation", elevation.pk)
    request = asked.first()
    if request is not None:
        withdraw_request(request.pk, actor=actor, reason=reason)
    _refuse(elevation_id, actor=actor, reason=reason)


def end_overdue() -> int:
    """Write down that elevations have ended whose time is over. They counted no longer already."""
    overdue = Elevation.objects.active().filter(ends_at__lte=timezone.now())
    ended = 0
    for elevation_id in list(overdue.values_list("pk", flat=True)[:500]):
        try:
            end(elevation_id, actor=SYSTEM, reason="Its time was over.")
        except ElevationExpired:
            continue  # somebody ended it since the list was read
        ended += 1
    return ended


def _over(elevation: Elevation, status: Elevation.Status, because: str) -> None:
    elevation.status = status
    elevation.ended_at, elevation.ended_because = timezone.now(), because[:200]
    elevation.save(update_fields=["status", "ended_at", "ended_because"])


def _spec(held: Catalog, name: str) -> ToolSpec:
    spec = held.tools.get(name)
    if spec is None or spec.serves_facts_only or spec.withdrawn:
        raise UnknownTool
    return spec


def _involved(identity: KnownIdentity, initiator: str) -> list[int]:
    return sorted({*identity.conflicted_users, *people_named(initiator)})


def involved_in_elevation(request: ApprovalRequest) -> list[int]:
    """Return the users who own or sponsor the agent, or did in the last 90 days."""
    rows = Elevation.objects.select_related("identity__agent")
    elevation = rows.filter(pk=request.subject_id).first()
    return elevation.identity.agent.involved if elevation is not None else []


def _ensure_room(identity_id: int, run_id: UUID, tools: list[str]) -> None:
    asked = list(Elevation.objects.asked().filter(identity_id=identity_id))
    if any(one.run_id == run_id and one.tools == tools for one in asked):
        raise AlreadyRequested
    if len(asked) >= MAX_ASKED:
        raise TooManyQuestions


def _picture(
    elevation: Elevation, agent: str, environment: str, specs: Sequence[ToolSpec]
) -> dict[str, object]:
    """Return the snapshot that people are shown and approve."""
    return {
        "agent": agent,
        "environment": environment,
        "tools": [
            {
                "tool": spec.full_name,
                "title": spec.title,
                "access": spec.access,
                "definition": spec.digest,
            }
            for spec in specs
        ],
        "reason": elevation.reason,
        "minutes": elevation.minutes,
        "run": str(elevation.run_id),
    }


def _locked(elevation_id: UUID) -> Elevation:
    rows = Elevation.objects.select_for_update(of=("self",)).select_related("identity__agent")
    elevation = rows.filter(pk=elevation_id).first()
    if elevation is None:
        raise NotFound
    return elevation
