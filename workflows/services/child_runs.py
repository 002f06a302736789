"""Runs within runs: another workflow of the same agent, or work handed over to another agent."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from accounts.people import people_named
from actions.models import Run
from actions.services.run_locks import LockedRun
from actions.services.runs import Budget
from agents.directory import Directory, KnownIdentity
from agents.tokens import Caller
from common.actors import Actor
from common.cel import WorkBudget
from common.errors import GovernanceError, NotFound
from policies.snapshot import snapshot
from workflows import events
from workflows.definitions.spec import Child, StepSpec
from workflows.errors import HandoffRefused
from workflows.models import StepRun, WorkflowRun
from workflows.planning import StepStart
from workflows.run_state import StepState, index_of
from workflows.services.recovery import reopen, start_compensation
from workflows.services.run_loader import lock_state
from workflows.services.runs import Start, request_key, start_in_transaction
from workflows.services.unit_of_work import RunUnitOfWork
from workflows.spec_cache import spec_of

MAX_CHAIN = 3  # agents that handed over before the one who acts
MAX_DEPTH = 5


def begin(turn: RunUnitOfWork, one: StepStart, state: StepState) -> None:
    """Start the child in this transaction; what it is refused for fails the step."""
    child = one.step.child
    if child is None:
        return
    inputs = child.inputs.resolve(one.values, budget=WorkBudget(meter=turn.case.work))
    state.input = inputs
    try:
        if turn.case.depth >= MAX_DEPTH:
            message = f"Runs within runs go {MAX_DEPTH} deep at most."
            raise HandoffRefused(message)
        made = _start(turn, one.path, child, inputs, generation=state.generation)
    except GovernanceError as refusal:
        turn.finish(state, "failed", code=refusal.code, message=str(refusal))
        return
    state.child_id, state.child_status = made.pk, "running"
    turn.wait(state, StepRun.WaitsFor.CHILD)


def _start(
    turn: RunUnitOfWork, path: str, child: Child, inputs: Mapping[str, Any], *, generation: int
) -> WorkflowRun:
    case, run = turn.case, turn.case.run
    directory = snapshot.current().directory
    acting = directory.identities[case.client_id]
    chain, identity, epoch = run.chain, acting, case.epoch
    if child.agent:
        identity = _handed_to(directory, child.agent, acting, run.chain)
        chain, epoch = (*run.chain, case.client_id), identity.epoch
    if acting.epoch != case.epoch:
        message = "What the agent was allowed when this run began has been withdrawn since."
        raise HandoffRefused(message)
    scopes = frozenset(case.scope.split())
    caller = Caller(identity, scopes, jti="", epoch=epoch, expires_at=0)
    asked = Start(
        workflow=child.workflow,
        inputs=inputs,
        key=f"{case.id}:{path}:{generation}",
        origin="run",
        # Whoever the work is done for stays the same: a person does not approve what she began.
        initiator_kind=Run.Initiator(Run.objects.values_list("initiator_kind").get(pk=run.id)[0]),
        initiator=run.initiator,
        purpose=run.purpose,
        labels=run.labels,
        budget=_left(run),
        deadline_at=case.deadline_at,
        chain=chain,
        parent=case.id,
        parent_path=path,
        depth=case.depth + 1,
    )
    agent = Actor("agent", case.client_id, case.client_id)
    made = start_in_transaction(caller, asked, request_key(caller, asked), actor=agent)
    _reserve(turn, made.pk)
    if child.agent:
        turn.note(events.HANDED_OVER, to=identity.client_id, run=str(made.pk), depth=len(chain))
    return made


def _handed_to(
    directory: Directory, agent: str, acting: KnownIdentity, chain: tuple[str, ...]
) -> KnownIdentity:
    """The identity that takes over. Raises HandoffRefused for nobody, a circle, or too many."""
    found = next(
        (
            one
            for one in directory.identities.values()
            if one.agent_slug == agent and one.environment == acting.environment
        ),
        None,
    )
    if found is None or not found.usable:
        message = f"{agent} is not active in {acting.environment}."
        raise HandoffRefused(message)
    if found.client_id in {*chain, acting.client_id}:
        message = f"{agent} has handed this work over itself: that would be a circle."
        raise HandoffRefused(message)
    if len(chain) >= MAX_CHAIN:
        message = f"Work is handed over {MAX_CHAIN} times at most."
        raise HandoffRefused(message)
    return found


def _left(run: LockedRun) -> Budget:
    """Return the most that a child run may use."""
    actions = amount = None
    if run.budget_actions is not None:
        actions = max(0, run.budget_actions - run.actions)
    if run.budget_amount is not None:
        amount = max(Decimal(0), run.budget_amount - run.amount)
    return Budget(actions, amount)


def _reserve(turn: RunUnitOfWork, child_id: UUID) -> None:
    """Count what the child may use up as used until it is back: its own limits, if it has any."""
    run, child = turn.case.run, Run.objects.get(pk=child_id)
    if run.budget_actions is not None and child.budget_actions is not None:
        run.actions += child.budget_actions
    if run.budget_amount is not None and child.budget_amount is not None:
        run.amount += child.budget_amount
    turn.batch.runs[run.id] = run.totals()


def go_on(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """The child has ended: take over its labels, give back what it did not use, finish."""
    child = WorkflowRun.objects.select_related("run").get(pk=state.child_id)
    _settle_up(turn, child.run)
    if child.status == WorkflowRun.Status.SUCCEEDED:
        turn.finish(state, "succeeded", output=child.output)
    else:
        message = f"The run of {child.workflow} ended as {child.get_status_display()}."
        turn.finish(state, "failed", code=f"child_{child.status}", message=message)


def _settle_up(turn: RunUnitOfWork, used: Run) -> None:
    run = turn.case.run
    run.labels = tuple(sorted({*run.labels, *used.labels}))
    if used.budget_actions is not None and run.budget_actions is not None:
        run.actions -= used.budget_actions - used.actions_count
    if used.budget_amount is not None and run.budget_amount is not None:
        run.amount -= used.budget_amount - used.amount
    turn.batch.runs[run.id] = run.totals()


@dataclass(frozen=True)
class Gathered:
    """The results of one item of a foreach."""

    index: int
    status: str
    output: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        return {"index": self.index, "status": self.status, "output": self.output}


def gathered(turn: RunUnitOfWork, step: StepSpec, state: StepState) -> list[dict[str, Any]]:
    """Each item's outputs by inner step, in order; those of this transaction are in memory."""
    written = StepRun.objects.filter(
        run_id=turn.case.id, scope__startswith=f"{state.path}[", compensates=""
    ).values_list("path", "scope", "status", "output")
    rows = {path: (scope, status, output) for path, scope, status, output in written}
    for one in turn.case.steps.values():
        if one.scope.startswith(f"{state.path}[") and not one.compensates:
            rows[one.path] = (one.scope, one.status, one.output)
    found: dict[int, Gathered] = {}
    for path, (scope, status, output) in rows.items():
        index = index_of(scope)
        held = found.setdefault(index, Gathered(index, "succeeded", {}))
        held.output[path.rpartition(".")[2]] = output
        if status not in {"succeeded", "skipped"}:
            found[index] = Gathered(index, status, held.output)
    return [found[index].plain() for index in sorted(found)]


