"""The planner of a run. Pure: a definition, a run's state and a moment in, a plan out.

No database, no clock, no network. The engine calls it under the run's lock, and once before to see
which call to prepare.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from common.cel import ExpressionFailed, WorkBudget, WorkMeter
from workflows.definitions.spec import StepSpec, WorkflowSpec
from workflows.expression_context import (
    add_step_result,
    build_context,
    is_true,
    item_values,
    values_at,
)
from workflows.run_state import (
    BROKEN,
    DONE,
    StepState,
    WorkflowState,
    index_of,
    item_scope,
    undo_path,
)

EXPRESSION_FAILED = "expression_failed"
ITEM_FAILED = "item_failed"
# How soon a run looks again whether the one that it is part of goes on; it is woken before that.
HOLD = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class StepStart:
    """A step that may begin, with the values that its expressions see."""

    path: str
    step: StepSpec
    values: Mapping[str, Any]
    scope: str = ""
    compensates: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    path: str
    kind: str
    scope: str
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class RunEnd:
    """The end, rest or reversal of a run: a status, with the reason."""

    status: str
    reason: str = ""
    ending: str = ""


@dataclass
class Plan:
    """Everything that follows from a run's state at one moment."""

    skip: list[StepStart] = field(default_factory=list)
    fail: list[Failure] = field(default_factory=list)
    begin: list[StepStart] = field(default_factory=list)
    go_on: list[str] = field(default_factory=list)  # open steps with news, or whose time has come
    fold: dict[str, bool] = field(default_factory=dict)  # scopes of finished items: was it good
    settle: list[str] = field(default_factory=list)  # foreach steps whose items are all done
    due_at: datetime | None = None
    end: RunEnd | None = None

    def nothing_new(self) -> None:
        """Drop the moves planned so far."""
        self.begin, self.skip, self.go_on, self.fold, self.settle = [], [], [], {}, []

    def wait_until(self, moment: datetime | None) -> None:
        if moment is not None and (self.due_at is None or moment < self.due_at):
            self.due_at = moment


def plan(spec: WorkflowSpec, case: WorkflowState, now: datetime) -> Plan:
    """The moves from here. A run that rests moves only by a person's order; what was under way
    when it came to rest is taken note of all the same.
    """
    moves = Plan()
    if case.is_resting:
        _settle(case, moves, now)
        moves.due_at = None
        return moves
    known = build_context(spec, case, now)
    if case.status == "compensating":
        _undo(spec, case, known, moves, now)
        return moves
    moves.end = _stopped(spec, case, known, now)
    if moves.end is not None:
        return moves
    moves.wait_until(case.deadline_at)
    if case.is_paused_by_parent:
        _settle(case, moves, now)
        moves.wait_until(now + HOLD)
        return moves
    _forward(spec, case, known, moves, now)
    return moves


# -- stopping ------------------------------------------------------------------------------------


def _stopped(
    spec: WorkflowSpec, case: WorkflowState, known: Mapping[str, Any], now: datetime
) -> RunEnd | None:
    """Return the end of the run that does not depend on its steps: checked wherever a step could
    begin.
    """
    if case.run.status != "open":
        return RunEnd("halted", "Its run was halted or closed.")
    if case.cut_off:
        return RunEnd("halted", case.cut_off)
    if now >= case.deadline_at:
        return failing(spec.on_failure, "The time limit of the run has passed.")
    budget = WorkBudget(meter=case.work)
    for rule in spec.stop_when:
        try:
            met = is_true(rule.condition, known, budget=budget)
        except ExpressionFailed:
            return RunEnd("halted", f"A stop condition could not be evaluated: {rule.reason}")
        if met:
            return failing(rule.then, f"Stopped: {rule.reason}")
    return None


def failing(then: str, reason: str) -> RunEnd:
    """Return the end of a run that does not succeed, as its definition says."""
    if then == "compensate":
        return RunEnd("compensating", reason, ending="compensated")
    return RunEnd("halted" if then == "halt" else "failed", reason)


# -- forward -------------------------------------------------------------------------------------


def _forward(
    spec: WorkflowSpec, case: WorkflowState, known: dict[str, Any], moves: Plan, now: datetime
) -> None:
    statuses = {path: state.status for path, state in case.steps.items() if not state.scope}
    for name, step in spec.steps.items():
        state = case.steps.get(name)
        if state is None or state.is_anew:
            if all(statuses.get(need) in DONE for need in step.needs):
                _enter(StepStart(name, step, known), known, moves, statuses, work=case.work)
        elif state.kind == "foreach" and state.is_open:
            _items(step, case, known, moves, now)
        elif state.is_open:
            _look_at(state, moves, now)
    _see_to_the_end(spec, case, moves, now, statuses=statuses)


