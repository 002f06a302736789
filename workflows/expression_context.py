"""The values that expressions of a run may name, at one moment. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from common.cel import Expression, ExpressionFailed, WorkBudget
from workflows.definitions.spec import StepSpec, WorkflowSpec
from workflows.run_state import StepState, WorkflowState, index_of, item_scope


def build_context(spec: WorkflowSpec, case: WorkflowState, now: datetime) -> dict[str, Any]:
    """Return the values that expressions may name, by dotted name."""
    run = case.run
    known: dict[str, Any] = {
        "run.id": str(run.id),
        "run.agent": case.client_id,
        "run.environment": case.environment,
        "run.date": f"{case.started_at:%Y-%m-%d}",
        "run.steps": case.steps_count,
        "run.errors": case.errors_count,
        "run.denials": run.denials,
        "run.actions": run.actions,
        "run.amount": float(run.amount),
        "run.labels": list(run.labels),
        "run.age_seconds": int((now - case.started_at).total_seconds()),
    }
    for name in spec.inputs_schema.get("properties", {}):
        known[f"inputs.{name}"] = case.inputs.get(name)
    for name in spec.steps:
        state = case.steps.get(name)
        if state is not None:
            add_step_result(known, name, state.status, state.output)
    return known


def add_step_result(known: dict[str, Any], name: str, status: str, output: Any) -> None:
    """Put one step's outcome among the known values, with the members of its output."""
    stem = f"steps.{name}"
    known[f"{stem}.status"] = status
    known[f"{stem}.output"] = output
    if isinstance(output, Mapping):
        known.update((f"{stem}.output.{key}", value) for key, value in output.items())


def item_values(
    known: Mapping[str, Any], case: WorkflowState, foreach: StepSpec, index: int, item: Any
) -> dict[str, Any]:
    """Return the values for a step inside a foreach: the item, and the steps of the same item."""
    values = {**known, "item": item, "index": index}
    scope = item_scope(foreach.name, index)
    for name in foreach.foreach.steps if foreach.foreach else ():
        state = case.steps.get(f"{scope}.{name}")
        if state is not None:
            add_step_result(values, name, state.status, state.output)
    return values


def is_true(
    expression: Expression, known: Mapping[str, Any], *, budget: WorkBudget | None = None
) -> bool:
    """Raises ExpressionFailed, also for a value that is neither true nor false."""
    value = expression.evaluate(known, budget=budget)
    if not isinstance(value, bool):
        message = "A condition gave neither true nor false."
        raise ExpressionFailed(message)
    return value


def values_of(
    spec: WorkflowSpec, case: WorkflowState, state: StepState, now: datetime
) -> Mapping[str, Any]:
    """Return the values for the expressions of a step that has begun."""
    known = build_context(spec, case, now)
    return values_at(
        spec, case, known, case.steps[state.compensates] if state.compensates else state
    )


def values_at(
    spec: WorkflowSpec, case: WorkflowState, known: Mapping[str, Any], state: StepState
) -> Mapping[str, Any]:
    if not state.scope:
        return known
    foreach = spec.steps[state.scope.split("[", 1)[0]]
    outer = case.steps[foreach.name]
    index = index_of(state.scope)
    return item_values(known, case, foreach, index, outer.input[index])
