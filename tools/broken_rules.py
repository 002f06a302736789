"""Which rule of a schema a value breaks, found at a cost that is bounded by the schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from tools.json_schema import target

# A validator explains what is wrong with every alternative of every alternative: for a schema that
# refers to itself that grows exponentially with the depth of the value.
MAX_EXPLAINED = 2_000


@dataclass(frozen=True, slots=True)
class BrokenRule:
    """`where` is empty for the whole value; `rule` and `missing` where they are not known."""

    where: str = ""
    rule: str = ""
    missing: str = ""

    def said_of(self, name: str) -> str:
        """Say it without the value, which may be personal. `name`: what the whole value is."""
        where = self.where or name
        if self.missing:
            return f"{where}: {self.missing} is required."
        if self.rule:
            return f"{where}: breaks the rule '{self.rule}'."
        return f"{where}: does not fit the schema."


def broken_rule(
    validator: jsonschema_rs.Validator, schema: Mapping[str, Any], value: Any
) -> BrokenRule | None:
    """Return the first rule that the value breaks; None if it is valid."""
    if validator.is_valid(value):
        return None
    if not _is_within(schema, MAX_EXPLAINED):
        return BrokenRule()
    error = next(validator.iter_errors(value))
    where = "/".join(str(part) for part in error.instance_path)
    rule = "/".join(str(part) for part in error.schema_path[-1:])
    return BrokenRule(where, rule, str(getattr(error.kind, "property", None) or ""))


def _is_within(root: Mapping[str, Any], limit: int) -> bool:
    """Whether the schema has so few parts, with what it refers to in the place of references."""
    waiting: list[Any] = [root]
    for _ in range(limit):
        if not waiting:
            return True
        part = waiting.pop()
        if isinstance(part, Mapping):
            waiting += [item for name, item in part.items() if name not in {"$defs", "definitions"}]
            if "$dynamicRef" in part:
                return False
            if "$ref" in part:
                waiting.append(target(part["$ref"], root))
        elif isinstance(part, list):
            waiting += part
    return False
