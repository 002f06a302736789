"""What the log keeps of arguments and answers: what is personal or sensitive kept apart."""

from typing import Any

from actions.models import Action
from audit.values import bounded
from tools.data_classes import as_recorded, things_in
from tools.definitions import ToolSpec


def of_decision(action: Action, spec: ToolSpec) -> dict[str, Any]:
    """The values that a decision was made from, as details of its event."""
    found = _kept("arguments", action.arguments, spec, spec.input_schema)
    if action.facts:
        found["facts"] = bounded(action.facts)
    if action.claims:
        found["claims"] = bounded(action.claims)
    if action.outcome != Action.Outcome.ALLOWED:
        found["reasons"] = action.reasons
    return found


def of_answer(action: Action, value: Any, spec: ToolSpec) -> dict[str, Any]:
    """What a tool answered, and what it read, made or changed, as details of its event."""
    found = _kept("result", value, spec, spec.output_schema)
    if spec.names_things:
        given = (action.arguments, spec.input_schema)
        found["things"] = things_in(given, (value, spec.output_schema))
    return found


def _kept(name: str, value: Any, spec: ToolSpec, schema: Any) -> dict[str, Any]:
    return as_recorded(name, value, schema if spec.data_classes else None)
