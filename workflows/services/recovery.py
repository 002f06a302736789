"""Continuation of a run that has stopped: forward again, or back."""

from django.db.models import F

from actions.models import Run
from actions.services.runs import reopen_run
from agents.directory import directory
from common.actors import Actor
from workflows import events
from workflows.models import WorkflowRun
from workflows.run_state import BROKEN, StepState
from workflows.services.unit_of_work import RunUnitOfWork

_GONE = "withdrawn"


def reopen(turn: RunUnitOfWork, *, actor: Actor, reason: str) -> None:
    """The run may act again, as its agent stands today; every call is decided as ever."""
    case = turn.case
    if case.run.status != Run.Status.OPEN:
        reopen_run(case.id, actor=actor, reason=reason)
        case.run.status, case.run.closed_at, case.run.outcome = Run.Status.OPEN, None, ""
    known = directory.current().identities.get(case.client_id)
    if known is not None and known.epoch != case.epoch:
        case.epoch = known.epoch
        WorkflowRun.objects.filter(pk=case.id).update(epoch=known.epoch)
    case.ended_at, case.is_partial, case.success_condition_met = None, False, None


def keep_result(run: WorkflowRun) -> None:
    """Count the work of a child run again for its agent, as that stands today."""
    epoch = run.run.identity.epoch
    if run.epoch != epoch:
        WorkflowRun.objects.filter(pk=run.pk).update(epoch=epoch, revision=F("revision") + 1)


def resume_steps(turn: RunUnitOfWork) -> None:
    """Have done anew what did not succeed. What may have taken effect is asked about first."""
    steps = [state for state in turn.case.steps.values() if not state.compensates]
    for state in steps:
        if state.kind == "foreach" and state.status in BROKEN and state.input is not None:
            _take_up_items(turn, state)
    for state in steps:
        is_broken = state.status in BROKEN and not state.folded  # a counted item stays counted
        was_asked = state.is_open and _GONE in {state.action_status, state.approval_status}
        if is_broken or was_asked:
            _anew(turn, state)
    turn.case.status, turn.case.reason = "running", ""
    _extend(turn)


def start_compensation(turn: RunUnitOfWork, reason: str) -> None:
    """Take back what the run has done, the last first; what could not be undone is tried anew."""
    for state in list(turn.case.steps.values()):
        if state.compensates and state.status in BROKEN:
            _anew(turn, state)
    if turn.case.status == "compensation_failed":
        # It had turned round before: nothing is left to be cancelled.
        turn.case.status, turn.case.reason = "compensating", reason
        turn.note(events.RUN_COMPENSATING, reason=reason)
        return
    turn.end("compensating", reason, ending="compensated")


def _anew(turn: RunUnitOfWork, state: StepState) -> None:
    if state.in_doubt:
        turn.leave_unknown(state)
    else:
        state.start_anew(turn.case.now)
    turn.touch(state)


def _take_up_items(turn: RunUnitOfWork, outer: StepState) -> None:
    """Go on with the items of a foreach: those that are done stay done, as do failures that are
    collected; what stopped it begins anew.
    """
    foreach = turn.spec.steps[outer.path].foreach
    mine = [s for s in turn.case.steps.values() if s.scope.startswith(f"{outer.path}[")]
    mine = [state for state in mine if not state.compensates]
    bad = {state.scope for state in mine if state.status in BROKEN}
    if foreach is not None and foreach.fail == "stop":
        for state in mine:
            if state.scope in bad and state.folded:
                state.folded = False
                turn.touch(state)
    counted = {state.scope for state in mine if state.folded}
    outer.status, outer.waiting_for, outer.ended_at = "waiting", "items", None
    outer.finished_seq, outer.error_code, outer.error = None, "", ""
    outer.done, outer.failures = len(counted - bad), len(counted & bad)
    turn.touch(outer)


def _extend(turn: RunUnitOfWork) -> None:
    """A run whose time is over is given its time again by whoever has it go on."""
    case = turn.case
    if case.deadline_at <= case.now:
        case.deadline_at = case.now + turn.spec.limits.deadline
        WorkflowRun.objects.filter(pk=case.id).update(deadline_at=case.deadline_at)
