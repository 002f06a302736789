from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from django.db import connection
from django.utils import timezone

from actions import events, executors
from actions.errors import RunAlreadyOpen, RunNotOpen
from actions.models import Action, Run
from actions.services import tables
from agents.directory import KnownIdentity
from agents.tokens import Caller, revalidate
from approvals.models import ApprovalRequest
from approvals.services import withdraw
from audit.generation import hold_shared
from audit.models import Event
from audit.services.recorder import EVENTS, Subject, event_row, record
from common.actors import Actor
from common.commands import command
from common.errors import NotFound
from common.ids import uuid7
from common.input_checks import clean_reason
from common.sql import Row, write
from policies.services.elevations import ELEVATE
from policies.snapshot import snapshot


@dataclass(frozen=True, slots=True)
class Budget:
    """The most a run may use; None is no limit."""

    actions: int | None = None
    amount: Decimal | None = None


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to be opened: who or what starts it, why, and within which bounds.

    `chain`: the client ids of agents that handed this work over. Each call is decided for all of
    them, and the strictest decision holds.
    """

    initiator_kind: Run.Initiator
    initiator: str
    purpose: str
    reference: str = ""
    labels: Iterable[str] = ()
    budget: Budget = field(default_factory=Budget)
    chain: tuple[str, ...] = ()
    chain_epochs: Mapping[str, int] = field(default_factory=dict)
    delegation: str = ""
    id: UUID = field(default_factory=uuid7)


@command
def open_run(caller: Caller, opening: NewRun, *, actor: Actor) -> Run:
    """Start a run. Raises InvalidToken if the caller may no longer act.

    With a token that was exchanged (RFC 8693) it is the run of everybody in its chain.
    """
    hold_shared()
    directory = snapshot.current().directory
    identity = revalidate(caller, directory).identity
    opening = replace(opening, chain=caller.chain, chain_epochs=caller.epochs)
    if caller.person:
        # For whom it is, is the person's own word here and not the agent's.
        behind = directory.persons[caller.person]
        opening = replace(
            opening,
            delegation=caller.person,
            initiator_kind=Run.Initiator.USER,
            initiator=behind.username,
        )
    row, event = run_rows(identity, opening, actor=actor, now=timezone.now())
    write(connection, [(tables.RUNS, [row]), (EVENTS, [event])])
    return Run(**row)


def run_rows(
    identity: KnownIdentity, opening: NewRun, *, actor: Actor, now: datetime
) -> tuple[Row, Row]:
    """The rows of a run and of its event, for writers that commit several at once.

    The caller holds the generation's shared lock and has looked at the identity under it.
    """
    budget = opening.budget
    row = {
        "id": opening.id,
        "identity_id": identity.pk,
        "agent": identity.agent_slug,
        "environment": identity.environment,
        "initiator_kind": opening.initiator_kind.value,
        "initiator": opening.initiator,
        "purpose": opening.purpose,
        "reference": opening.reference,
        "status": Run.Status.OPEN.value,
        "labels": sorted(set(opening.labels)),
        "budget_actions": budget.actions,
        "budget_amount": None if budget.amount is None else str(budget.amount),
        "actions_count": 0,
        "denials_count": 0,
        "amount": Decimal(0),
        "opened_at": now,
        "outcome": "",
        "chain": list(opening.chain),
        "chain_epochs": dict(opening.chain_epochs),
        "delegation": opening.delegation,
        "effects_count": 0,
    }
    event = event_row(
        events.RUN_STARTED,
        actor=actor,
        subject=run_subject(opening.id),
        run_id=opening.id,
        at=now,
        details={
            "initiator_kind": opening.initiator_kind.value,
            "initiator": opening.initiator,
            "purpose": opening.purpose,
            "reference": opening.reference,
            "labels": row["labels"],
            "environment": identity.environment,
            "agent": identity.client_id,
            "chain": list(opening.chain),
            "delegation": opening.delegation,
        },
    )
    return row, event


def run_subject(run_id: UUID) -> Subject:
    return Subject("actions.run", str(run_id), f"run {str(run_id)[-12:]}")


@command
def close_run(run_id: UUID, *, actor: Actor, identity_id: int, outcome: str) -> Run:
    """End a run; questions still open in it are withdrawn. Raises NotFound, RunNotOpen."""
    run = Run.objects.select_for_update().filter(pk=run_id, identity_id=identity_id).first()
    if run is None:
        raise NotFound
    if run.status != Run.Status.OPEN:
        raise RunNotOpen
    withdraw_questions(run.pk, actor=actor, reason="The run was closed.")
    executors.notify_run_ended(run.pk)
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
        events=Event.objects.recorded_of_run(run.pk),
    )
    return run


@command
def reopen_run(run_id: UUID, *, actor: Actor, reason: str) -> Run:
    """Open a halted or closed run again, by a person's order. Raises NotFound, RunNotEnded.

    Nothing is allowed by it: every call is decided as before, and a halt in force still halts.
    """
    reason = clean_reason(reason)
    run = Run.objects.select_for_update().filter(pk=run_id).first()
    if run is None:
        raise NotFound
    if run.status == Run.Status.OPEN:
        raise RunAlreadyOpen
    run.status, run.closed_at, run.outcome = Run.Status.OPEN, None, ""
    run.save(update_fields=["status", "closed_at", "outcome"])
    record(events.RUN_REOPENED, actor=actor, subject=run, run_id=run.pk, reason=reason)
    return run


def withdraw_questions(run_id: UUID, *, actor: Actor, reason: str) -> None:
    """Take back what people are still asked in a run that has ended.

    Within the caller's transaction, the run locked.
    """
    # A question about an elevation is taken back by a sweeper: answering it waits for decisions
    # to end, and this is called in one.
    waiting = ApprovalRequest.objects.select_for_update().pending().exclude(kind=ELEVATE)
    waiting = waiting.filter(run_id=run_id)
    for request in waiting.order_by("pk"):
        withdraw(request.pk, actor=actor, reason=reason)
        Action.objects.filter(approval_id=request.pk, status=Action.Status.WAITING).update(
            status=Action.Status.WITHDRAWN, changed_at=timezone.now()
        )