def _see_to_the_end(
    spec: WorkflowSpec,
    case: WorkflowState,
    moves: Plan,
    now: datetime,
    *,
    statuses: Mapping[str, str],
) -> None:
    """Whether the run is at its end, or on its way to one."""
    broken = _broken(case, moves)
    denied = _denied(case) if spec.on_denied == "halt" else None
    if denied is not None:
        moves.nothing_new()
        moves.end = RunEnd("halted", f"Policy denied the step {denied.path}: {denied.error}")
    elif broken is not None:
        _wind_up(broken, spec, case, moves, now)
    elif all(statuses.get(name) in DONE for name in spec.steps):
        # What is skipped only now is written down first.
        moves.end = None if moves.skip else RunEnd("succeeded")
    elif moves.begin and case.steps_count >= spec.limits.max_steps:
        moves.end = failing(spec.on_failure, "The run has taken all the steps it may.")


def _enter(
    begin: StepStart,
    known: dict[str, Any],
    moves: Plan,
    statuses: dict[str, str],
    *,
    work: WorkMeter,
) -> bool:
    """Begin, skip or fail a step whose needs are done; whether what follows may be looked at."""
    step = begin.step
    if step.when is not None and work.is_full and (moves.begin or moves.skip or moves.fail):
        return False  # There is enough to do by now; the next turn looks at this one.
    budget = WorkBudget(meter=work)
    try:
        wanted = step.when is None or is_true(step.when, begin.values, budget=budget)
    except ExpressionFailed as error:
        moves.fail.append(
            Failure(begin.path, step.kind, begin.scope, EXPRESSION_FAILED, str(error))
        )
        statuses[begin.path] = "failed"
        return False
    if wanted:
        moves.begin.append(begin)
        return False
    moves.skip.append(begin)
    statuses[begin.path] = "skipped"
    add_step_result(known, step.name, "skipped", None)
    return True


def _look_at(state: StepState, moves: Plan, now: datetime) -> None:
    """Whether an open step can go on: something has happened, or its time has come."""
    is_due = state.due_at is not None and state.due_at <= now
    if is_due or has_news(state):
        moves.go_on.append(state.path)
    if not is_due:
        # Also with news: they may be such as change nothing.
        moves.wait_until(state.due_at)


def has_news(state: StepState) -> bool:
    """Whether what the step waits for has come about."""
    if state.action_id is not None and state.kind == "tool":
        return _action_moved(state)
    if state.waiting_for == "approval":
        return state.approval_status not in {None, "pending"}
    if state.waiting_for == "signal":
        return state.has_signal
    if state.waiting_for == "child":
        return state.child_status in {"succeeded", "failed", "compensated", "cancelled"} or (
            bool(state.compensates) and state.child_status == "compensation_failed"
        )
    return False


_ACTION_STANDS = {
    "running": {"executing"},
    "unknown": {"unknown"},
    "waiting": {"waiting"},
}


def _action_moved(state: StepState) -> bool:
    if state.status == "retry" or state.waiting_for in {"breaker", "turn"}:
        # Its time is what it waits for; only an end of the action comes before that.
        return state.action_status not in {None, "ready", "unknown", "executing"}
    return state.action_status not in _ACTION_STANDS.get(state.status, set())


def _broken(case: WorkflowState, moves: Plan) -> str | None:
    """The first step that did not succeed, if the run cannot go on because of it."""
    for path, state in case.steps.items():
        if state.status in BROKEN and not state.scope and not state.compensates:
            return path
    for failure in moves.fail:
        if not failure.scope:
            return failure.path
    return None


def _denied(case: WorkflowState) -> StepState | None:
    """A step that policy denied, of an item too as long as the item is not counted."""
    for state in case.steps.values():
        if state.status == "denied" and not state.compensates and not state.folded:
            return state
    return None


def _wind_up(
    broken: str, spec: WorkflowSpec, case: WorkflowState, moves: Plan, now: datetime
) -> None:
    """Nothing new begins. What is under way is settled first, then the run ends as it says."""
    moves.nothing_new()
    if _settle(case, moves, now) or moves.fail:
        return
    state = case.steps.get(broken)
    said = f": {state.error}" if state is not None and state.error else ""
    moves.end = failing(spec.on_failure, f"The step {broken} did not succeed{said}")


def _settle(case: WorkflowState, moves: Plan, now: datetime) -> bool:
    """Look only at what is under way or unknown; whether there is any."""
    in_flight = [
        state
        for state in case.steps.values()
        if state.in_flight and (case.is_resting or not state.compensates)
    ]
    for state in in_flight:
        _look_at(state, moves, now)
    return bool(in_flight)


