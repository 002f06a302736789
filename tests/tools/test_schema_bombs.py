"""A schema that multiplies by its references is put together to a limit, and no further."""

from typing import Any

import pytest

from tools import json_schema
from tools.definitions import ensure_output_schema
from tools.errors import InvalidToolDefinition
from tools.json_schema import (
    MAX_ENUMERATED_PARTS,
    MAX_PARTS,
    enumerated_parts,
    resolved,
    with_defaults,
)


def multiplied(wide: int, levels: int) -> dict[str, Any]:
    parts: dict[str, Any] = {
        f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * wide} for n in range(levels)
    }
    parts[f"a{levels}"] = {"type": "object"}
    return {"type": "object", "properties": {"x": {"$ref": "#/$defs/a0"}}, "$defs": parts}


@pytest.mark.parametrize(("wide", "levels"), [(40, 4), (2, 20), (1_000, 2)])
def test_beyond_the_limit_nothing_is_put_together(
    wide: int, levels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, looked = multiplied(wide, levels), list[Any]()
    target = json_schema.target

    def counting(reference: Any, root: Any) -> Any:
        looked.append(reference)
        return target(reference, root)

    monkeypatch.setattr(json_schema, "target", counting)
    assert resolved(schema["properties"]["x"], schema) is None
    assert with_defaults({"x": {}}, schema, schema) == {"x": {}}
    assert len(looked) <= 4 * MAX_PARTS


@pytest.mark.parametrize("keyword", ["enum", "const"])
def test_lists_and_objects_to_compare_with_are_few(keyword: str) -> None:
    many: list[Any] = [[number] for number in range(300)]
    rule = {keyword: many if keyword == "enum" else {"a": many}}
    schema = {"properties": {"a": {"items": {"anyOf": [rule, {"type": "string"}]}}}}
    assert enumerated_parts(schema) >= 600 > MAX_ENUMERATED_PARTS
    assert enumerated_parts({"enum": [*range(5_000), *"abc", None]}) == 0
    with pytest.raises(InvalidToolDefinition, match="enumerates"):
        ensure_output_schema({"type": "object", **schema})


def test_what_is_shared_within_reason_is() -> None:
    schema = multiplied(3, 3)
    found = resolved(schema["properties"]["x"], schema)
    assert found is not None
    assert found.kind == "object"
