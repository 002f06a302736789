"""Cedar's view of the tools: a schema for checking policies, and values that conform to it.

A JSON Schema becomes a Cedar type where Cedar has one: text, whole numbers, decimals, booleans,
records, and sets of these. What has none (free-form objects, unions) is left out of both the schema
and the values, so that a policy cannot refer to it. What may be null is optional, and what is null
is not there. Sets lose order and repetition: rules about those are facts, computed in CEL.

A single value that has no exact counterpart (a number finer than four digits) is left out too, and
named: a call is denied for it only if a rule looks at it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tools.annotations import said_of
from tools.classes import KEYWORD, SECRET
from tools.definitions import ToolSpec
from tools.json_schema import MAX_DEPTH, resolved

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


Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shape:
    """A Cedar type and the way a JSON value takes on that type.

    `convert` gets the value, the path where it stands, and a list to which it adds the paths of
    what has no counterpart; that is left out.
    """

    cedar: dict[str, Any]
    convert: Callable[[Any, Path, list[Path]], Any]
    nullable: bool = False


def _same(value: Any, where: Path, lost: list[Path]) -> Any:
    return value


def _exactly(convert: Callable[[Any], Any]) -> Callable[[Any, Path, list[Path]], Any]:
    return lambda value, where, lost: convert(value)


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


def used_value(value: Decimal) -> dict[str, Any]:
    """An amount that was used up, as rules weigh it: rounded up to four digits, so that a limit is
    never passed by parts too small to be seen. Raises NotRepresentable beyond Cedar's range.
    """
    return decimal_value(value.quantize(Decimal("0.0001"), rounding=ROUND_CEILING))


def shape_of(schema: Any, root: Mapping[str, Any], *, depth: int = 0) -> Shape | None:
    """The Cedar shape of a JSON Schema; None where Cedar has none, and for a secret."""
    if isinstance(schema, Mapping) and SECRET in said_of(schema, root, KEYWORD):
        return None
    found = resolved(schema, root) if depth <= MAX_DEPTH else None
    if found is None:
        return None
    if found.kind == "array":
        shape = _set_shape(found.schema, root, depth)
    elif found.kind == "object":
        shape = _record_shape(found.schema, root, depth)
    else:
        shape = {
            "string": Shape(_TYPES["string"], _same),
            "boolean": Shape(_TYPES["bool"], _same),
            "integer": Shape(_TYPES["int"], _exactly(long_value)),
            "number": Shape(_TYPES["decimal"], _exactly(decimal_value)),
        }.get(found.kind)
    return replace(shape, nullable=found.nullable) if shape is not None else None


def _set_shape(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Shape | None:
    element = shape_of(schema.get("items"), root, depth=depth + 1)
    if element is None:
        return None

    def convert(value: Any, where: Path, lost: list[Path]) -> list[Any]:
        if any(item is None for item in value):
            raise NotRepresentable  # a set that lacks what is null would answer wrongly
        inside: list[Path] = []
        found = [element.convert(item, where, inside) for item in value]
        if inside:
            raise NotRepresentable
        return found

    return Shape({"type": "Set", "element": element.cedar}, convert)


def _record_shape(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Shape | None:
    properties = schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    required = set(schema.get("required", ()))
    shapes = {
        name: shape
        for name, rule in properties.items()
        if (shape := shape_of(rule, root, depth=depth + 1)) is not None
    }
    attributes = {
        name: {
            **shape.cedar,
            "required": not shape.nullable and (name in required or _has_default(properties[name])),
        }
        for name, shape in shapes.items()
    }

    def convert(value: Any, where: Path, lost: list[Path]) -> dict[str, Any]:
        found = {}
        for name, item in value.items():
            if name not in shapes or item is None:
                continue  # what is null is not there
            try:
                found[name] = shapes[name].convert(item, (*where, name), lost)
            except NotRepresentable:
                lost.append((*where, name))
        return found

    return Shape({"type": "Record", "attributes": attributes}, convert)


def _has_default(rule: Any) -> bool:
    return isinstance(rule, Mapping) and rule.get("default") is not None


def input_shape(spec: ToolSpec) -> Shape:
    schema = {"properties": {}, **spec.input_schema, "type": "object"}
    return shape_of(schema, spec.input_schema) or Shape(
        {"type": "Record", "attributes": {}}, lambda value, where, lost: {}
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
