"""Classes of data: where a schema speaks of a value, and what follows from it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.canonical import canonical_json
from common.input_checks import SecretFound
from tests.factories import Governed
from tests.tools.definitions import compiled_tool
from tools.annotations import _SchemaWalk
from tools.data_classes import (
    declared_classes,
    ensure_acted_on,
    ensure_no_secret_argument,
    set_apart,
    things_in,
    without_secrets,
)
from tools.definitions import ensure_output_schema, with_facts_apart
from tools.errors import InvalidToolDefinition
from tools.services.registration import define_tool

NAME = "Hildegard"
PERSONAL: dict[str, Any] = {"type": "string", "x-data-class": "personal"}

REACHED: dict[str, tuple[dict[str, Any], Any, str]] = {
    "properties": ({"properties": {"a": PERSONAL}}, {"a": NAME}, "/a"),
    "items": ({"items": PERSONAL}, [NAME], "/0"),
    "prefixItems": ({"prefixItems": [{}, PERSONAL]}, [1, NAME], "/1"),
    "items after prefixItems": ({"prefixItems": [{}], "items": PERSONAL}, [1, NAME], "/1"),
    "contains": ({"contains": PERSONAL}, [NAME], "/0"),
    "unevaluatedItems": ({"unevaluatedItems": PERSONAL}, [NAME], "/0"),
    "additionalProperties": (
        {"properties": {"b": {}}, "additionalProperties": PERSONAL},
        {"a": NAME},
        "/a",
    ),
    "unevaluatedProperties": ({"unevaluatedProperties": PERSONAL}, {"a": NAME}, "/a"),
    "patternProperties": ({"patternProperties": {"^a": PERSONAL}}, {"a/b": NAME}, "/a~1b"),
    "allOf": ({"allOf": [{"properties": {"a": PERSONAL}}]}, {"a": NAME}, "/a"),
    "anyOf": ({"anyOf": [{}, {"properties": {"a": PERSONAL}}]}, {"a": NAME}, "/a"),
    "oneOf": ({"oneOf": [{"properties": {"a": PERSONAL}}]}, {"a": NAME}, "/a"),
    "if": ({"if": {"properties": {"a": PERSONAL}}}, {"a": NAME}, "/a"),
    "then": ({"if": {}, "then": {"properties": {"a": PERSONAL}}}, {"a": NAME}, "/a"),
    "else": ({"if": False, "else": {"properties": {"a": PERSONAL}}}, {"a": NAME}, "/a"),
    "dependentSchemas": (
        {"dependentSchemas": {"a": {"properties": {"a": PERSONAL}}}},
        {"a": NAME},
        "/a",
    ),
    "$ref": (
        {"$defs": {"n": PERSONAL}, "properties": {"a": {"$ref": "#/$defs/n"}}},
        {"a": NAME},
        "/a",
    ),
    "$ref to all": (
        {"properties": {"n": PERSONAL, "more": {"$ref": "#"}}},
        {"more": {"more": {"n": NAME}}},
        "/more/more/n",
    ),
    "within another class": (
        {"x-data-class": "internal", "properties": {"a": PERSONAL}},
        {"a": NAME},
        "/a",
    ),
    "a strange name": ({"properties": {"a~/b": PERSONAL}}, {"a~/b": NAME}, "/a~0~1b"),
    "a property of that name": (
        {"properties": {"x-data-class": PERSONAL}},
        {"x-data-class": NAME},
        "/x-data-class",
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", list(REACHED))
def test_a_class_counts_wherever_a_schema_can_speak_of_a_value(way: str) -> None:
    schema, value, where = REACHED[way]
    ensure_acted_on(schema)
    assert "personal" in declared_classes(schema)
    kept, apart = set_apart(value, schema)
    assert apart == {where: NAME}
    assert NAME not in canonical_json(kept)
    assert NAME in canonical_json(value)


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"not": {"properties": {"a": PERSONAL}}}, "says nothing of a value"),
        ({"propertyNames": PERSONAL}, "says nothing of a value"),
        ({"x-more": {"x-identifies": "order"}}, "says nothing of a value"),
        ({"x-data-class": ["personal"]}, "is none of"),
        ({"x-data-class": {"personal": 1}}, "is none of"),
        ({"x-data-class": "intimate"}, "is none of"),
        ({"properties": {"a": {"x-identifies": ["order"]}}}, "is a word"),
        ({"properties": {"a": PERSONAL, "b": {"$ref": "#name"}}}, "not followed"),
        ({"properties": {"a": PERSONAL, "b": {"$dynamicRef": "#name"}}}, "not followed"),
        ({"properties": {"a": PERSONAL, "b": {"$ref": "#/$defs/none"}}}, "not followed"),
        (
            {
                "properties": {
                    "a": {
                        "$id": "https://example.org/c",
                        "$ref": "#/$defs/n",
                        "$defs": {"n": dict(PERSONAL)},
                    }
                },
                "$defs": {"n": dict(PERSONAL)},
            },
            "says nothing of a value|not followed",
        ),
        ({"items": [dict(PERSONAL)]}, "says nothing of a value"),
        ({"additionalProperties": [dict(PERSONAL)]}, "says nothing of a value"),
        ({"allOf": dict(PERSONAL)}, "says nothing of a value"),
        ({"$defs": {"n": dict(PERSONAL)}}, "says nothing of a value"),
    ],
)
def test_a_class_that_would_say_nothing_is_refused(schema: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidToolDefinition, match=says):
        ensure_acted_on(schema)


@pytest.mark.parametrize("kept", [{"const": PERSONAL}, {"default": PERSONAL}, {"enum": [PERSONAL]}])
def test_what_is_data_in_a_schema_is_no_class(kept: dict[str, Any]) -> None:
    ensure_acted_on(kept)
    assert declared_classes(kept) == ()


@pytest.mark.django_db
def test_a_tool_is_refused_with_a_class_in_vain_and_nothing_has_changed(
    governed: Governed,
) -> None:
    before = governed.system.tools.count()
    with pytest.raises(InvalidToolDefinition):
        define_tool(
            governed.system, "new", actor=governed.actor, title="N", access="read",
            input_schema={"type": "object", "not": {"properties": {"a": PERSONAL}}},
        )  # fmt: skip
    assert governed.system.tools.count() == before


def test_a_secret_within_another_class_is_no_argument_and_in_no_answer(settings: Any) -> None:
    schema = {
        "x-data-class": "personal",
        "properties": {"a": {"x-data-class": "secret"}},
    }
    with pytest.raises(SecretFound) as refusal:
        ensure_no_secret_argument({"a": "4711"}, schema)
    assert refusal.value.details["where"] == "/a"
    assert "4711" not in canonical_json(without_secrets({"a": "4711"}, schema))


def test_of_several_classes_for_one_value_the_strictest_counts() -> None:
    schema = {"anyOf": [{"x-data-class": one} for one in ("public", "sensitive", "personal")]}
    assert set_apart(NAME, schema) == ("[sensitive]", {"": NAME})


def test_an_identifier_that_is_kept_apart_is_not_named() -> None:
    for schema in (
        {"properties": {"id": {"x-identifies": "patient", "x-data-class": "personal"}}},
        {"x-data-class": "personal", "properties": {"id": {"x-identifies": "patient"}}},
    ):
        assert things_in(({"id": NAME}, schema)) == [{"kind": "patient", "id": "[personal]"}]
    open_one = {"properties": {"id": {"x-identifies": "order"}}}
    assert things_in(({"id": 7}, open_one)) == [{"kind": "order", "id": "7"}]


_values = st.recursive(
    st.sampled_from([NAME, "x", 1, True, None]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab/~"), inner),
    max_leaves=12,
)


@given(value=_values)
def test_whatever_comes_none_of_a_personal_name_is_left(value: Any) -> None:
    schema: dict[str, Any] = {
        "$defs": {"n": {"anyOf": [PERSONAL, {"additionalProperties": {"$ref": "#/$defs/n"}}]}},
        "items": {"$ref": "#"},
        "additionalProperties": {"$ref": "#"},
        "allOf": [{"if": {"type": "string"}, "then": {"$ref": "#/$defs/n"}}],
    }
    kept, apart = set_apart(value, schema)
    assert NAME not in canonical_json(kept)
    assert (NAME in canonical_json(value)) == (NAME in canonical_json(apart))


def test_a_class_that_is_referred_to_counts_wherever_it_stands() -> None:
    schema = {"properties": {"a": {"$ref": "#/default"}}, "default": dict(PERSONAL)}
    assert declared_classes(schema) == ("personal",)
    assert set_apart({"a": NAME}, schema)[1] == {"/a": NAME}
    spaced = {"$defs": {"a b": dict(PERSONAL)}, "properties": {"a": {"$ref": "#/$defs/a%20b"}}}
    ensure_acted_on(spaced)
    assert set_apart({"a": NAME}, spaced)[1] == {"/a": NAME}
    named = {"properties": {"$ref": dict(PERSONAL), "$id": {"type": "string"}}}
    ensure_acted_on(named)
    assert set_apart({"$ref": NAME}, named)[1] == {"/$ref": NAME}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {"^(?!_)": dict(PERSONAL)}},
        {"x-data-class": "internal", "allOf": 5},
        {"prefixItems": 5},
        {"properties": 5},
        {"prefixItems": {"0": 1}},
        [PERSONAL],
    ],
)
def test_what_is_no_schema_is_not_found_out_when_the_effect_is_done(schema: Any) -> None:
    with pytest.raises(InvalidToolDefinition):
        ensure_output_schema(schema)
    if isinstance(schema, dict):  # one that was kept before it was looked at crashes nothing
        set_apart({"a": [NAME]}, schema)
        set_apart([NAME], schema)


def test_many_parts_and_branches_are_seen_in_few_states() -> None:
    """Each part of a value meets its schemas once, however many branches lead to them."""
    branches = [
        {"items": {"$ref": "#/$defs/x"}, "additionalProperties": {"$ref": "#/$defs/x"}}
        for _ in range(50)
    ]
    schema: dict[str, Any] = {
        "$defs": {"x": {"anyOf": branches}},
        "properties": {"list": {"$ref": "#/$defs/x"}, "name": PERSONAL},
    }
    walk = _SchemaWalk(schema)
    state = walk.state([schema])
    for _ in range(4):
        parts = list(walk.members(state, {"list": [1] * 30_000}))
        [(_, many, state)] = parts
        assert len({id(one) for _, _, one in walk.members(state, many)}) == 1
        state = walk.state([schema])
    assert len(walk._states) < 6
    assert set_apart({"list": [1] * 30_000, "name": NAME}, schema)[1] == {"/name": NAME}


def test_more_places_than_can_be_named_are_one() -> None:
    schema = {"additionalProperties": {"items": dict(PERSONAL)}}
    kept, apart = set_apart({"k" * 3_000: [1] * 1_000}, schema)
    assert kept == "[personal]"
    assert list(apart) == [""]


def test_a_pattern_that_would_take_long_elsewhere_takes_no_time_here() -> None:
    schema = {"patternProperties": {"^(a+)+$": PERSONAL}}
    assert set_apart({"a" * 60 + "!": NAME}, schema)[1] == {}


def test_a_fact_is_of_the_class_of_what_it_is_made_from() -> None:
    source = compiled_tool(
        name="read_customer", access="read", sources=[], facts=[], claims=[], amount="",
        input_schema={"type": "object"}, output_schema={"x-data-class": "personal"},
    )  # fmt: skip
    tool = compiled_tool(
        input_schema={"type": "object", "properties": {"note": {"type": "string"}}},
        sources=[{"name": "customer", "tool": "read_customer", "arguments": {}}],
        facts=[
            fact("name", "string(customer.name)"),
            fact("greeting", "'Dear ' + facts.name"),
            fact("cabin", "string(customer.cabin)", data_class="internal"),
            fact("is_old", "customer.age > 90"),
            fact("is_ill", "customer.ill == true", data_class="sensitive"),
            fact("note", "string(args.note)"),
        ],
        claims=[
            {
                "name": "said", "title": "S", "type": "string", "default": "",
                "data_class": "personal",
            },
        ],
        amount="",
    )  # fmt: skip
    found = with_facts_apart(tool, {source.full_name: source})
    assert found.facts_apart == {"name": "personal", "greeting": "personal", "is_ill": "sensitive"}
    assert found.claims_apart == {"said": "personal"}
    told = compiled_tool(
        facts=[fact("told", "'by ' + string(claims.said)")],
        claims=[{"name": "said", "title": "S", "type": "string", "default": "",
                 "data_class": "personal"}],
    )  # fmt: skip
    assert with_facts_apart(told, {}).facts_apart == {"told": "personal"}
    wrongs: list[Any] = ["secret", "intimate", ["personal"], {}]
    for wrong in wrongs:
        with pytest.raises(InvalidToolDefinition):
            compiled_tool(facts=[fact("large", "args.amount > 1", data_class=wrong)])


def fact(name: str, expression: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "expression": expression, **more}
