from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from django.db import connection
from django.utils import timezone

from actions import events
from actions.errors import RunNotEnded, RunNotOpen
from actions.models import Action, Run
from agents.tokens import Caller, seen_from
from approvals.models import ApprovalRequest
from approvals.services import withdraw
from audit.generation import hold_shared
from audit.services import EVENTS, Subject, event_row, record
from common.actors import Actor
from common.canonical import digest
from common.commands import command
from common.errors import NotFound, required_reason
from common.ids import uuid7
from common.sql import write
from policies.snapshot import snapshot


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may use up; None is no limit."""

    actions: int | None = None
    amount: Decimal | None = None


@command
def open_run(  # noqa: PLR0913 - what a run is, each by its keyword
    caller: Caller,
    *,
    actor: Actor,
    initiator_kind: Run.Initiator,
    initiator: str,
    purpose: str,
    reference: str = "",
    labels: Iterable[str] = (),
    budget: Budget = Budget(),
    chain: Iterable[str] = (),
    run_id: UUID | None = None,
) -> Run:
    """Start a run. Raises InvalidToken if the caller may no longer act.

    `chain`: the client ids of agents that handed this work over. Each call is decided for all of
    them, and the strictest decision holds.
    """
    hold_shared()
    identity = seen_from(caller, snapshot.fresh().directory).identity
    run = Run.objects.create(
        id=run_id or uuid7(),
        identity_id=identity.pk,
        agent=identity.agent_slug,
        environment=identity.environment,
        initiator_kind=initiator_kind,
        initiator=initiator,
        purpose=purpose,
        reference=reference,
        labels=sorted(set(labels)),
        budget_actions=budget.actions,
        budget_amount=budget.amount,
        chain=list(chain),
        opened_at=timezone.now(),
    )
    event = event_row(
        events.RUN_STARTED,
        actor=actor,
        subject=Subject.of(run),
        run_id=run.pk,
        details={
            "initiator_kind": str(initiator_kind),
            "initiator_digest": digest(initiator),
            "environment": identity.environment,
            "chain": list(chain),
        },
    )
    write(connection, [(EVENTS, [event])])
    return run


@command
def close_run(run_id: UUID, *, actor: Actor, identity_id: int, outcome: str) -> Run:
    """End a run; questions still open in it are withdrawn. Raises NotFound, RunNotOpen."""
    run = Run.objects.select_for_update().filter(pk=run_id, identity_id=identity_id).first()
    if run is None:
        raise NotFound
    if run.status != Run.Status.OPEN:
        raise RunNotOpen
    withdraw_questions(run.pk, actor=actor, reason="The run was closed.")
    run.status = Run.Status.CLOSED
    run.closed_at = timezone.now()
    run.outcome = outcome
    run.save(update_fields=["status", "closed_at", "outcome"])
    record(
        events.RUN_CLOSED,
        actor=actor,
        subject=run,
        run_id=run.pk,
        outcome=outcome,
        actions=run.actions_count,
    )
    return run


@command
def reopen_run(run_id: UUID, *, actor: Actor, reason: str) -> Run:
    """Open a halted or closed run again, by a person's order. Raises NotFound, RunNotEnded.

    Nothing is allowed by it: every call is decided as before, and a halt in force still halts.
    """
    reason = required_reason(reason)
    run = Run.objects.select_for_update().filter(pk=run_id).first()
    if run is None:
        raise NotFound
    if run.status == Run.Status.OPEN:
        raise RunNotEnded
    run.status, run.closed_at, run.outcome = Run.Status.OPEN, None, ""
    run.save(update_fields=["status", "closed_at", "outcome"])
    record(events.RUN_REOPENED, actor=actor, subject=run, run_id=run.pk, reason=reason)
    return run


def withdraw_questions(run_id: UUID, *, actor: Actor, reason: str) -> None:
    """Take back what people are still asked in a run that has ended. The run is locked."""
    waiting = ApprovalRequest.objects.select_for_update().pending().filter(run_id=run_id)
    for request in waiting.order_by("pk"):
        withdraw(request.pk, actor=actor, reason=reason)
        Action.objects.filter(approval_id=request.pk, status=Action.Status.WAITING).update(
            status=Action.Status.WITHDRAWN, changed_at=timezone.now()
        )
