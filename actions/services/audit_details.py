"""The arguments and results that the log keeps, with personal and sensitive values apart."""

from typing import Any

from actions.models import Action
from audit.bounded_values import SENSITIVE, bounded
from tools.data_classes import as_recorded, set_apart, things_in
from tools.definitions import ToolSpec


def of_decision(action: Action, spec: ToolSpec) -> dict[str, Any]:
    """The values that a decision was made from, as details of its event."""
    schema = spec.input_schema if spec.data_classes else None
    arguments, apart = set_apart(action.arguments, schema)
    found = {"arguments": bounded(arguments)}
    for name, values, classes in (
        ("facts", action.facts, spec.facts_apart),
        ("claims", action.claims, spec.claims_apart),
    ):
        if values:
            named = {one: f"[{kind}]" for one, kind in classes.items() if one in values}
            found[name] = bounded({**values, **named})
            apart |= {f"{name}/{one}": values[one] for one in named}
    if apart:
        found[SENSITIVE] = bounded(apart)
    if action.outcome != Action.Outcome.ALLOWED:
        found["reasons"] = action.reasons
    return found


def of_resolution(action: Action, spec: ToolSpec) -> dict[str, Any]:
    """Return an operator's resolution of a call as details of its event."""
    return _kept("result", action.result, spec, spec.output_schema)


def of_answer(action: Action, value: Any, spec: ToolSpec) -> dict[str, Any]:
    """Return a tool's result, and what it read, made or changed, as details of its event."""
    found = _kept("result", value, spec, spec.output_schema)
    if spec.names_things:
        given = (action.arguments, spec.input_schema)
        found["things"] = things_in(given, (value, spec.output_schema))
    return found


def _kept(name: str, value: Any, spec: ToolSpec, schema: Any) -> dict[str, Any]:
    return as_recorded(name, value, schema if spec.data_classes else None)
