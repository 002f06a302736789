import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.canonical import MAX_DEPTH, NotCanonical, canonical_json, digest, normalise

unhurried = settings(deadline=None, database=None)

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
_NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(
    -(2.0**53), 2.0**53, exclude_min=True, exclude_max=True
)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)


def said_otherwise(value: Any) -> Any:
    """The same JSON value in other Python clothes: keys backwards, whole numbers as floats."""
    if isinstance(value, dict):
        return {key: said_otherwise(value[key]) for key in reversed(value)}
    if isinstance(value, list):
        return tuple(said_otherwise(item) for item in value)
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def are_one_value(a: Any, b: Any) -> bool:
    """Equality of JSON values: numbers by value, and true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(are_one_value(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(are_one_value, a, b))
    return bool(a == b)


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


@unhurried
@given(_VALUES)
def test_one_value_has_one_form_however_it_is_said(value: Any) -> None:
    other = said_otherwise(value)
    assert canonical_json(normalise(other)) == canonical_json(normalise(value))
    assert digest(other) == digest(value)


@unhurried
@given(_VALUES, _VALUES)
def test_digests_are_equal_exactly_when_the_values_are(a: Any, b: Any) -> None:
    assert (digest(a) == digest(b)) == are_one_value(a, b)


@unhurried
@given(_VALUES)
def test_normalising_twice_changes_nothing(value: Any) -> None:
    once = normalise(value)
    assert repr(normalise(once)) == repr(once)


@unhurried
@given(_VALUES)
def test_the_form_reads_back_as_the_value(value: Any) -> None:
    text = canonical_json(normalise(value))
    assert are_one_value(json.loads(text), value)
    assert canonical_json(normalise(json.loads(text))) == text


@unhurried
@given(_VALUES)
def test_normalising_leaves_what_it_was_given(value: Any) -> None:
    before = repr(value)
    normalise(value)
    assert repr(value) == before


def test_the_form_is_sorted_compact_and_plain_unicode() -> None:
    value = {"z": [1, 5.0, 0.5], "a": {"é": "ü\n", "b": None}, "A": True}
    assert canonical_json(normalise(value)) == (
        '{"A":true,"a":{"b":null,"é":"ü\\n"},"z":[1,5,0.5]}'
    )


@pytest.mark.parametrize(
    ("a", "b"), [(5.0, 5), (-0.0, 0), ({"x": (1, 2)}, {"x": [1, 2]}), (1e3, 1000), (1e16, 10**16)]
)
def test_two_ways_to_say_one_value_have_one_digest(a: Any, b: Any) -> None:
    assert digest(a) == digest(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (True, 1),
        (False, 0),
        (1, "1"),
        (None, {}),
        ({"a": None}, {}),
        ([], {}),
        ([1, 2], [2, 1]),
        ("é", "e\u0301"),
        (2**53, 2**53 + 1),
        (2**63 - 1, 2**63 - 2),
        ([[1], 2], [1, [2]]),
    ],
)
def test_values_that_look_alike_have_different_digests(a: Any, b: Any) -> None:
    assert digest(a) != digest(b)


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        float("inf"),
        float("-inf"),
        2**63,
        -(2**63) - 1,
        10**400,
        2.0**63,
        1e300,
        -1e300,
        "\ud800",
        "a\udfffb",
        "nul\x00",
        {"\udc00": 1},
        {"\x00": 1},
        {1: "number as key"},
        {None: 1},
        {True: 1},
        {("a",): 1},
        b"bytes",
        {"a", "b"},
        Decimal("1.5"),
        datetime(2026, 1, 1, tzinfo=UTC),
        UUID(int=1),
        object(),
    ],
)
def test_what_is_not_json_is_refused_at_any_depth(value: Any) -> None:
    for holder in (value, [value], {"key": value}, {"key": [{"key": value}]}):
        with pytest.raises(NotCanonical):
            normalise(holder)
        with pytest.raises(NotCanonical):
            digest(holder)


def test_whole_numbers_of_64_bits_are_taken() -> None:
    for number in (2**63 - 1, -(2**63), 10**16):
        assert canonical_json(normalise(number)) == str(number)
    assert canonical_json(normalise(-(2.0**63))) == str(-(2**63))
    assert canonical_json(normalise(1e16)) == "10000000000000000"


def test_a_refusal_does_not_repeat_the_value() -> None:
    with pytest.raises(NotCanonical) as refusal:
        normalise({"mail": "alice@example.org\x00"})
    assert "alice" not in str(refusal.value)


def test_nesting_is_bounded() -> None:
    assert normalise(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    for levels in (MAX_DEPTH + 1, 100_000):
        with pytest.raises(NotCanonical):
            normalise(nested(levels))


def test_nesting_in_objects_is_bounded_as_well() -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH + 1):
        value = {"a": value}
    with pytest.raises(NotCanonical):
        digest(value)
