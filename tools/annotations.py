"""Lookup of the schemas in a JSON Schema (2020-12) that describe a part of a value.

What a schema says of a value beyond whether it is valid (its annotations) counts here whichever of
several alternatives the value meets: "personal" in one branch of `anyOf` is personal.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import jsonschema_rs

from common.json_pointers import escaped

_OF_THE_SAME = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else")
_OF_PROPERTIES = ("additionalProperties", "unevaluatedProperties")
_OF_ITEMS = ("items", "contains", "unevaluatedItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas")
_DATA = frozenset({"const", "enum", "default", "examples"})
_REFERENCES = ("$ref", "$dynamicRef")

Schema = Mapping[str, Any]
# The place of a part: that of what it is in, and its name or number there.
_Place = tuple[Any, str | int] | None


def spoken_of(value: Any, schema: Any, keyword: str) -> Iterator[tuple[str, Any, Any]]:
    """(place after RFC 6901, what the keyword says, value) of every part of which it says
    something, outer parts first. In time by the number of the value's parts.
    """
    walk = _SchemaWalk(schema)
    waiting: deque[tuple[_Place, Any, _State]] = deque([(None, value, walk.state([schema]))])
    while waiting:
        place, item, state = waiting.popleft()
        for said in state.says(keyword):
            yield _pointer(place), said, item
        waiting.extend(
            ((place, key), inner, one)
            for key, inner, one in walk.members(state, item)
            if one.schemas and (isinstance(inner, Mapping | list) or one.says(keyword))
        )


def marks(schema: Any, keyword: str) -> tuple[list[Any], list[str]]:
    """Return the keyword's values wherever `spoken_of` can come, and each place where it has no
    effect.
    """
    reached = _reached(schema)
    found = [one[keyword] for one in reached.values() if keyword in one]
    in_vain = []
    waiting: list[tuple[str, Any]] = [("", schema)]
    while waiting:
        where, part = waiting.pop()
        if isinstance(part, list):
            waiting += [(f"{where}/{n}", one) for n, one in enumerate(part)]
        if not isinstance(part, Mapping):
            continue
        if keyword in part and id(part) not in reached:
            in_vain.append(where or "/")
        for name, inner in part.items():
            below = f"{where}/{escaped(str(name))}"
            if name in {*_NAMED, "$defs", "definitions"} and isinstance(inner, Mapping):
                waiting += [(f"{below}/{escaped(str(key))}", one) for key, one in inner.items()]
            elif name not in _DATA:
                waiting.append((below, inner))
    return found, in_vain


def said_of(part: Any, root: Any, keyword: str) -> list[Any]:
    """Return the keyword's values for a value that this part of the schema `root` describes."""
    return _SchemaWalk(root).state([part]).says(keyword)


def unresolved(schema: Any) -> list[str]:
    """References that are not followed: to anything but a place within the schema (`#/...`), or
    within a part that has an `$id` of its own, from which they would count.
    """
    found = []
    for part in _reached(schema).values():
        if part is not schema and "$id" in part:
            found.append(f"$id {part['$id']}"[:80])
        given = [str(part[name]) for name in _REFERENCES if name in part]
        found += [one[:80] for one in given if _resolved(one, schema) is None]
    return found


@dataclass
class _State:
    """All schemas that speak of a part, and what was found out about its members so far."""

    schemas: Sequence[Schema]
    said: dict[str, list[Any]] = field(default_factory=dict)
    properties: dict[str, "_State"] = field(default_factory=dict)
    items: dict[int, "_State"] = field(default_factory=dict)

    def says(self, keyword: str) -> list[Any]:
        if keyword not in self.said:
            self.said[keyword] = [one[keyword] for one in self.schemas if keyword in one]
        return self.said[keyword]

    @property
    def first_items(self) -> int:
        """Count the items that have a schema by their position."""
        return max((len(_list(one.get("prefixItems"))) for one in self.schemas), default=0)


