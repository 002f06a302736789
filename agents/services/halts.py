"""The kill switch."""

from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from agents import events
from agents.errors import AlreadyHalted, HaltNotInForce
from agents.models import Halt
from audit.services import Subject, record
from common.actors import Actor
from common.commands import command
from common.errors import NotFound, required_reason


@command
def place_halt(kind: Halt.Kind, *, actor: Actor, reason: str, target: str = "") -> Halt:
    """Stop everything the halt covers. Once this has committed, nothing covered by it is decided
    as allowed: the change of generation waits for decisions under way and turns away later ones.

    Raises AlreadyHalted.
    """
    reason = required_reason(reason)
    try:
        with transaction.atomic():
            halt = Halt.objects.create(
                kind=kind, target=target, reason=reason, placed_by=actor.label
            )
    except IntegrityError as error:
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


@command
def lift_halt(halt_id: UUID, *, actor: Actor, reason: str) -> Halt:
    """Raises HaltNotInForce."""
    reason = required_reason(reason)
    try:
        halt = Halt.objects.select_for_update().get(pk=halt_id)
    except Halt.DoesNotExist as error:
        raise NotFound from error
    if halt.lifted_at is not None:
        raise HaltNotInForce
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
