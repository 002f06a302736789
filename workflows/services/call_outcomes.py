"""Consequences of a call's outcome for its step."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Max

from actions import events as action_events
from actions.models import Action, Attempt
from actions.services import results
from actions.services.attempts import OpenAttempt
from actions.services.decisions import action_subject
from actions.services.execution import was_not_carried_out
from audit.services.recorder import event_row
from common.actors import SYSTEM
from common.ids import first_key_at
from tools.connectors.base import ConnectorError, NoResponse, NotSent, ToolResult
from tools.definitions import ToolSpec
from tools.services.breakers import Where, count_failure, count_success, open_breakers
from workflows.definitions.spec import Retry, StepSpec
from workflows.models import StepRun
from workflows.run_state import StepState, forward_path
from workflows.services.preparation import ProbeResult
from workflows.services.unit_of_work import RunUnitOfWork

MAX_CRASHES = 3
MAX_PROBES = 5
PROBE_AFTER = timedelta(seconds=1)
MAX_RETRY_AFTER = timedelta(minutes=10)

_jitter = random.SystemRandom()


@dataclass(frozen=True)
class CallOutcome:
    """One call as its worker saw it: a result or an error."""

    path: str
    action: Action
    started: OpenAttempt
    tool: ToolSpec
    result: ToolResult | None = None
    error: ConnectorError | None = None


def apply(turn: RunUnitOfWork, outcome: CallOutcome) -> None:
    """Write the end of an attempt and what follows, if the attempt is still this worker's.

    An attempt that was given up meanwhile keeps its late answer as evidence. One that is closed
    already was closed by this worker, whose commit was applied though its reply was lost.
    """
    status = turn.loaded.attempt_status
    if status == Attempt.Status.UNKNOWN and outcome.result is not None:
        results.keep_late_answer(
            outcome.action,
            outcome.started,
            outcome="succeeded",
            evidence=outcome.result.value,
            now=turn.case.now,
        )
    if status != Attempt.Status.STARTED:
        return
    state = turn.case.steps[outcome.path]
    if outcome.error is None:
        _on_success(turn, state, outcome)
    else:
        _on_failure(turn, state, outcome, outcome.error)
    turn.batch.progress.append(results.progress(outcome.action, turn.case.now))
    state.action_status = outcome.action.status
    for other in turn.case.steps.values():
        if other.waiting_for == StepRun.WaitsFor.TURN:
            other.due_at = turn.case.now  # this call was what it waited for, or may have been
            turn.touch(other)


def _on_success(turn: RunUnitOfWork, state: StepState, outcome: CallOutcome) -> None:
    case, action, result = turn.case, outcome.action, outcome.result or ToolResult(None)
    turn.batch.closed.append(
        results.attempt_end(outcome.started, Attempt.Status.SUCCEEDED, now=case.now)
    )
    turn.batch.events.append(
        results.succeeded(action, outcome.tool, outcome.started, result, now=case.now)
    )
    turn.add_labels(outcome.tool.labels)
    if turn.loaded.has_open_breakers:
        count_success((outcome.tool.system, case.environment), open_breakers())
    turn.finish(state, "succeeded", output=result.value, said=True)


def _on_failure(
    turn: RunUnitOfWork, state: StepState, outcome: CallOutcome, error: ConnectorError
) -> None:
    case, step = turn.case, turn.spec.step(forward_path(state.path))
    is_unknown = isinstance(error, NoResponse)
    again = not case.is_over and _may_try_again(state, step, error)
    # A system's own no is about this key; a call that did not arrive says nothing of earlier ones.
    state.in_doubt = is_unknown or (state.in_doubt and was_not_carried_out(error))
    case.errors_count += 1
    if isinstance(error, NoResponse | NotSent):  # not what the system itself puts off
        where = (outcome.tool.system, case.environment)
        count_failure(where, now=case.now, successes=lambda since: _answered_since(where, since))
    ended = Attempt.Status.UNKNOWN if is_unknown else Attempt.Status.FAILED
    turn.batch.closed.append(results.attempt_end(outcome.started, ended, now=case.now, error=error))
    turn.batch.events.append(
        results.failed(
            outcome.action,
            outcome.started,
            error,
            now=case.now,
            unknown=is_unknown,
            again=again,
        )
    )
    state.error_code, state.error = error.code, str(error)[:500]
    if again:
        outcome.action.status = Action.Status.READY
        schedule_retry(turn, state, step.retry, failures=state.attempts, at_least=error.retry_after)
    elif state.in_doubt:
        outcome.action.status = Action.Status.UNKNOWN
        mark_outcome_unknown(turn, state, step)
    else:
        outcome.action.status = Action.Status.FAILED
        turn.finish(state, "failed", code=error.code, message=str(error))


def _answered_since(where: Where, since: datetime) -> int:
    """Count the calls to an endpoint that were answered since a moment; by keys that grow with
    time.
    """
    system, environment = where
    return Attempt.objects.filter(
        pk__gte=first_key_at(since),
        status=Attempt.Status.SUCCEEDED,
        action__environment=environment,
        action__tool__startswith=f"{system}.",
    ).count()


def _may_try_again(state: StepState, step: StepSpec, error: ConnectorError) -> bool:
    if state.attempts >= step.retry.max_attempts:
        return False
    return was_not_carried_out(error) or (
        isinstance(error, NoResponse)
        and step.class_of(compensates=bool(state.compensates)) == "retry"
    )


def schedule_retry(
    turn: RunUnitOfWork,
    state: StepState,
    retry: Retry,
    *,
    failures: int,
    at_least: float | None = None,
) -> None:
    """Exponential back-off with full jitter, and not before the system said."""
    wait = timedelta(seconds=_jitter.uniform(0, retry.bound(max(failures, 1))))
    asked = min(timedelta(seconds=at_least or 0), MAX_RETRY_AFTER)
    state.status, state.waiting_for = "retry", ""
    state.due_at = turn.case.now + max(wait, asked)
    turn.touch(state)


def mark_outcome_unknown(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """The effect is unknown: the system is asked if it can be, else a person.

    The system is asked only when the call's whole time limit is over: before that, "not found"
    could mean "not yet".
    """
    state.status, state.waiting_for, state.in_doubt = "unknown", "", True
    is_probed = (
        step.class_of(compensates=bool(state.compensates)) == "probe" and not turn.case.is_over
    )
    state.due_at = max(turn.case.now, _time_limit(state, step)) + PROBE_AFTER if is_probed else None
    state.done = 0  # probes made
    turn.touch(state)


def _time_limit(state: StepState, step: StepSpec) -> datetime:
    """Return when the last call of the step can no longer be in flight."""
    call = step.call_of(compensates=bool(state.compensates))
    begun: datetime = Attempt.objects.filter(action_id=str(state.action_id)).aggregate(
        at=Max("started_at")
    )["at"]
    return begun + timedelta(seconds=call.tool.timeout_seconds if call else 0.0)


def handle_lost_worker(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """Its worker went away during the call. By the tool's class: again, ask the tool, or people."""
    state.crashes += 1
    state.in_doubt = True
    turn.case.errors_count += 1
    is_repeated = (
        step.class_of(compensates=bool(state.compensates)) == "retry" and not turn.case.is_over
    )
    if is_repeated and state.crashes >= MAX_CRASHES:
        turn.set_action(state, Action.Status.FAILED.value)
        message = f"Whoever carried it out went away {state.crashes} times."
        turn.finish(state, "failed", code="max_crashes_exceeded", message=message)
    elif is_repeated:
        turn.set_action(state, Action.Status.READY.value)
        schedule_retry(turn, state, step.retry, failures=state.crashes)
    else:
        mark_outcome_unknown(turn, state, step)


