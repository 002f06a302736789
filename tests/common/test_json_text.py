"""JSON from elsewhere is read strictly."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.json_text import parsed

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"b": {"a": 1, "\\u0061": 2}}',
        b'"\xed\xa0\x80"',
        b'"\\ud800"',
        '{"a": 1}'.encode("utf-16"),
        '{"a": 1}'.encode("utf-32"),
        b"9" * 5_000,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"",
        b"{",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_what_readers_would_take_differently_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each with a parser's own words
        parsed(body)


@given(VALUES)
def test_what_is_well_formed_comes_back(value: object) -> None:
    try:
        body = json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a character: refused by the encoder already
        return
    assert parsed(body) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_nothing(value: float) -> None:
    assert math.isclose(float(parsed(json.dumps(value).encode())), value, rel_tol=0, abs_tol=0)


def test_brackets_in_text_are_no_nesting() -> None:
    assert parsed(json.dumps("[" * 10_000).encode()) == "[" * 10_000
