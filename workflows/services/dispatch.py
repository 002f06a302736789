"""Claiming a call: deciding it and committing its attempt, in the transaction of the turn."""

from dataclasses import dataclass
from datetime import timedelta

from actions.models import Action, Run
from actions.services.attempts import OpenAttempt
from actions.services.decisions import decide_into
from actions.services.freshness import is_current, locked_turns
from actions.services.redecision import decide_again, run_row
from agents.errors import InvalidToken
from policies.snapshot import Snapshot
from tools.definitions import ToolSpec
from tools.services.breakers import OpenBreaker, Where, open_breakers, win_probe
from workflows.definitions.spec import StepSpec, ToolCall
from workflows.models import StepRun
from workflows.run_state import StepState, forward_path
from workflows.services.preparation import PreparedStep
from workflows.services.unit_of_work import RunUnitOfWork

TOOL_CHANGED = "tool_changed"
PROBE_MARGIN = timedelta(seconds=15)
TURN_AGAIN = timedelta(seconds=1)


@dataclass(frozen=True)
class DispatchedCall:
    """A call whose attempt is committed: it may be made now."""

    path: str
    action: Action
    started: OpenAttempt
    tool: ToolSpec
    held: Snapshot
    timeout_seconds: float


def begin(
    turn: RunUnitOfWork, look: PreparedStep, *, scope: str, compensates: str
) -> DispatchedCall | None:
    """Decide a step's call; the claim, if it is allowed and its endpoint is let through."""
    case = turn.case
    step = turn.spec.step(forward_path(look.path))
    call = step.call_of(compensates=bool(compensates))
    state = turn.begin(look.path, step.kind, "running", scope=scope, compensates=compensates)
    if call is None or look.prepared is None:
        _not_proposed(turn, state, look)
        return None
    if look.prepared.call.tool.digest != call.tool.digest:
        message = f"{call.tool.name} has changed since this version was checked against it."
        turn.finish(state, "denied", code=TOOL_CHANGED, message=message)
        return None
    if _is_held_back(turn, state, look.prepared.call.tool):
        return None
    case.steps_count += 1
    state.attempts += 1
    committed = decide_into(turn.batch, look.prepared, case.run, now=case.now)
    action = committed.action
    state.action_id, state.action_status = action.pk, str(action.status)
    state.input = action.arguments
    _apply_decision(turn, state, action)
    if committed.started is None:
        return None
    return _build_call(look, state, action, committed.started, seconds=_seconds(call, step))


def resume(turn: RunUnitOfWork, look: PreparedStep) -> DispatchedCall | None:
    """Decide a ready action again and begin its next attempt; None if it is not to be made."""
    state = turn.case.steps[look.path]
    if look.is_behind:
        _wait_for_turn(turn, state)
        return None
    if look.prepared is None or look.action_id is None:
        return None
    if _is_held_back(turn, state, look.prepared.call.tool):
        return None
    resumed = decide_again(look.prepared, look.action_id, lease=turn.lease)
    if resumed is None:
        return None
    # The second decision has counted for itself.
    turn.case.run = run_row(Run.objects.get(pk=turn.case.id))
    state.attempts += 1
    state.action_status = str(resumed.action.status)
    turn.touch(state)
    _apply_decision(turn, state, resumed.action)
    step = turn.spec.step(forward_path(look.path))
    call = step.call_of(compensates=bool(state.compensates))
    if resumed.started is None or call is None:
        return None
    return _build_call(look, state, resumed.action, resumed.started, seconds=_seconds(call, step))


def was_overtaken(turn: RunUnitOfWork, look: PreparedStep) -> bool:
    """Whether a call was begun since the facts of this one were read: they are read again."""
    read_at = look.prepared.read_at if look.prepared is not None else None
    if read_at is None:
        return False
    turn.batch.turns |= locked_turns([read_at.key])
    return not is_current(read_at, effects=turn.case.run.effects, turns=turn.batch.turns)


def _wait_for_turn(turn: RunUnitOfWork, state: StepState) -> None:
    until = turn.case.now + TURN_AGAIN
    if state.waiting_for == StepRun.WaitsFor.TURN:
        # Said once; looked at again and again.
        state.status, state.due_at = "waiting", until
        turn.touch(state)
    else:
        turn.wait(state, StepRun.WaitsFor.TURN, until=until)


def _build_call(
    look: PreparedStep, state: StepState, action: Action, started: OpenAttempt, *, seconds: float
) -> DispatchedCall | None:
    if look.prepared is None:
        return None
    state.status, state.waiting_for, state.due_at = "running", "", None
    return DispatchedCall(
        look.path, action, started, look.prepared.call.tool, look.prepared.snapshot, seconds
    )


def _seconds(call: ToolCall, step: StepSpec) -> float:
    return step.timeout.total_seconds() if step.timeout else call.tool.timeout_seconds


def _apply_decision(turn: RunUnitOfWork, state: StepState, action: Action) -> None:
    """Apply a decision to the step where it does not begin a call."""
    decided = action.redecision or {"outcome": action.outcome, "reasons": action.reasons}
    outcome = str(decided["outcome"])
    if outcome == "needs_approval":
        turn.wait(state, StepRun.WaitsFor.APPROVAL)
        # Whoever decides tells the run by its action; the step's own approval is another thing.
        state.approval_id = None
    elif outcome in {"denied", "halted"}:
        titles = "; ".join(reason["title"] for reason in decided["reasons"])
        turn.finish(state, "denied", code=outcome, message=titles)
        if outcome == "halted":
            turn.case.run.status = "halted"


def _not_proposed(turn: RunUnitOfWork, state: StepState, look: PreparedStep) -> None:
    if look.is_behind:
        _wait_for_turn(turn, state)
    else:
        _apply_refusal(turn, state, look)


def _apply_refusal(turn: RunUnitOfWork, state: StepState, look: PreparedStep) -> None:
    """The call could not even be proposed."""
    if look.refusal is None:
        turn.finish(state, "failed", code="expression_failed", message=look.failure)
        return
    if isinstance(look.refusal, InvalidToken):
        message = "The agent is not active, or was stopped since the run was started."
        turn.finish(state, "denied", code="identity_not_active", message=message)
        return
    turn.finish(state, "failed", code=look.refusal.code, message=str(look.refusal))


def _is_held_back(turn: RunUnitOfWork, state: StepState, tool: ToolSpec) -> bool:
    """Whether the endpoint's breaker is open; one of all processes wins the probe of it."""
    if not turn.loaded.has_open_breakers:
        return False
    where: Where = (tool.system, turn.case.environment)
    breaker: OpenBreaker | None = open_breakers().get(where)
    if breaker is None:
        return False
    now = turn.case.now
    until = now + timedelta(seconds=tool.timeout_seconds) + PROBE_MARGIN
    if win_probe(where, now=now, until=until):
        return False
    turn.wait(state, StepRun.WaitsFor.BREAKER, until=breaker.next_chance(now))
    return True
