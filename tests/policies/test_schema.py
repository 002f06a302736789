"""From JSON Schema and JSON values to Cedar types and values, exactly or not at all."""

from decimal import Decimal
from typing import Any

import cedarpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.directory import Directory, KnownIdentity
from agents.tokens import Caller
from policies.authorization import CallContext, RunContext, request_for
from policies.evaluation import NOT_REPRESENTABLE, Decision, decide
from policies.schema import (
    NotRepresentable,
    cedar_schema,
    decimal_value,
    input_shape,
    long_value,
    shape_of,
)
from policies.slices import SlicedPolicies, parsed_rules
from policies.snapshot import Snapshot
from tests import toolbox as box
from tests.factories import Governed, publish
from tools.catalog import Catalog
from tools.definitions import ToolSpec, compile_spec
from tools.json_schema import with_defaults
from tools.services.registration import define_tool

TEXT = {"type": "String"}
LONG = {"type": "Long"}
DECIMAL = {"type": "Extension", "name": "decimal"}


def spec_of(name: str = "pay", **attributes: Any) -> ToolSpec:
    usual: dict[str, Any] = {
        "pk": 1,
        "system_pk": 1,
        "system": "toolbox",
        "kind": "in_process",
        "description": "",
        "path": "",
        "timeout_seconds": 10.0,
        "labels": [],
        "sources": [],
        "facts": [],
        "claims": [],
        "amount": "",
        "serves_facts_only": False,
        "withdrawn": False,
    }
    return compile_spec({**usual, "name": name, **box.TOOLS["pay"], **attributes})


PAY = spec_of()


def extension(text: str) -> dict[str, Any]:
    return {"__extn": {"fn": "decimal", "arg": text}}


@pytest.mark.parametrize(
    ("schema", "cedar"),
    [
        ({"type": "string"}, TEXT),
        ({"type": "string", "enum": ["a", "b"]}, TEXT),
        ({"type": "boolean"}, {"type": "Boolean"}),
        ({"type": "integer", "minimum": 0}, LONG),
        ({"type": "number"}, DECIMAL),
        ({"type": "array", "items": {"type": "string"}}, {"type": "Set", "element": TEXT}),
        (
            {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
            {"type": "Set", "element": {"type": "Set", "element": DECIMAL}},
        ),
        (
            {
                "type": "object",
                "properties": {
                    "always": {"type": "integer"},
                    "filled": {"type": "string", "default": ""},
                    "perhaps": {"type": "string"},
                },
                "required": ["always"],
            },
            {
                "type": "Record",
                "attributes": {
                    "always": {**LONG, "required": True},
                    "filled": {**TEXT, "required": True},
                    "perhaps": {**TEXT, "required": False},
                },
            },
        ),
        ({"type": "object", "properties": {}}, {"type": "Record", "attributes": {}}),
    ],
)
def test_json_types_take_on_their_cedar_counterpart(schema: Any, cedar: Any) -> None:
    shape = shape_of(schema, {})
    assert shape is not None
    assert shape.cedar == cedar


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        None,
        {"type": "null"},
        {"type": ["string", "integer"]},
        {"enum": ["a", 1]},
        {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        {"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"$ref": "#/$defs/x"},
        {"$ref": "https://elsewhere.example/schema"},
        {"type": "object"},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": {"type": "object"}},
    ],
)
def test_what_cedar_has_no_type_for_is_left_out_of_schema_and_values(schema: Any) -> None:
    assert shape_of(schema, {}) is None
    shape = shape_of(
        {"type": "object", "properties": {"odd": schema, "name": {"type": "string"}}}, {}
    )
    assert shape is not None
    assert list(shape.cedar["attributes"]) == ["name"]
    assert shape.convert({"odd": {"any": [1, None]}, "name": "x"}, (), []) == {"name": "x"}


def test_a_nested_value_is_converted_throughout() -> None:
    line = {"type": "object", "properties": {"price": {"type": "number"}, "free": {}}}
    shape = shape_of(
        {
            "type": "object",
            "properties": {"lines": {"type": "array", "items": line}, "note": {"type": "string"}},
        },
        {},
    )
    assert shape is not None
    value = {"lines": [{"price": 1.5, "free": None}, {}], "note": "x", "undeclared": 1}
    assert shape.convert(value, (), []) == {
        "lines": [{"price": extension("1.5000")}, {}],
        "note": "x",
    }


def test_a_tool_without_arguments_has_an_empty_input() -> None:
    for schema in ({"type": "object"}, {"type": "object", "properties": {}}):
        shape = input_shape(spec_of(input_schema=schema, amount="", facts=[], sources=[]))
        assert shape.cedar == {"type": "Record", "attributes": {}}
        assert shape.convert({}, (), []) == {}


def test_the_schema_knows_each_tool_in_its_system_and_its_access() -> None:
    described = cedar_schema([PAY])[""]
    pay = described["actions"]["toolbox.pay"]
    assert pay["memberOf"] == [{"id": "toolbox"}, {"id": "write"}]
    attributes = pay["appliesTo"]["context"]["attributes"]
    assert set(attributes) == {"input", "facts", "claims", "run", "usage", "approval", "time"}
    assert attributes["facts"]["attributes"]["frozen"] == {"type": "Boolean"}
    assert attributes["claims"]["attributes"]["confirmed"] == {"type": "Boolean"}
    assert set(described["actions"]) == {"read", "write", "execute", "toolbox", "toolbox.pay"}


@pytest.mark.parametrize("value", [0, -1, 2**63 - 1, -(2**63)])
def test_whole_numbers_within_64_bits_are_kept(value: int) -> None:
    assert long_value(value) == value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**400, 1e20])
