"""What of a call a person sees: values that are personal or sensitive only with the right to."""

from dataclasses import dataclass
from typing import Any

from actions.models import Action
from tools.catalog import catalog
from tools.data_classes import set_apart


@dataclass(frozen=True, slots=True)
class ShownCall:
    """The values of a call, with the class in place of what its reader may not see."""

    arguments: Any
    claims: Any
    facts: Any
    result: Any


# Of a call by a definition that is another one now: what it declared is not known.
UNKNOWN_CLASS = "[not shown: the tool's definition has changed since]"


def shown_to(user: Any, action: Action) -> ShownCall:
    """Return the call's values as this person may see them."""
    if user.has_perm("audit.see_sensitive"):
        return ShownCall(action.arguments, action.claims, action.facts, action.result)
    spec = catalog.fresh().tools.get(action.tool)
    if spec is None or spec.digest != action.tool_digest:
        values = (action.arguments, action.claims, action.facts, action.result)
        return ShownCall(*(UNKNOWN_CLASS if value else value for value in values))
    arguments, _ = set_apart(action.arguments, spec.input_schema)
    result, _ = set_apart(action.result, spec.output_schema)
    claims = {**action.claims, **_marks(action.claims, spec.claims_apart)}
    facts = {**action.facts, **_marks(action.facts, spec.facts_apart)}
    return ShownCall(arguments, claims, facts, result)


def _marks(values: Any, classes: Any) -> dict[str, str]:
    return {name: f"[{kind}]" for name, kind in classes.items() if name in values}
