"""Cedar's view of the tools: a schema for checking policies, and values that conform to it.

A JSON Schema becomes a Cedar type where Cedar has one: text, whole numbers, decimals, booleans,
records, and sets of these. What has none (free-form objects, unions, null) is left out of both the
schema and the values, so that a policy cannot refer to it. Sets lose order and repetition: rules
about those are facts, computed in CEL.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tools.definitions import ToolSpec

_LONG_LIMIT = 2**63
# Cedar's decimal: four digits after the point in a signed 64-bit integer.
_DECIMAL_LIMIT = Decimal(2**63 - 1).scaleb(-4)

_TYPES: Mapping[str, dict[str, Any]] = {
    "bool": {"type": "Boolean"},
    "int": {"type": "Long"},
    "string": {"type": "String"},
    "strings": {"type": "Set", "element": {"type": "String"}},
    "decimal": {"type": "Extension", "name": "decimal"},
}


class NotRepresentable(Exception):
    """The value fits its JSON Schema and has no exact counterpart in Cedar."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A Cedar type and the way a JSON value takes on that type."""

    cedar: dict[str, Any]
    convert: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def long_value(value: Any) -> int:
    if not isinstance(value, int) or not -_LONG_LIMIT <= value < _LONG_LIMIT:
        raise NotRepresentable
    return value


def decimal_value(value: Any) -> dict[str, Any]:
    """Cedar's JSON form of a decimal. Raises NotRepresentable beyond four digits or its range."""
    number = Decimal(str(value))
    if abs(number) > _DECIMAL_LIMIT or number != round(number, 4):
        raise NotRepresentable
    return {"__extn": {"fn": "decimal", "arg": f"{number:.4f}"}}


def shape_of(schema: Any) -> Shape | None:
    """The Cedar shape of a JSON Schema, or None where Cedar has none."""
    if not isinstance(schema, Mapping):
        return None
    kind = schema.get("type")
    if kind == "array":
        return _set_shape(schema)
    if kind == "object":
        return _record_shape(schema)
    return {
        "string": Shape(_TYPES["string"], _same),
        "boolean": Shape(_TYPES["bool"], _same),
        "integer": Shape(_TYPES["int"], long_value),
        "number": Shape(_TYPES["decimal"], decimal_value),
    }.get(str(kind))


def _set_shape(schema: Mapping[str, Any]) -> Shape | None:
    element = shape_of(schema.get("items"))
    if element is None:
        return None

    def convert(value: Any) -> list[Any]:
        return [element.convert(item) for item in value]

    return Shape({"type": "Set", "element": element.cedar}, convert)


def _record_shape(schema: Mapping[str, Any]) -> Shape | None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    required = set(schema.get("required", ()))
    shapes = {
        name: shape for name, rule in properties.items() if (shape := shape_of(rule)) is not None
    }
    attributes = {
        name: {**shape.cedar, "required": name in required or "default" in properties[name]}
        for name, shape in shapes.items()
    }

    def convert(value: Any) -> dict[str, Any]:
        return {name: shapes[name].convert(item) for name, item in value.items() if name in shapes}

    return Shape({"type": "Record", "attributes": attributes}, convert)


def input_shape(spec: ToolSpec) -> Shape:
    return shape_of({"properties": {}, **spec.input_schema, "type": "object"}) or Shape(
        {"type": "Record", "attributes": {}}, lambda value: {}
    )


def _record(attributes: Mapping[str, str]) -> dict[str, Any]:
    return {"type": "Record", "attributes": {n: _TYPES[kind] for n, kind in attributes.items()}}


RUN = {"initiator": "string", "purpose": "string", "labels": "strings"}
USAGE = {"actions": "int", "denials": "int", "amount": "decimal"}
APPROVAL = {"rank": "int"}
TIME = {"hour": "int", "weekday": "int"}


def cedar_schema(specs: Iterable[ToolSpec]) -> dict[str, Any]:
    """The schema that policies are checked against, in Cedar's JSON form.

    principal `Agent` in `Role`s; action `"system.tool"` in `"system"` and in its access; resource
    `Environment`; context `{input, facts, claims, run, usage, approval, time}` per tool.
    """
    actions: dict[str, Any] = {access: {} for access in ("read", "write", "execute")}
    for spec in specs:
        actions.setdefault(spec.system, {})
        context = {
            "input": input_shape(spec).cedar,
            "facts": _record({fact.name: fact.policy_type for fact in spec.facts}),
            "claims": _record({claim.name: claim.policy_type for claim in spec.claims}),
            "run": _record(RUN),
            "usage": _record(USAGE),
            "approval": _record(APPROVAL),
            "time": _record(TIME),
        }
        actions[spec.full_name] = {
            "memberOf": [{"id": spec.system}, {"id": spec.access}],
            "appliesTo": {
                "principalTypes": ["Agent"],
                "resourceTypes": ["Environment"],
                "context": {"type": "Record", "attributes": context},
            },
        }
    return {
        "": {
            "entityTypes": {
                "Agent": {
                    "memberOfTypes": ["Role"],
                    "shape": {"type": "Record", "attributes": {"risk": {"type": "String"}}},
                },
                "Role": {},
                "Environment": {},
            },
            "actions": actions,
        }
    }