def test_whole_numbers_beyond_64_bits_are_not_representable(value: float) -> None:
    with pytest.raises(NotRepresentable):
        long_value(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0000"),
        (5, "5.0000"),
        (-3, "-3.0000"),
        (0.1, "0.1000"),
        (1.2345, "1.2345"),
        (-0.0001, "-0.0001"),
        (Decimal("12.5000"), "12.5000"),
        (922337203685477, "922337203685477.0000"),
        (Decimal("922337203685477.5807"), "922337203685477.5807"),
    ],
)
def test_decimals_are_written_with_four_digits(value: Any, text: str) -> None:
    assert decimal_value(value) == extension(text)


@pytest.mark.parametrize(
    "value",
    [
        0.00001,
        1.23456,
        -0.12345,
        1e-300,
        922337203685478,
        Decimal("922337203685477.5808"),
        10**18,
        -(10**18),
        1e20,
    ],
)
def test_a_decimal_too_fine_or_too_large_is_not_rounded(value: Any) -> None:
    with pytest.raises(NotRepresentable):
        decimal_value(value)


# Reads every argument, and holds whatever they are.
READS_ALL = """@id("reads-all")
permit(principal, action == Action::"toolbox.pay", resource)
when { context.input.account == "" || context.input.account != "" }
when { context.input.note == "" || context.input.note != "" }
when { context.input.amount.lessThan(decimal("0.0"))
       || context.input.amount.greaterThanOrEqual(decimal("0.0")) }
when { context.usage.amount.greaterThanOrEqual(decimal("0.0")) };"""
IDENTITY = KnownIdentity(
    pk=1,
    client_id="tilda.prod",
    environment="prod",
    epoch=1,
    agent_pk=1,
    agent_slug="tilda",
    agent_title="Tilda",
    risk="low",
    conflicted_users=(),
    usable=True,
    owner=1,
)
CALLER = Caller(IDENTITY, frozenset({"tools"}), "jti", 1, 0)
RUN = RunContext(
    initiator="somebody",
    purpose="testing",
    labels=("pii",),
    actions=3,
    denials=1,
    amount=Decimal("12.5"),
    budget_actions=None,
    budget_amount=None,
)
SNAPSHOT = Snapshot(
    directory=Directory({}, {}, {}),
    catalog=Catalog({PAY.full_name: PAY}, {}),
    roles_of={1: frozenset({"keepers"})},
    grants=frozenset({("keepers", "tool", PAY.pk, "write")}),
    tiers={},
    ranks={},
    policies=SlicedPolicies(1, parsed_rules(READS_ALL), {PAY.full_name: PAY.digest}),
)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=20)
hundredths_of_cents = st.integers(-(10**14), 10**14)
exact_amounts = st.one_of(
    st.integers(-(10**14), 10**14), hundredths_of_cents.map(lambda number: number / 10**4)
)
arguments_of_pay = st.fixed_dictionaries(
    {"account": texts, "amount": exact_amounts}, optional={"note": texts}
)


def asked_about(arguments: Any, now: Any) -> tuple[Any, Decision]:
    canonical, _ = PAY.canonical_arguments(arguments)
    facts = {"frozen": False, "large": False, "huge": False}
    call = CallContext(CALLER, PAY, canonical, {"confirmed": True}, facts, Decimal(0))
    request = request_for(SNAPSHOT, call, RUN, now=now)
    return request, decide(request, SNAPSHOT.policies, {})


@settings(max_examples=150, deadline=None)
@given(arguments_of_pay, st.datetimes())
def test_valid_arguments_conform_to_the_schema_and_can_be_weighed(
    arguments: dict[str, Any], now: Any
) -> None:
    request, decision = asked_about(arguments, now)
    assert decision.outcome == "allowed", decision
    answer = cedarpy.is_authorized(
        {
            "principal": {"type": "Agent", "id": request.agent},
            "action": {"type": "Action", "id": request.action},
            "resource": {"type": "Environment", "id": request.environment},
            "context": dict(request.context),
        },
        READS_ALL,
        [],
        schema=cedar_schema([PAY]),
    )
    assert answer.diagnostics.errors == []
    assert answer.allowed