def probe_answered(turn: RunUnitOfWork, state: StepState, probed: ProbeResult) -> None:
    """The system has said by key whether the call took effect, or could not say."""
    action = Action.objects.select_for_update().get(pk=str(state.action_id))
    if probed.error:
        state.done += 1
        # After some attempts a person is asked: there is no due time then.
        wait = PROBE_AFTER * 2**state.done
        state.due_at = turn.case.now + wait if state.done < MAX_PROBES else None
        state.error_code, state.error = "probe_failed", probed.error[:500]
        turn.touch(state)
        return
    call = turn.spec.step(forward_path(state.path)).call_of(compensates=bool(state.compensates))
    turn.batch.events.append(
        event_row(
            action_events.CALL_PROBED,
            actor=SYSTEM,
            subject=action_subject(action),
            run_id=action.run_id,
            at=turn.case.now,
            details={
                "tool": action.tool,
                "probe": call.tool.probe if call else "",
                "found": probed.found,
            },
        )
    )
    if probed.found:
        action.status, action.result = Action.Status.SUCCEEDED, probed.result
        action.error_code = action.error = ""
        turn.add_labels(probed.labels)
        turn.finish(state, "succeeded", output=probed.result)
    else:
        action.status = Action.Status.READY
        state.status, state.due_at, state.in_doubt = "retry", turn.case.now, False
        turn.touch(state)
    state.action_status = action.status.value if hasattr(action.status, "value") else action.status
    turn.batch.progress.append(results.progress(action, turn.case.now))
