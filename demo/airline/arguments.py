import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from demo.airline.refusals import ArgumentsRefused

Schema = Mapping[str, Any]

LARGEST_NUMBER = 10**12

_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
}


@cache
def schemas() -> Mapping[str, Schema]:
    folder = Path(__file__).parent / "data"
    tools = [
        tool
        for name in ("tools.json", "fact_tools.json")
        for tool in json.loads((folder / name).read_text(encoding="utf-8"))
    ]
    return {tool["name"]: tool["parameters"] for tool in tools}


def understood(value: Any, schema: Schema, name: str = "arguments") -> Any:
    """The value without the properties that the schema does not know, which the airline ignores.

    Raises ArgumentsRefused unless the rest has the shape of the schema. Knows the part of JSON
    Schema that the airline's tools use.
    """
    if not _has_type(value, schema["type"]):
        message = f"{name} must be of type {schema['type']}"
        raise ArgumentsRefused(message)
    if value not in schema.get("enum", [value]):
        message = f"{name} must be one of {', '.join(schema['enum'])}"
        raise ArgumentsRefused(message)
    if isinstance(value, Mapping):
        return _understood_properties(value, schema, name)
    if isinstance(value, list):
        return [understood(item, schema["items"], f"{name} item") for item in value]
    return value


def _understood_properties(value: Mapping[str, Any], schema: Schema, name: str) -> dict[str, Any]:
    for missing in (each for each in schema["required"] if each not in value):
        message = f"{name} must have {missing}"
        raise ArgumentsRefused(message)
    return {
        key: understood(item, schema["properties"][key], key)
        for key, item in value.items()
        if key in schema["properties"]
    }


def _has_type(value: object, expected: str) -> bool:
    return isinstance(value, _TYPES[expected]) and _is_usable(value)


def _is_usable(value: object) -> bool:
    match value:
        case bool():
            return False  # an integer to Python, not to the airline
        case int() | float():
            return abs(value) <= LARGEST_NUMBER  # false for NaN too
        case str():
            return not _HALF_CHARACTERS.search(value)  # the database cannot store them
        case _:
            return True
