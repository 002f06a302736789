"""Hide personal and sensitive values of a call from people without the right to see them."""

from dataclasses import dataclass
from typing import Any

from actions.models import Action
from audit.permissions import SEE_SENSITIVE
from tools.catalog import catalog
from tools.data_classes import set_apart


@dataclass(frozen=True, slots=True)
class ShownCall:
    """The values of a call, with the name of the class in place of each value that is hidden."""

    arguments: Any
    claims: Any
    facts: Any
    result: Any


# Which values the former definition declared to be sensitive is no longer known.
UNKNOWN_CLASS = "[not shown: the tool's definition has changed since]"


def shown_to(user: Any, action: Action) -> ShownCall:
    """Return the call's values as this person may see them."""
    if user.has_perm(SEE_SENSITIVE):
        return ShownCall(action.arguments, action.claims, action.facts, action.result)
    spec = catalog.current().tools.get(action.tool)
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