def answerable(turn: RunUnitOfWork) -> list[int]:
    """Return who began this, and who is responsible for its agents: they may not approve it."""
    known = snapshot.current().directory.identities
    run = turn.case.run
    behind = people_named(run.initiator)
    parties = (*run.chain, turn.case.client_id)
    return sorted({*behind, *(pk for party in parties for pk in known[party].conflicted_users)})


def undo(turn: RunUnitOfWork, one: StepStart, child_id: UUID) -> None:
    """Have a child that succeeded take back what it did; its end is waited for.

    People may have ordered that of the child itself: what is undone is not undone again, and what
    could not be is tried anew.
    """
    state = turn.begin(one.path, one.step.kind, "waiting", compensates=one.compensates)
    state.child_id = child_id
    loaded = lock_state(child_id, wait=True, everything=True)
    if loaded is None:
        raise NotFound
    if loaded.case.status == WorkflowRun.Status.COMPENSATED:
        turn.finish(state, "succeeded")
        return
    if loaded.case.status != WorkflowRun.Status.COMPENSATING:
        reason = f"Undone with {turn.case.workflow}."
        child = RunUnitOfWork(spec_of(loaded.case.version_id), loaded, turn.lease, actor=turn.actor)
        reopen(child, actor=turn.actor, reason=reason)
        start_compensation(child, reason)
        child.case.next_wake_at = turn.case.now
        child.hints += 1
        child.write()
    state.child_status = "compensating"
    turn.wait(state, StepRun.WaitsFor.CHILD)


def finish_undo(turn: RunUnitOfWork, state: StepState) -> None:
    if state.child_status == "compensated":
        turn.finish(state, "succeeded")
    else:
        turn.finish(state, "failed", code="child_not_undone", message="The child was not undone.")
