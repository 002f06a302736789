"""Commands of operators on a run: cancel, resume, retry, compensate."""

from uuid import UUID

from agents.tokens import Caller, covers
from audit.generation import hold_shared
from common.actors import Actor
from common.commands import command
from common.errors import NotFound
from common.input_checks import clean_reason
from workflows import events
from workflows.errors import InvalidRunState
from workflows.models import StepRun, WorkflowRun, WorkflowVersion
from workflows.services.recovery import keep_result, reopen, resume_steps, start_compensation
from workflows.services.run_loader import lock_state
from workflows.services.unit_of_work import RunUnitOfWork
from workflows.services.wakeups import wake
from workflows.services.worker import lease
from workflows.spec_cache import spec_of

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
        raise InvalidRunState
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
    by: Caller | None = None,
    of: frozenset[str] = STOPPED,
) -> None:
    """Let a halted or failed run go on from its checkpoint: what succeeded is not done again.

    What did not succeed is decided and done anew, with another key; a run that could not be undone
    goes on being undone. The agent's present standing counts. `of`: the statuses that may be
    resumed. An agent (`by`) has only that go on which its token could have started. Raises
    NotFound, WrongRunState.
    """
    above = _locked_above(run_id) if by is None else []
    turn = _turn(run_id, actor, by.identity.pk if by else None)
    case = turn.case
    if case.status not in of or _is_left_behind(turn):
        raise InvalidRunState
    if by is not None:
        _ensure_for_agents(turn, by)
    _ordered(turn, "resume", reason)
    reopen(turn, actor=actor, reason=reason)
    for run in above:
        keep_result(run)
    if case.status == "compensation_failed":
        start_compensation(turn, case.reason)
    else:
        resume_steps(turn)
        _wake_children(turn)
    _go(turn)


def _is_left_behind(turn: RunUnitOfWork) -> bool:
    """Whether the run that it was part of waits for it no more: that one is resumed instead."""
    case = turn.case
    if case.parent_id is None or not case.is_over:
        return False
    waiting = StepRun.objects.filter(run_id=case.parent_id, child_id=case.id, status="waiting")
    return not waiting.exists()


def _locked_above(run_id: UUID) -> list[WorkflowRun]:
    """The runs that this one is part of, the outermost first, locked in that order."""
    hold_shared()
    found: list[UUID] = []
    above = WorkflowRun.objects.filter(pk=run_id).values_list("parent_id", flat=True).first()
    while above is not None:
        found.insert(0, above)
        above = WorkflowRun.objects.values_list("parent_id", flat=True).get(pk=above)
    runs = WorkflowRun.objects.select_for_update(of=("self",), no_key=True)
    return [runs.select_related("run__identity").get(pk=pk) for pk in found]


def _ensure_for_agents(turn: RunUnitOfWork, by: Caller) -> None:
    """Raises WrongRunState for what only people may have go on."""
    case = turn.case
    version = WorkflowVersion.objects.only("status").get(pk=case.version_id)
    is_over_time = case.deadline_at <= case.now
    is_within = case.parent_id is not None
    is_retired = version.status != WorkflowVersion.Status.PUBLISHED
    is_beyond = not covers(by.scopes, case.scope.split())
    if is_over_time or is_within or is_retired or is_beyond:
        message = "Only people may have this run go on."
        raise InvalidRunState(message)


def _wake_children(turn: RunUnitOfWork) -> None:
    """Runs within it were held back as long as it rested."""
    for state in turn.case.steps.values():
        if state.is_open and state.waiting_for == "child" and state.child_id is not None:
            wake(state.child_id)


@command
def undo(run_id: UUID, *, actor: Actor, reason: str) -> None:
    """Take back what a run has done, the last first. Raises NotFound, WrongRunState."""
    turn = _turn(run_id, actor, None)
    case = turn.case
    if case.status not in {*STOPPED, "cancelled", "succeeded", "waiting", "running"}:
        raise InvalidRunState
    _ordered(turn, "undo", reason)
    reopen(turn, actor=actor, reason=reason)
    start_compensation(turn, clean_reason(reason))
    _go(turn)


def _turn(run_id: UUID, actor: Actor, identity_id: int | None) -> RunUnitOfWork:
    loaded = lock_state(run_id, wait=True, everything=True)
    if loaded is None or identity_id not in {None, loaded.case.run.identity_id}:
        raise NotFound
    return RunUnitOfWork(spec_of(loaded.case.version_id), loaded, lease(), actor=actor)


def _ordered(turn: RunUnitOfWork, order: str, reason: str) -> None:
    reason = clean_reason(reason)
    turn.note(events.RUN_ORDERED, order=order, reason=reason)


def _go(turn: RunUnitOfWork) -> None:
    turn.case.next_wake_at = turn.case.now
    turn.hints += 1
    turn.write()
