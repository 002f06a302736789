"""What is hashed of an event, and what lies beside it."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import leaf_encoding
from audit.errors import LeafInvalid
from audit.event_types import declared
from common.canonical import canonical_json
from common.ids import uuid7

AT = datetime(2026, 3, 1, 12, 30, 15, 123, tzinfo=UTC)
JCS = Path(__file__).parent / "vectors" / "jcs"
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-leaf_encoding.MAX_SAFE_INTEGER, leaf_encoding.MAX_SAFE_INTEGER)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.sampled_from("abcXYZ_.-"), min_size=1), inner, max_size=4)
    ),
)


def row(**details: Any) -> dict[str, Any]:
    return {
        "uid": uuid7(),
        "recorded_at": AT,
        "type": "agent.suspended",
        "actor_kind": "human",
        "actor_id": "7",
        "actor_label": "Ada",
        "subject_kind": "agents.agent",
        "subject_id": "1",
        "subject_label": "tilda",
        "run_id": None,
        "request_id": "",
        "details": details,
    }


def test_the_leaf_names_nobody_and_commits_to_everything() -> None:
    given_ = row(tool="crm.get", reason="Ada asked for it.")
    made = leaf_encoding.encode_event(given_, writer=["w", 3])
    leaf = leaf_encoding.parsed_leaf(made.text)
    assert "Ada" not in made.text
    assert leaf == {
        "v": 1,
        "uid": str(given_["uid"]),
        "at": "2026-03-01T12:30:15.000123Z",
        "type": "agent.suspended",
        "actor": {"kind": "human", "id": "7"},
        "subject": {"kind": "agents.agent", "id": "1"},
        "w": ["w", 3],
        "details": {"tool": "crm.get"},
        "sd": {name: leaf_encoding.digest_of(text) for name, text in made.disclosures.items()},
    }
    assert {leaf_encoding.decode_disclosure(text) for text in made.disclosures.values()} == {
        ("actor.label", "Ada"),
        ("subject.label", "tilda"),
        ("details.reason", "Ada asked for it."),
    }


def test_equal_values_have_unequal_digests() -> None:
    first, second = (leaf_encoding.encode_event(row(reason="x"), writer=["w", n]) for n in (1, 2))
    digests = [
        leaf_encoding.parsed_leaf(made.text)["sd"]["details.reason"] for made in (first, second)
    ]
    assert digests[0] != digests[1]


@pytest.mark.parametrize(
    "value", [0.5, {"a": 1}, "x" * 257, ["x"] * 65, 2**53, ["a", ["b"]], [1.5]]
)
def test_a_detail_that_is_large_or_not_plain_lies_beside(value: Any) -> None:
    made = leaf_encoding.encode_event(row(rules=value), writer=["w", 1])
    leaf = leaf_encoding.parsed_leaf(made.text)
    assert "details" not in leaf
    assert leaf_encoding.decode_disclosure(made.disclosures["details.rules"]) == (
        "details.rules",
        value,
    )


def test_every_detail_in_the_open_is_declared_by_some_event() -> None:
    known = {name for kind in declared().values() for name in kind.details}
    assert leaf_encoding.OPEN_DETAILS - known == set()


def test_digests_of_what_people_sent_are_not_in_the_open() -> None:
    known = {name for kind in declared().values() for name in kind.details}
    digests = {name for name in known if name.endswith("_digest")}
    assert {"args_digest", "result_digest"} <= digests
    assert not digests & leaf_encoding.OPEN_DETAILS
    assert not {"reason", "owner", "sponsor", "former", "issuer"} & leaf_encoding.OPEN_DETAILS


def test_the_known_answer_of_rfc_9901() -> None:
    """Section 4.2.3: the digest is over the text of the disclosure, as it was sent."""
    text = "WyJfMjZiYzRMVC1hYzZxMktJNmNCVzVlcyIsICJmYW1pbHlfbmFtZSIsICJNw7ZiaXVzIl0"
    assert leaf_encoding.digest_of(text) == "X9yH0Ajrdm1Oij4tWso9UzzKJvPoDxwmuEcO3XAdRC0"
    assert leaf_encoding.decode_disclosure(text) == ("family_name", "Möbius")


@given(VALUES)
def test_what_is_disclosed_is_what_was_given(value: Any) -> None:
    text = leaf_encoding.disclosure("details.x", value, b"s" * 16)
    assert leaf_encoding.decode_disclosure(text) == ("details.x", value)


@given(VALUES)
def test_a_leaf_is_read_as_it_was_written(value: Any) -> None:
    text = leaf_encoding.leaf_text({"v": 1, "x": value})
    assert leaf_encoding.parsed_leaf(text) == {"v": 1, "x": value}


@pytest.mark.parametrize("name", [path.stem for path in sorted((JCS / "input").glob("*.json"))])
def test_the_published_texts_are_canonical_or_refused(name: str) -> None:
    """RFC 8785 where our profile allows the value; refused where it does not."""
    value = json.loads((JCS / "input" / f"{name}.json").read_text())
    expected = (JCS / "output" / f"{name}.json").read_text()
    if name in {"arrays", "unicode"}:
        leaf_encoding.ensure_in_profile(value)
        assert canonical_json(value) == expected
    else:
        with pytest.raises(LeafInvalid):
            leaf_encoding.ensure_in_profile(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"v":2}',
        '{"v": 1}',
        '{"v":1,"a":0.5}',
        '{"v":1,"b":1,"a":1}',
        '{"v":1,"v":1}',
        '{"v":1,"ü":1}',
        '{"a":9007199254740993,"v":1}',
    ],
)
def test_what_is_not_the_text_of_a_leaf_is_refused(text: str) -> None:
    with pytest.raises(LeafInvalid):
        leaf_encoding.parsed_leaf(text)


def test_a_leaf_too_large_is_refused() -> None:
    with pytest.raises(LeafInvalid, match="larger than"):
        leaf_encoding.encode_event(row(**{f"d{n}": n for n in range(2_000)}), writer=["w", 1])


@pytest.mark.parametrize("text", ["", "!", "aGk", base64.urlsafe_b64encode(b"[1,2]").decode()])
def test_what_is_no_disclosure_is_refused(text: str) -> None:
    with pytest.raises(LeafInvalid):
        leaf_encoding.decode_disclosure(text)


def test_the_code_of_a_leaf_depends_on_each_byte_and_on_the_key() -> None:
    code = leaf_encoding.mac_of("leaf", b"k" * 32)
    assert code != leaf_encoding.mac_of("leaF", b"k" * 32)
    assert code != leaf_encoding.mac_of("leaf", b"K" * 32)
