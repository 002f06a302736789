"""The kill switch."""

from collections.abc import Callable, Sequence
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Environment
from agents import events
from agents.directory import directory
from agents.errors import (
    AlreadyAskedToLift,
    AlreadyHalted,
    HaltNotInForce,
    SecondApproverRequired,
    UnknownHaltTarget,
)
from agents.models import Agent, Halt
from approvals.models import ApprovalRequest, Tier
from approvals.services import NewApprovalRequest, open_request, spend, tier_terms
from audit.generation import deciding_command
from audit.services.recorder import Subject, record
from common.actors import Actor
from common.errors import NotFound
from common.input_checks import clean_reason

LIFT = "agents.lift"

_exists: dict[str, Callable[[str], bool]] = {
    Halt.Kind.GLOBAL: lambda target: not target,
    Halt.Kind.ENVIRONMENT: lambda target: Environment.objects.filter(pk=target).exists(),
    Halt.Kind.AGENT: lambda target: Agent.objects.filter(slug=target).exists(),
}


def know_targets(kind: Halt.Kind, exists: Callable[[str], bool]) -> None:
    """Say how targets of a kind are known; for kinds that live outside this app."""
    _exists[kind] = exists


def _ensure_known(kind: Halt.Kind, target: str) -> None:
    exists = _exists.get(kind)
    if exists is None or not exists(target):
        raise UnknownHaltTarget


@deciding_command
def place_halt(kind: Halt.Kind, *, actor: Actor, reason: str, target: str = "") -> Halt:
    """Stop everything the halt covers. Once this has committed, nothing covered by it is decided
    as allowed: the change of generation waits for decisions under way and turns away later ones.

    Raises AlreadyHalted; UnknownHaltTarget for a name that nothing has, since such a halt would
    look placed and stop nothing.
    """
    reason = clean_reason(reason)
    _ensure_known(kind, target)
    if Halt.objects.in_force().filter(kind=kind, target=target).exists():
        raise AlreadyHalted
    try:
        with transaction.atomic():
            halt = Halt.objects.create(
                kind=kind, target=target, reason=reason, placed_by=actor.label
            )
    except IntegrityError as error:
        # Somebody else's, committed since the look above.
        raise AlreadyHalted from error
    record(
        events.HALT_PLACED,
        actor=actor,
        subject=_target(halt),
        kind=str(kind),
        target=target,
        reason=reason,
    )
    return halt


@deciding_command
def lift_halt(halt_id: UUID, *, actor: Actor, reason: str) -> Halt:
    """Raises NotFound, HaltNotInForce; SecondPersonNeeded for a person and the halt of everything,
    which `ask_to_lift` is for.
    """
    reason = clean_reason(reason)
    halt = _locked(halt_id)
    if halt.kind == Halt.Kind.GLOBAL and actor.kind != "system":
        raise SecondApproverRequired
    return _lift(halt, actor=actor, reason=reason)


@deciding_command
def ask_to_lift(halt_id: UUID, *, actor: Actor, reason: str) -> ApprovalRequest:
    """Ask a second person to lift the halt of everything. Raises NotFound, HaltNotInForce,
    AlreadyAskedToLift, UnknownTier.
    """
    reason = clean_reason(reason)
    halt = _locked(halt_id)
    if ApprovalRequest.objects.pending().about("agents.halt", halt.pk).exists():
        raise AlreadyAskedToLift
    security = Tier.objects.filter(slug="security").exists()
    question = NewApprovalRequest(
        kind=LIFT,
        title=f"Lift the halt of {halt.get_kind_display()}",
        subject=_target(halt),
        tier=tier_terms("security" if security else "manager"),
        snapshot={
            "halt": str(halt),
            "placed_by": halt.placed_by,
            "placed_at": halt.placed_at.isoformat(),
            "placed_because": halt.reason,
            "to_be_lifted_because": reason,
        },
        reasons=[
            {
                "rule": "portal:lift",
                "title": "Lifting the halt of everything needs a second person",
                "reason": "One person may stop everything; two let it go on.",
            }
        ],
    )
    request = open_request(question, actor=actor)
    record(
        events.HALT_LIFT_ASKED,
        actor=actor,
        subject=_target(halt),
        approval=str(request.pk),
        reason=reason,
    )
    return request


def finish_lifting(request: ApprovalRequest, actor: Actor) -> None:
    """Apply the second person's decision on lifting a halt."""
    if request.status == ApprovalRequest.Status.APPROVED:
        spend(request.pk, actor=actor, action=f"lift {request.subject_label}")
        _lift_approved(UUID(request.subject_id), asked_by=request.requester_label, actor=actor)


@deciding_command
def _lift_approved(halt_id: UUID, *, asked_by: str, actor: Actor) -> None:
    try:
        halt = _locked(halt_id)
    except HaltNotInForce:
        return  # the portal's own command has lifted it since
    _lift(halt, actor=actor, reason=f"Two people want it: {asked_by} and {actor.label}.")


def _locked(halt_id: UUID) -> Halt:
    try:
        halt = Halt.objects.select_for_update().get(pk=halt_id)
    except Halt.DoesNotExist as error:
        raise NotFound from error
    if halt.lifted_at is not None:
        raise HaltNotInForce
    return halt


def _lift(halt: Halt, *, actor: Actor, reason: str) -> Halt:
    halt.lifted_at = timezone.now()
    halt.lifted_by = actor.label
    halt.save(update_fields=["lifted_at", "lifted_by"])
    record(
        events.HALT_LIFTED,
        actor=actor,
        subject=_target(halt),
        kind=halt.kind,
        target=halt.target,
        reason=reason,
    )
    return halt


def _target(halt: Halt) -> Subject:
    return Subject("agents.halt", str(halt.pk), str(halt))


def standing_in_the_way(requests: Sequence[ApprovalRequest]) -> dict[UUID, str]:
    """Return, for the requests about a call that a halt in force covers, which halt that is."""
    known = directory.current()
    found = {}
    for request in requests if known.halts else ():
        shown = request.snapshot
        tool = str(shown.get("tool", ""))
        halt = known.halt_covering(
            agent=str(shown.get("agent", "")),
            environment=str(shown.get("environment", "")),
            system=tool.partition(".")[0],
            tool=tool,
        )
        if tool and halt is not None:
            kind, target, reason = halt
            named = f"{kind} {target}".strip()
            found[request.pk] = (
                f"A halt is in force ({named}): {reason} While it is in force, the call is not "
                "executed, whether it is approved or not."
            )
    return found
