"""The steps that call no tool: people, time, signals, items, children."""

from datetime import UTC, datetime, timedelta
from typing import Any

from approvals.eligibility import is_backed
from approvals.models import ApprovalRequest
from approvals.services import NewApprovalRequest, question_rows, spend, tier_terms
from approvals.visible_values import APART
from audit.services.recorder import Subject
from common.actors import SYSTEM, Actor
from common.cel import ExpressionFailed, WorkBudget
from common.errors import GovernanceError
from workflows import events
from workflows.definitions.spec import Approval, StepSpec, Wait
from workflows.definitions.templates import json_of
from workflows.expression_context import is_true, values_of
from workflows.models import Signal, StepRun
from workflows.planning import StepStart
from workflows.run_state import StepState
from workflows.services import child_runs
from workflows.services.unit_of_work import RunUnitOfWork

STEP_APPROVAL = "workflows.step"
EXPRESSION_FAILED = "expression_failed"
MAX_WAIT = timedelta(days=366)


def begin(turn: RunUnitOfWork, one: StepStart) -> None:
    """Begin a step that calls no tool; a value that cannot be computed fails it, and so does what
    is not there any more, such as a tier.
    """
    state = turn.begin(one.path, one.step.kind, "waiting", scope=one.scope)
    turn.case.steps_count += 1
    try:
        _BEGIN[one.step.kind](turn, one, state)
    except ExpressionFailed as error:
        turn.finish(state, "failed", code=EXPRESSION_FAILED, message=str(error))
    except GovernanceError as refusal:
        turn.finish(state, "failed", code=refusal.code, message=str(refusal))