# -- foreach -------------------------------------------------------------------------------------


def _items(
    step: StepSpec, case: WorkflowState, known: Mapping[str, Any], moves: Plan, now: datetime
) -> None:
    """Look at the items under way, then begin new ones up to the limit of those at a time."""
    state, each = case.steps[step.name], step.foreach
    if each is None or state.input is None:
        return
    mine = [s for s in case.steps.values() if s.scope.startswith(f"{step.name}[")]
    under_way = {index_of(s.scope) for s in mine if not s.folded}
    finished = 0
    for index in sorted(under_way):
        finished += _item(step, case, known, moves, now, index=index, item=state.input[index])
    # One new item at a time, so that those that have begun are always the first so many; and none
    # once one has failed that stops the others: a resume would take up more than may go at a time.
    index = state.begun
    stops = each.fail == "stop" and any(not good for good in _ended(moves, step))
    if index < state.total and not stops and len(under_way) - finished < each.parallel:
        _item(step, case, known, moves, now, index=index, item=state.input[index])
    failed = [scope for scope, good in moves.fold.items() if not good and _is_of(scope, step)]
    if failed and each.fail == "stop":
        message = f"The item {index_of(failed[0])} did not succeed."
        moves.fail.append(Failure(step.name, "foreach", "", ITEM_FAILED, message))
    elif state.done + state.failures + len(_folded(moves, step)) >= state.total:
        moves.settle.append(step.name)


def _is_of(scope: str, step: StepSpec) -> bool:
    return scope.startswith(f"{step.name}[")


def _ended(moves: Plan, step: StepSpec) -> list[bool]:
    """Of the items that end with these moves, whether each is good."""
    return [good for scope, good in moves.fold.items() if _is_of(scope, step)]


def _folded(moves: Plan, step: StepSpec) -> list[str]:
    return [scope for scope in moves.fold if _is_of(scope, step)]


def _item(
    step: StepSpec,
    case: WorkflowState,
    known: Mapping[str, Any],
    moves: Plan,
    now: datetime,
    *,
    index: int,
    item: Any,
) -> bool:
    """Go through one item's steps, one after the other; whether the item is finished."""
    if step.foreach is None:
        return True
    scope = item_scope(step.name, index)
    values = item_values(known, case, step, index, item)
    for name, inner in step.foreach.steps.items():
        path = f"{scope}.{name}"
        state = case.steps.get(path)
        if state is None or state.is_anew:
            begin = StepStart(path, inner, values, scope=scope)
            if not _enter(begin, values, moves, {}, work=case.work):
                if any(failure.path == path for failure in moves.fail):
                    break
                return False
        elif state.is_open:
            _look_at(state, moves, now)
            return False
        elif state.status in BROKEN:
            break
    else:
        moves.fold[scope] = True
        return True
    moves.fold[scope] = False
    return True


# -- undoing -------------------------------------------------------------------------------------


def _undo(
    spec: WorkflowSpec, case: WorkflowState, known: dict[str, Any], moves: Plan, now: datetime
) -> None:
    """Take back what succeeded, the last first and one at a time; what is under way before that."""
    if case.run.status != "open":
        moves.end = RunEnd("compensation_failed", "Its run was halted or closed.")
        return
    if _settle(case, moves, now):
        return
    for state in effects(spec, case):
        undoing = case.steps.get(undo_path(state.path))
        if undoing is None or undoing.is_anew:
            step = spec.step(state.path)
            values = values_at(spec, case, known, state)
            moves.begin.append(
                StepStart(undo_path(state.path), step, values, scope="", compensates=state.path)
            )
            return
        if undoing.is_open:
            _look_at(undoing, moves, now)
            return
        if undoing.status in BROKEN:
            moves.end = RunEnd("compensation_failed", f"{state.path} could not be undone.")
            return
    moves.end = RunEnd(case.ending or "compensated", case.reason)


def effects(spec: WorkflowSpec, case: WorkflowState) -> list[StepState]:
    """The steps whose effect can be taken back, the last to finish first."""
    found = [
        state
        for state in case.steps.values()
        if state.status == "succeeded"
        and not state.compensates
        and (state.child_id is not None or spec.step(state.path).compensate is not None)
    ]
    return sorted(found, key=lambda state: state.finished_seq or 0, reverse=True)


def with_result(case: WorkflowState, path: str, output: Any) -> WorkflowState:
    """The case as it will be if the step at `path` succeeds with this output: for looking ahead."""
    state = replace(case.steps[path], status="succeeded", output=output, due_at=None)
    return replace(case, steps={**case.steps, path: state})
