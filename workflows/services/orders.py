"""What people order about a run: cancel, resume, try again, undo."""

from uuid import UUID

from actions.models import Run
from actions.services.runs import reopen_run
from agents.directory import directory
from common.actors import Actor
from common.commands import command
from common.errors import NotFound, required_reason
from workflows import events
from workflows.compiled import spec_of
from workflows.errors import WrongRunState
from workflows.models import WorkflowRun
from workflows.services.driving import lease
from workflows.services.loading import locked_case
from workflows.services.turns import Turn
from workflows.states import BROKEN, StepState

GOING_FORWARD = frozenset({"running", "waiting"})
STOPPED = frozenset({"failed", "halted", "compensation_failed"})


@command
def cancel(run_id: UUID, *, actor: Actor, reason: str, identity_id: int | None = None) -> None:
    """End a run where it is; nothing is undone. Calls under way are recorded when they answer.

    An agent (`identity_id`) cancels only what goes forward: a run that was halted or is being
    undone is left to people. Raises NotFound (also for another agent's run), WrongRunState if it
    has ended.
    """
    turn = _turn(run_id, actor, identity_id)
    case = turn.case
    left_to_people = identity_id is not None and case.status not in GOING_FORWARD
    if case.status in WorkflowRun.ENDED or left_to_people:
        raise WrongRunState
    _ordered(turn, "cancel", reason)
    for state in case.steps.values():
        if state.child_id is not None and state.is_open:
            _cancel_child(state.child_id, actor=actor, reason=reason)
            turn.finish(state, "cancelled", code="cancelled", message="The run was cancelled.")
    turn.end("cancelled", reason)
    turn.write()


def _cancel_child(run_id: UUID, *, actor: Actor, reason: str) -> None:
    child = WorkflowRun.objects.filter(pk=run_id).values_list("status", flat=True).first()
    if child is not None and child not in WorkflowRun.ENDED:
        cancel(run_id, actor=actor, reason=reason)


@command
def resume(
    run_id: UUID,
    *,
    actor: Actor,
    reason: str,
    identity_id: int | None = None,
    of: frozenset[str] = STOPPED,
) -> None:
    """Let a halted or failed run go on from its checkpoint: what succeeded is not done again.

    What did not succeed is decided and done anew, with another key. The agent's present standing
    counts. `of`: the statuses that may be resumed. Raises NotFound, WrongRunState.
    """
    turn = _turn(run_id, actor, identity_id)
    case = turn.case
    if case.status not in of:
        raise WrongRunState
    _ordered(turn, "resume", reason)
    _reopen(turn, actor=actor, reason=reason)
    for state in _not_done(turn):
        _do_anew(turn, state)
    case.status = "compensating" if case.ending and _undoes(turn) else "running"
    case.ended_at, case.reason, case.is_partial, case.had_success = None, "", False, None
    _go(turn)


@command
def undo(run_id: UUID, *, actor: Actor, reason: str) -> None:
    """Take back what a run has done, the last first. Raises NotFound, WrongRunState."""
    turn = _turn(run_id, actor, None)
    case = turn.case
    if case.status not in {*STOPPED, "cancelled", "succeeded", "waiting", "running"}:
        raise WrongRunState
    _ordered(turn, "undo", reason)
    _reopen(turn, actor=actor, reason=reason)
    case.ended_at = None
    turn.end("compensating", required_reason(reason), ending="compensated")
    _go(turn)


def _turn(run_id: UUID, actor: Actor, identity_id: int | None) -> Turn:
    loaded = locked_case(run_id, wait=True, everything=True)
    if loaded is None or identity_id not in {None, loaded.case.run.identity_id}:
        raise NotFound
    return Turn(spec_of(loaded.case.version_id), loaded, lease(), actor=actor)


def _ordered(turn: Turn, order: str, reason: str) -> None:
    reason = required_reason(reason)
    turn.note(events.RUN_ORDERED, order=order, reason=reason)


def _reopen(turn: Turn, *, actor: Actor, reason: str) -> None:
    """The run may act again, as its agent stands today; every call is decided as ever."""
    case = turn.case
    if case.run.status != Run.Status.OPEN:
        reopen_run(case.id, actor=actor, reason=reason)
        case.run.status, case.run.closed_at, case.run.outcome = Run.Status.OPEN, None, ""
    known = directory.fresh().identities.get(case.client_id)
    if known is not None and known.epoch != case.epoch:
        case.epoch = known.epoch
        WorkflowRun.objects.filter(pk=case.id).update(epoch=known.epoch)


def _not_done(turn: Turn) -> list[StepState]:
    """What is to be done anew. An item that a foreach has counted stays as it was counted, unless
    the foreach itself is done anew."""
    broken = [state for state in turn.case.steps.values() if state.status in BROKEN]
    anew = {state.path for state in broken}
    return [s for s in broken if not s.folded or s.scope.split("[", 1)[0] in anew]


def _do_anew(turn: Turn, state: StepState) -> None:
    state.status, state.waits_for, state.ended_at = "retry", "", None
    state.generation += 1
    state.tries = state.crashes = 0
    state.total = state.begun = state.done = state.failures = 0
    state.action_id = state.approval_id = state.child_id = None
    state.action_status = state.approval_status = state.child_status = None
    state.finished_seq, state.error_code, state.error = None, "", ""
    state.due_at, state.folded = turn.case.now, False
    turn.touch(state)


def _undoes(turn: Turn) -> bool:
    return any(state.undoes for state in turn.case.steps.values())


def _go(turn: Turn) -> None:
    turn.case.wake_at = turn.case.now
    turn.hints += 1
    turn.write()
