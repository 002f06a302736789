"""Search for the rule of a schema that a value breaks, at a cost bounded by the schema."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema_rs

from tools.json_schema import target

# Parts of the schema times parts of the value. A validator explains what is wrong with every
# alternative for every part of the value; for a schema that refers to itself, that grows
# exponentially with the depth of the value.
MAX_EXPLAINED = 10_000


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
    parts = _parts_of(schema, MAX_EXPLAINED)
    if parts is None or parts * _size_of(value) > MAX_EXPLAINED:
        return BrokenRule()
    error = next(validator.iter_errors(value))
    where = "/".join(str(part) for part in error.instance_path)
    rule = "/".join(str(part) for part in error.schema_path[-1:])
    return BrokenRule(where, rule, str(getattr(error.kind, "property", None) or ""))


def _size_of(value: Any) -> int:
    """Count the values in it, including itself."""
    waiting, count = [value], 0
    while waiting:
        part = waiting.pop()
        count += 1
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return count


def _parts_of(root: Mapping[str, Any], limit: int) -> int | None:
    """Count the parts of the schema with its references resolved; None if there are more than the
    limit, or if it cannot be known.
    """
    waiting: list[Any] = [root]
    for count in range(limit):
        if not waiting:
            return count
        part = waiting.pop()
        if isinstance(part, Mapping):
            waiting += [item for name, item in part.items() if name not in {"$defs", "definitions"}]
            if "$dynamicRef" in part:
                return None
            if "$ref" in part:
                waiting.append(target(part["$ref"], root))
        elif isinstance(part, list):
            waiting += part
    return None