def go_on(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    """Resume a waiting step because its condition was met or it timed out."""
    _GO_ON[step.kind](turn, state, step)


# -- people --------------------------------------------------------------------------------------


def _ask(turn: RunUnitOfWork, one: StepStart, state: StepState) -> None:
    asked = one.step.approval
    if asked is None:
        return
    case = turn.case
    shown = asked.show.resolve(one.values, budget=WorkBudget(meter=case.work))
    question = NewApprovalRequest(
        kind=STEP_APPROVAL,
        title=asked.question,
        subject=Subject("workflows.steprun", str(state.id), f"{case.workflow}: {one.path}"),
        tier=tier_terms(asked.tier),
        snapshot={
            "workflow": case.workflow,
            "step": one.path,
            "title": one.step.title,
            "agent": case.client_id,
            "environment": case.environment,
            "shown": shown,
            "workflow_run": str(case.id),
            **({APART: {"/shown": turn.data_class()}} if turn.data_class() else {}),
        },
        reasons=[_reason(turn, one, asked.tier)],
        conflicted_users=child_runs.answerable(turn),
        initiator=turn.case.run.initiator,
        run_id=case.id,
        data_class=turn.data_class(),
    )
    agent = Actor("agent", case.client_id, case.client_id)
    row, event = question_rows(question, actor=agent, now=case.now)
    turn.batch.requests.append(row)
    turn.batch.events.append(event)
    state.approval_id, state.approval_status = question.id, "pending"
    state.input = shown
    turn.wait(state, StepRun.WaitsFor.APPROVAL)


def _reason(turn: RunUnitOfWork, one: StepStart, tier: str) -> dict[str, str]:
    """Why people are asked: it is the workflow's step that asks, and where it says when, that."""
    step = one.step
    sentence = f"The step “{step.title}” of the workflow {turn.spec.title} asks {tier} to approve."
    if step.when is not None:
        sentence += f" It applies when: {step.when.text}"
    return {"rule": f"workflow:{turn.case.workflow}", "title": step.title, "reason": sentence}


def _resume_approval(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    request = ApprovalRequest.objects.select_for_update().get(pk=str(state.approval_id))
    votes = [
        {"who": str(vote.voter), "answer": vote.answer}
        for vote in request.votes.select_related("voter")
    ]
    if request.status == ApprovalRequest.Status.APPROVED:
        if not is_backed(request):
            # Somebody who approved may no longer decide this: people are asked again.
            values = values_of(turn.spec, turn.case, state, turn.case.now)
            _ask(turn, StepStart(state.path, step, values, state.scope, state.compensates), state)
            return
        spend(request.pk, actor=SYSTEM, action=f"step {state.path}")
        turn.finish(state, "succeeded", output={"approved": True, "votes": votes})
        return
    asked: Approval | None = step.approval
    on_expiry = asked.on_expiry if asked else "fail"
    if request.status == ApprovalRequest.Status.EXPIRED:
        if on_expiry == "continue":
            turn.finish(state, "succeeded", output={"approved": False, "votes": votes})
            return
        turn.finish(state, "expired", code="not_answered", message="Nobody answered in time.")
        if on_expiry == "halt":
            turn.end("halted", f"Nobody answered {state.path} in time.")
        return
    if request.status == ApprovalRequest.Status.WITHDRAWN:
        turn.finish(state, "cancelled", code="withdrawn", message="The question was withdrawn.")
        return
    turn.finish(state, "failed", code="rejected_by_people", message="People said no.")


# -- time and signals ----------------------------------------------------------------------------


def _wait(turn: RunUnitOfWork, one: StepStart, state: StepState) -> None:
    wait = one.step.wait
    if wait is None:
        return
    now = turn.case.now
    if wait.signal:
        turn.wait(state, StepRun.WaitsFor.SIGNAL, until=now + (wait.timeout or MAX_WAIT))
        _take_signal(turn, state, wait, one.values)
        return
    until = _moment(wait, one.values, now, WorkBudget(meter=turn.case.work))
    turn.wait(state, StepRun.WaitsFor.TIME, until=min(until, now + MAX_WAIT))


def _moment(wait: Wait, values: Any, now: datetime, budget: WorkBudget) -> datetime:
    if wait.length is not None:
        return now + wait.length
    value = wait.until.evaluate(values, budget=budget) if wait.until else None
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError as error:
        message = "This is not a moment."
        raise ExpressionFailed(message) from error
    if not isinstance(moment, datetime):
        message = "This is not a moment."
        raise ExpressionFailed(message)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _resume_wait(turn: RunUnitOfWork, state: StepState, step: StepSpec) -> None:
    wait = step.wait
    if wait is None:
        return
    if not wait.signal:
        turn.finish(state, "succeeded")
        return
    values = values_of(turn.spec, turn.case, state, turn.case.now)
    if _take_signal(turn, state, wait, values):
        return
    if state.due_at is not None and state.due_at <= turn.case.now:
        if wait.on_timeout == "continue":
            turn.finish(state, "succeeded", output=None)
        else:
            message = f"The signal {wait.signal} did not come in time."
            turn.finish(state, "expired", code="no_signal", message=message)
    else:
        # Signals of other names, or that do not match, stay for others.
        state.has_signal = False


def _take_signal(turn: RunUnitOfWork, state: StepState, wait: Wait, values: Any) -> bool:
    """Consume the first signal that fits; each is consumed once."""
    taken = {signal_id for signal_id, _ in turn.consumed}
    waiting = Signal.objects.filter(
        run_id=turn.case.id, name=wait.signal, consumed_at=None
    ).order_by("pk")
    # One budget for all: many signals must not keep the run, and every halt, waiting.
    budget = WorkBudget(meter=turn.case.work)
    for signal in waiting.iterator(chunk_size=10):
        if budget.left < 0:
            break
        if signal.pk not in taken and _fits(wait, signal, values, budget):
            turn.consumed.append((signal.pk, state.path))
            turn.note(events.SIGNAL_CONSUMED, name=signal.name, path=state.path)
            turn.finish(state, "succeeded", output=signal.payload)
            return True
    return False


def _fits(wait: Wait, signal: Signal, values: Any, budget: WorkBudget) -> bool:
    if wait.match is None:
        return True
    try:
        return is_true(wait.match, {**values, "signal": signal.payload}, budget=budget)
    except ExpressionFailed:
        return False


# -- items ---------------------------------------------------------------------------------------


def _spread(turn: RunUnitOfWork, one: StepStart, state: StepState) -> None:
    each = one.step.foreach
    if each is None:
        return
    items = json_of(each.items.evaluate(one.values, budget=WorkBudget(meter=turn.case.work)))
    if not isinstance(items, list):
        message = "This is not a list."
        raise ExpressionFailed(message)
    if len(items) > each.max_items:
        message = f"There are {len(items)} items where {each.max_items} are allowed."
        turn.finish(state, "failed", code="too_many_items", message=message)
        return
    state.input, state.total = items, len(items)
    if not items:
        turn.finish(state, "succeeded", output={"total": 0, "failed": 0, "items": []})
        return
    turn.wait(state, StepRun.WaitsFor.ITEMS)


def settle_items(turn: RunUnitOfWork, path: str, step: StepSpec) -> None:
    """All items are finished: gather what they brought, which fails if it is too much to keep."""
    state = turn.case.steps[path]
    items = child_runs.gathered(turn, step, state)
    try:
        output = json_of({"total": state.total, "failed": state.failures, "items": items})
    except ExpressionFailed as error:
        turn.finish(state, "failed", code="output_not_kept", message=str(error))
        return
    turn.finish(state, "succeeded", output=output)


def fold_item(turn: RunUnitOfWork, scope: str, *, good: bool) -> None:
    """An item is finished: its steps need not be read any more."""
    outer = turn.case.steps[scope.split("[", 1)[0]]
    for state in turn.case.steps.values():
        if state.scope == scope:
            state.folded = True
            turn.touch(state)
    outer.done += 1 if good else 0
    outer.failures += 0 if good else 1
    turn.touch(outer)


_BEGIN = {
    "approval": _ask,
    "wait": _wait,
    "foreach": _spread,
    "workflow": child_runs.begin,
    "handoff": child_runs.begin,
}
_GO_ON = {
    "approval": _resume_approval,
    "wait": _resume_wait,
    "foreach": lambda turn, state, step: None,
    "workflow": child_runs.go_on,
    "handoff": child_runs.go_on,
}