@settings(max_examples=150, deadline=None)
@given(st.floats(-9e18, 9e18), st.datetimes())
def test_a_number_is_weighed_exactly_or_denied(amount: float, now: Any) -> None:
    request, decision = asked_about({"account": "a", "amount": amount}, now)
    if decision.outcome == "allowed":
        weighed = request.context["input"]["amount"]["__extn"]["arg"]
        assert Decimal(weighed) == Decimal(str(amount))
    else:
        assert decision == Decision("denied", (NOT_REPRESENTABLE,), release=1)


WEIGHED = """@id("weighed") @reason("Not so much.")
forbid(principal, action == Action::"toolbox.pay", resource)
when { context.input.amount.greaterThan(decimal("9000.0")) };"""
WEIGHED_COUNT = """@id("weighed") @reason("Not so much.")
forbid(principal, action == Action::"toolbox.count", resource)
when { context.input has any && context.input.any.lessThan(decimal("0.0")) };"""


@pytest.mark.django_db
def test_an_amount_too_fine_to_weigh_is_denied_if_a_rule_looks_at_it(governed: Governed) -> None:
    for amount in (0.00001, 50.12345):
        assert governed.pay(governed.run(), amount).action.outcome == "allowed"
    publish(*box.POLICIES, weighed=WEIGHED)
    made = len(governed.toolbox.effects)
    for amount in (0.00001, 50.12345):
        action = governed.pay(governed.run(), amount).action
        assert (action.outcome, action.status) == ("denied", "denied")
        assert [reason["rule"] for reason in action.reasons] == ["chancery:not-representable"]
    assert len(governed.toolbox.effects) == made
    assert governed.pay(governed.run(), 50.1234).action.outcome == "allowed"


@pytest.mark.django_db
def test_a_number_too_large_to_weigh_is_denied_if_a_rule_looks_at_it(governed: Governed) -> None:
    """Also behind `has`, which would otherwise be false for what was left out."""
    numbers = {"whole": {"type": "integer"}, "any": {"type": "number"}}
    define_tool(
        governed.system,
        "count",
        actor=governed.actor,
        title="Count",
        access="execute",
        idempotent=True,
        input_schema={"type": "object", "properties": numbers},
    )
    publish(*box.POLICIES, weighed=WEIGHED_COUNT)
    run = governed.run()
    largest = {"whole": 2**63 - 1, "any": 922337203685477}
    assert governed.propose(run, "toolbox.count", largest).action.outcome == "allowed"
    action = governed.propose(run, "toolbox.count", {"any": 922337203685478}).action
    assert action.outcome == "denied"
    assert action.reasons[0]["rule"] == "chancery:not-representable"
    assert governed.toolbox.effects == [("count", largest)]


NULLABLE = [
    {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
    {"oneOf": [{"type": "null"}, {"type": "integer"}]},
    {"type": ["integer", "null"]},
    {"$ref": "#/$defs/limit"},
    {"allOf": [{"$ref": "#/$defs/limit"}], "description": "How many."},
    {"enum": [1, 2, None]},
]


@pytest.mark.parametrize("rule", NULLABLE)
def test_an_optional_argument_exists_for_rules_and_null_is_not_there(rule: Any) -> None:
    root = {
        "type": "object",
        "properties": {"limit": rule},
        "$defs": {"limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]}},
    }
    shape = shape_of(root, root)
    assert shape is not None
    assert shape.cedar["attributes"] == {"limit": {**LONG, "required": False}}
    assert shape.convert({"limit": None}, (), []) == {}
    assert shape.convert({"limit": 2}, (), []) == {"limit": 2}


def test_what_refers_to_itself_ends() -> None:
    root = {
        "type": "object",
        "properties": {"value": {"type": "integer"}, "next": {"$ref": "#"}},
    }
    shape = shape_of(root, root)
    assert shape is not None
    assert "value" in shape.cedar["attributes"]
    circle = {"properties": {"x": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    found = shape_of({**circle, "type": "object"}, circle)
    assert found is not None
    assert found.cedar["attributes"] == {}


def test_defaults_are_found_behind_references_and_in_lists() -> None:
    root = {
        "type": "object",
        "properties": {
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            "to": {"allOf": [{"$ref": "#/$defs/line"}]},
            "when": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "$defs": {
            "line": {"type": "object", "properties": {"count": {"type": "integer", "default": 1}}}
        },
    }
    given = {"lines": [{}, {"count": 2}], "to": {}}
    assert with_defaults(given, root, root) == {
        "lines": [{"count": 1}, {"count": 2}],
        "to": {"count": 1},
        "when": None,
    }
