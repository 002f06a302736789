"""One turn of a run: one transaction that holds the result of the last call and the next intent.

Locks in the order of everywhere: the generation (shared), the Run with its workflow run, then
approvals, actions, breakers.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.db import transaction

from actions.models import Action
from common.cel import ExpressionFailed, WorkMeter
from workflows.definitions.spec import StepSpec
from workflows.expression_context import build_context, is_true
from workflows.planning import Plan, RunEnd, StepStart, failing, plan
from workflows.run_state import StepState, WorkflowState, forward_path
from workflows.services import call_outcomes, child_runs, dispatch, step_handlers
from workflows.services.call_outcomes import CallOutcome
from workflows.services.dispatch import DispatchedCall
from workflows.services.preparation import PreparedStep, required_preparation
from workflows.services.run_loader import lock_state
from workflows.services.unit_of_work import CHECK_AGAIN, LOOK_AGAIN, RunUnitOfWork
from workflows.spec_cache import spec_of

MAX_PASSES = 300
# A turn holds the generation meanwhile, and a halt waits for it.
MAX_SECONDS = 0.5
MAX_HINTS = 4


@dataclass(frozen=True)
class TickResult:
    """A turn that is in the database."""

    case: WorkflowState | None = None  # None: no such run, or somebody else is at it
    claimed: DispatchedCall | None = None
    has_more: bool = False  # a call could be made, for which nothing was prepared


def tick(
    run_id: UUID,
    *,
    lease: timedelta,
    outcome: CallOutcome | None = None,
    look: PreparedStep | None = None,
    known: WorkflowState | None = None,
) -> TickResult:
    """Apply what a call came to, move the run as far as it goes, and claim the next call.

    `known` is the case as the last turn of this worker left it; it is changed in place. Raises the
    database's own error: then nothing of it happened, or all of it.
    """
    with transaction.atomic():
        loaded = lock_state(
            run_id,
            wait=outcome is not None,
            attempt_id=outcome.started.id if outcome else None,
            known=known,
        )
        if loaded is None:
            return TickResult()
        loaded.case.work = WorkMeter(until=time.monotonic() + MAX_SECONDS)
        turn = RunUnitOfWork(spec_of(loaded.case.version_id), loaded, lease)
        if outcome is not None:
            call_outcomes.apply(turn, outcome)
        moves = _apply_plan(turn)
        claimed = _claim(turn, moves, look)
        moves = _after(turn, moves, look, claimed)
        more = _calls_left(turn, moves)
        _set_alarm(turn, moves, has_more=more > 0, claimed=claimed)
        turn.write()
    return TickResult(turn.case, claimed, more > 0)


def _after(
    turn: RunUnitOfWork, moves: Plan, look: PreparedStep | None, claimed: DispatchedCall | None
) -> Plan:
    """The moves once a call was claimed, or refused, which may have ended the run."""
    if look is None or not (turn.fresh or turn.touched):
        return moves
    if claimed is not None and not turn.case.steps[claimed.path].scope:
        moves.begin = [one for one in moves.begin if one.path != claimed.path]
        moves.go_on = [path for path in moves.go_on if path != claimed.path]
        return moves
    return _apply_plan(turn)


def _apply_plan(turn: RunUnitOfWork) -> Plan:
    """Everything that needs no call, one pass after the other until nothing moves."""
    moves = Plan()
    for _ in range(MAX_PASSES):
        moves = plan(turn.spec, turn.case, turn.case.now)
        if moves.end is not None:
            _end(turn, moves.end)
        elif not _pass(turn, moves):
            return moves
        if turn.case.work.is_full:
            break
    # There is more to do than goes into one transaction: again at once.
    moves.due_at = turn.case.now
    turn.hints += 1
    return moves


def _pass(turn: RunUnitOfWork, moves: Plan) -> bool:
    """Make the moves of one pass that need no call; whether there were any."""
    moved = False
    for one in moves.skip:
        state = turn.begin(one.path, one.step.kind, "skipped", scope=one.scope)
        turn.finish(state, "skipped")
        moved = True
    for failure in moves.fail:
        state = turn.case.steps.get(failure.path) or turn.add(
            failure.path, failure.kind, "failed", scope=failure.scope
        )
        turn.finish(state, "failed", code=failure.code, message=failure.message)
        moved = True
    for scope, good in moves.fold.items():
        step_handlers.fold_item(turn, scope, good=good)
        moved = True
    for path in moves.settle:
        step_handlers.settle_items(turn, path, turn.spec.steps[path])
        moved = True
    return _open_ones(turn, moves) or _new_ones(turn, moves) or moved


def _new_ones(turn: RunUnitOfWork, moves: Plan) -> bool:
    moved = False
    for one in moves.begin:
        if one.step.call_of(compensates=bool(one.compensates)) is None:
            _begin(turn, one)
            moved = True
            if turn.case.work.is_full:
                break
    return moved


def _begin(turn: RunUnitOfWork, one: StepStart) -> None:
    if one.compensates:
        child_id = turn.case.steps[one.compensates].child_id
        if child_id is not None:
            child_runs.undo(turn, one, child_id)
        return
    step_handlers.begin(turn, one)


def _open_ones(turn: RunUnitOfWork, moves: Plan) -> bool:
    moved = False
    for path in moves.go_on:
        state = turn.case.steps[path]
        step = turn.spec.step(forward_path(path))
        if required_preparation(state, step) is None:
            before = (state.status, state.due_at, state.waiting_for)
            _go_on(turn, state, step)
            moved = moved or before != (state.status, state.due_at, state.waiting_for)
            if moved and turn.case.work.is_full:
                break
    return moved


def _go_on(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    if step.call_of(compensates=bool(state.compensates)) is not None:
        _TOOL_NEWS.get(state.action_status or "", _nothing)(turn, state, step)
    elif state.compensates:
        child_runs.finish_undo(turn, state)
    else:
        step_handlers.go_on(turn, state, step)


# -- news of a call ------------------------------------------------------------------------------


def _nothing(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """Nothing follows from this."""


def _finish_succeeded(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """A person has said that it took effect, and with what result."""
    action = Action.objects.only("result").get(pk=str(state.action_id))
    turn.finish(state, "succeeded", output=action.result)


def _finish_failed(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    action = Action.objects.only("error_code", "error").get(pk=str(state.action_id))
    state.in_doubt = False
    turn.finish(state, "failed", code=action.error_code, message=action.error)


def _gone(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    if state.status == "running":
        call_outcomes.handle_lost_worker(turn, state, step)


def _over(
    status: str, code: str, message: str
) -> Callable[[RunUnitOfWork, StepState, StepSpec], None]:
    def finish(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
        turn.finish(state, status, code=code, message=message)

    return finish


_TOOL_NEWS: dict[str, Callable[[RunUnitOfWork, StepState, StepSpec], None]] = {
    "succeeded": _finish_succeeded,
    "failed": _finish_failed,
    "unknown": _gone,
    "rejected": _over("failed", "rejected_by_people", "People said no."),
    "expired": _over("expired", "not_answered", "Nobody answered in time."),
    "withdrawn": _over("cancelled", "withdrawn", "The question was withdrawn."),
    "denied": _over("denied", "denied", "Policy denied it."),
    "halted": _over("denied", "halted", "A halt or a rule stopped it."),
}


# -- claiming ------------------------------------------------------------------------------------


def _claim(turn: RunUnitOfWork, moves: Plan, look: PreparedStep | None) -> DispatchedCall | None:
    """Use what was prepared, if it is still what comes next and nothing has moved since."""
    if look is None or look.mark != turn.case.mark or turn.case.is_resting:
        return None
    return None if dispatch.was_overtaken(turn, look) else _claim_looked(turn, moves, look)


def _claim_looked(turn: RunUnitOfWork, moves: Plan, look: PreparedStep) -> DispatchedCall | None:
    if look.kind == "begin":
        return _claim_new(turn, moves, look)
    state = turn.case.steps.get(look.path)
    if state is None or look.path not in moves.go_on:
        return None
    if required_preparation(state, turn.spec.step(forward_path(look.path))) != look.kind:
        return None
    if look.kind == "probe" and look.probed is not None:
        call_outcomes.probe_answered(turn, state, look.probed)
        return None
    # A second decision writes the run's totals itself: not beside others' in one transaction.
    return None if turn.batch.runs else dispatch.resume(turn, look)


def _claim_new(turn: RunUnitOfWork, moves: Plan, look: PreparedStep) -> DispatchedCall | None:
    if look.path in moves.go_on:
        state = turn.case.steps[look.path]
        if required_preparation(state, turn.spec.step(forward_path(look.path))) != "begin":
            return None
        return dispatch.begin(turn, look, scope=state.scope, compensates=state.compensates)
    for one in moves.begin:
        if one.path == look.path and _is_same_call(turn, one, look):
            return dispatch.begin(turn, look, scope=one.scope, compensates=one.compensates)
    return None


def _is_same_call(turn: RunUnitOfWork, one: StepStart, look: PreparedStep) -> bool:
    """Whether the values have not changed since they were looked at."""
    call = one.step.call_of(compensates=bool(one.compensates))
    if call is None or look.prepared is None:
        return call is not None
    try:
        sent = look.prepared.proposal
        return bool(
            call.arguments.resolve(one.values) == sent.arguments
            and call.claims.resolve(one.values) == sent.claims
        )
    except ExpressionFailed:
        return False


def _calls_left(turn: RunUnitOfWork, moves: Plan) -> int:
    """Count the calls that could be made and that this turn has not claimed."""
    if turn.case.is_resting:
        return 0
    begin = sum(1 for one in moves.begin if one.step.call_of(compensates=bool(one.compensates)))
    go_on = sum(
        1
        for path in moves.go_on
        if required_preparation(turn.case.steps[path], turn.spec.step(forward_path(path)))
    )
    return begin + go_on


def _set_alarm(
    turn: RunUnitOfWork, moves: Plan, *, has_more: bool, claimed: DispatchedCall | None
) -> None:
    """Set when the run must be looked at again, even if this worker and its hints are lost."""
    case = turn.case
    if case.is_resting:
        case.next_wake_at = None
        return
    busy = any(state.status == "running" for state in case.steps.values())
    if has_more and claimed is not None:
        # Others may make these at the same time.
        turn.hints += min(_calls_left(turn, moves), MAX_HINTS)
    # Past its time limit, as while it is undone, only news moves it, and news wakes it.
    alarm = moves.due_at or max(case.deadline_at, case.now + LOOK_AGAIN)
    if busy:
        alarm = min(alarm, case.now + turn.lease + CHECK_AGAIN)
    # An alarm that is set already and comes soon enough stays: a row whose indexed columns do not
    # change costs PostgreSQL no index entries.
    set_already = (
        case.next_wake_at is not None and case.now + turn.lease <= case.next_wake_at <= alarm
    )
    if has_more or not set_already:
        case.next_wake_at = case.now if has_more else alarm
    if case.status != "compensating":
        waits = not busy and not has_more
        case.status = "waiting" if waits else "running"


# -- ends ----------------------------------------------------------------------------------------


def _end(turn: RunUnitOfWork, end: RunEnd) -> None:
    case = turn.case
    if end.status == "succeeded":
        values = build_context(turn.spec, case, case.now)
        try:
            case.output = turn.spec.output.resolve(values)
            case.success_condition_met = (
                None if turn.spec.success is None else is_true(turn.spec.success, values)
            )
        except ExpressionFailed as error:
            end = failing(turn.spec.on_failure, f"The output could not be computed: {error}")
            turn.end(end.status, end.reason, end.ending)
            return
    elif turn.spec.success is not None and end.status != "compensating":
        case.success_condition_met = False
    turn.end(end.status, end.reason, end.ending)
