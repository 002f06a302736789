"""What is wrong with a value is said at a bounded cost, and without the value."""

from typing import Any

import jsonschema_rs
import pytest

from tools import broken_rules
from tools.broken_rules import BrokenRule, broken_rule


def node(name: str) -> dict[str, Any]:
    properties = {"op": {"const": name}, "of": {"$ref": "#/$defs/filter"}}
    return {"type": "object", "required": ["op"], "properties": properties}


LEAF = {"type": "object", "required": ["field"], "properties": {"field": {"type": "string"}}}
RECURSIVE = {
    "type": "object",
    "properties": {"filter": {"$ref": "#/$defs/filter"}},
    "$defs": {"filter": {"oneOf": [node("and"), node("or"), node("not"), LEAF]}},
}
LAYERS = 8
MULTIPLIED = {
    "anyOf": [{"$ref": "#/$defs/a0"}],
    "$defs": {f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 4} for n in range(LAYERS)}
    | {f"a{LAYERS}": {"type": "string"}},
}
PLAIN = {
    "type": "object",
    "required": ["id"],
    "properties": {"id": {"$ref": "#/$defs/id"}, "tags": {"items": {"type": "string"}}},
    "$defs": {"id": {"type": "string", "maxLength": 3}},
}


def found(schema: dict[str, Any], value: Any) -> BrokenRule | None:
    return broken_rule(jsonschema_rs.Draft202012Validator(schema), schema, value)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"field": 1}
    for _ in range(levels):
        value = {"op": "and", "of": value}
    return {"filter": value}


class Unexplained:
    """A validator whose explanations would cost too much."""

    def is_valid(self, value: Any) -> bool:
        return False

    def iter_errors(self, value: Any) -> Any:
        pytest.fail("it was asked to explain")


@pytest.mark.parametrize("schema", [RECURSIVE, MULTIPLIED, {"$dynamicRef": "#meta"}])
def test_what_could_cost_much_is_not_explained(schema: dict[str, Any]) -> None:
    validator: Any = Unexplained()
    assert broken_rule(validator, schema, nested(3)) == BrokenRule()
    assert BrokenRule().said_of("the arguments") == "the arguments: does not fit the schema."


def test_the_deepest_value_that_comes_in_is_refused() -> None:
    assert found(RECURSIVE, nested(30)) == BrokenRule()


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "the arguments: id is required."),
        ({"id": "secret"}, "id: breaks the rule 'maxLength'."),
        ({"id": "a", "tags": ["b", 4]}, "tags/1: breaks the rule 'type'."),
        ([], "the arguments: breaks the rule 'type'."),
    ],
)
def test_other_rules_are_named(value: Any, said: str) -> None:
    broken = found(PLAIN, value)
    assert broken is not None
    assert broken.said_of("the arguments") == said


def test_what_fits_breaks_nothing() -> None:
    assert found(PLAIN, {"id": "a", "tags": []}) is None
    assert found(RECURSIVE, {"filter": {"op": "not", "of": {"field": "x"}}}) is None


def test_the_bound_is_on_the_schema_and_the_value_together() -> None:
    half = broken_rules.MAX_EXPLAINED // 2
    wide = {"properties": {f"p{n}": {"type": "string"} for n in range(half)}}
    assert found(wide, {"p1": 1}) == BrokenRule()
    constants = {"items": {"anyOf": [{"const": n} for n in range(20)]}}
    validator: Any = Unexplained()
    assert broken_rule(validator, constants, ["x"] * half) == BrokenRule()
    assert found(constants, ["x"] * 3) == BrokenRule("0", "anyOf")