class _SchemaWalk:
    """The states that parts of a value can be in: as many as there are sets of schemas, however
    large the value is.
    """

    def __init__(self, root: Any) -> None:
        self._root = root
        self._states: dict[tuple[int, ...], _State] = {}

    def state(self, schemas: Sequence[Any]) -> _State:
        found: dict[int, Schema] = {}
        waiting = list(schemas)
        while waiting:
            part = waiting.pop()
            if isinstance(part, Mapping) and id(part) not in found:
                found[id(part)] = part
                waiting += _of_the_same(part, self._root)
        key = tuple(sorted(found))
        return self._states.setdefault(key, _State(list(found.values())))

    def members(self, state: _State, item: Any) -> Iterator[tuple[str | int, Any, _State]]:
        if isinstance(item, Mapping):
            for name, inner in item.items():
                known = state.properties.get(str(name))
                if known is None:
                    schemas = [s for one in state.schemas for s in _of_property(one, str(name))]
                    known = state.properties[str(name)] = self.state(schemas)
                yield str(name), inner, known
        elif isinstance(item, list):
            first = state.first_items
            for number, inner in enumerate(item):
                place = min(number, first)  # from there on all are alike
                known = state.items.get(place)
                if known is None:
                    schemas = [s for one in state.schemas for s in _of_item(one, place)]
                    known = state.items[place] = self.state(schemas)
                yield number, inner, known


def _reached(schema: Any) -> dict[int, Schema]:
    """Every schema that can speak of some part of a value."""
    found: dict[int, Schema] = {}
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if not isinstance(part, Mapping) or id(part) in found:
            continue
        found[id(part)] = part
        waiting += _of_the_same(part, schema)
        waiting += [part.get(name) for name in (*_OF_PROPERTIES, *_OF_ITEMS)]
        waiting += _list(part.get("prefixItems"))
        waiting += [one for name in _NAMED for one in _map(part.get(name)).values()]
    return found


def _of_the_same(part: Schema, root: Any) -> list[Any]:
    """Further schemas of the same value."""
    found = [one for name in _OF_THE_SAME for one in _list(part.get(name))]
    found += [part.get(name) for name in _CONDITIONS]
    found += _map(part.get("dependentSchemas")).values()
    return found + [_resolved(str(part[name]), root) for name in _REFERENCES if name in part]


def _of_item(part: Schema, number: int) -> list[Any]:
    first = _list(part.get("prefixItems"))
    own = first[number] if number < len(first) else part.get("items")
    return [own, part.get("contains"), part.get("unevaluatedItems")]


def _of_property(part: Schema, name: str) -> list[Any]:
    named, patterns = _map(part.get("properties")), _map(part.get("patternProperties"))
    found = [named[name]] if name in named else []
    found += [one for pattern, one in patterns.items() if _fits(pattern, name)]
    return found or [part.get(one) for one in _OF_PROPERTIES]


def _list(given: Any) -> list[Any]:
    return given if isinstance(given, list) else []


def _map(given: Any) -> Schema:
    return given if isinstance(given, Mapping) else {}


def _resolved(reference: str, root: Any) -> Any:
    """Return the target of a reference within the schema; None for any other."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    found = root
    for part in unquote(reference[2:]).split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found if isinstance(found, Mapping) else None


def _pointer(place: _Place) -> str:
    parts: list[str] = []
    while place is not None:
        place, key = place
        parts.append(escaped(str(key)))
    return "".join(f"/{part}" for part in reversed(parts))


def _fits(pattern: str, name: str) -> bool:
    engine = _of_pattern(pattern)
    return engine is None or engine.is_valid(name)


@lru_cache(maxsize=1024)
def _of_pattern(pattern: str) -> jsonschema_rs.Draft202012Validator | None:
    """The engine that validates: in linear time, whatever name an agent sends. None for a pattern
    that it does not know: then every name counts as one that fits.
    """
    options = jsonschema_rs.RegexOptions()
    try:
        return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
    except (jsonschema_rs.ValidationError, ValueError):
        return None
