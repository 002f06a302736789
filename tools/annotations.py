"""Which schemas of a JSON Schema (2020-12) speak of which part of a value.

What a schema says of a value beyond whether it is valid (its annotations) counts here whichever of
several alternatives the value meets: "personal" in one branch of `anyOf` is personal.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

_ONE = (
    "additionalProperties",
    "unevaluatedProperties",
    "items",
    "unevaluatedItems",
    "contains",
    "if",
    "then",
    "else",
)
_SEVERAL = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "dependentSchemas", "$defs")
_DATA = frozenset({"const", "enum", "default", "examples"})
_REFERENCES = ("$ref", "$dynamicRef")


def spoken_of(value: Any, schema: Any) -> Iterator[tuple[str, Mapping[str, Any], Any]]:
    """(place after RFC 6901, schema, value) of every part that a schema speaks of."""
    waiting = deque([("", schema, value)])
    seen: set[tuple[str, int]] = set()
    while waiting:
        where, part, item = waiting.popleft()
        if not isinstance(part, Mapping) or (where, id(part)) in seen:
            continue
        seen.add((where, id(part)))
        yield where, part, item
        waiting.extend((where, one, item) for one in _of_the_same(part, schema))
        waiting.extend(_of_members(where, part, item))


def marks(schema: Any, keyword: str) -> tuple[list[Any], list[str]]:
    """What the keyword says wherever `spoken_of` comes, and every place where it stands in vain."""
    found, in_vain = [], []
    waiting: list[tuple[str, Any, bool]] = [("", schema, True)]
    while waiting:
        where, part, is_reached = waiting.pop()
        if isinstance(part, list):
            waiting += [(f"{where}/{n}", one, is_reached) for n, one in enumerate(part)]
        if not isinstance(part, Mapping):
            continue
        if keyword in part:
            found.append(part[keyword])
            if not is_reached:
                in_vain.append(where or "/")
        for name, inner in part.items():
            waiting += _parts(f"{where}/{escaped(str(name))}", name, inner, is_reached=is_reached)
    return found, in_vain


def unresolved(schema: Any) -> list[str]:
    """References that are not followed: but to a place within the schema (`#/...`), or to all."""
    found: list[str] = []
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            given = (part[name] for name in _REFERENCES if name in part)
            found += [str(one)[:80] for one in given if _resolved(str(one), schema) is None]
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def escaped(name: str) -> str:
    """A name as it stands in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def _parts(where: str, name: str, inner: Any, *, is_reached: bool) -> list[tuple[str, Any, bool]]:
    """The schemas that stand under a keyword; what is data is none."""
    if name in _DATA:
        return []
    if name in _NAMED and isinstance(inner, Mapping):
        named = inner.items()
        return [(f"{where}/{escaped(str(key))}", one, is_reached) for key, one in named]
    is_known = name in _ONE or name in _SEVERAL
    return [(where, inner, is_reached and is_known)]


def _of_the_same(part: Mapping[str, Any], root: Any) -> Iterator[Any]:
    """Further schemas of the same value."""
    for name in ("allOf", "anyOf", "oneOf"):
        yield from part.get(name) or ()
    for name in ("if", "then", "else"):
        yield part.get(name)
    dependent = part.get("dependentSchemas")
    if isinstance(dependent, Mapping):
        yield from dependent.values()
    for name in _REFERENCES:
        if name in part:
            yield _resolved(str(part[name]), root)


def _of_members(where: str, part: Mapping[str, Any], item: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(item, Mapping):
        for name, inner in item.items():
            for one in _of_property(part, str(name)):
                yield f"{where}/{escaped(str(name))}", one, inner
    elif isinstance(item, list):
        first = part.get("prefixItems") or []
        for number, inner in enumerate(item):
            own = first[number] if number < len(first) else part.get("items")
            for one in (own, part.get("contains"), part.get("unevaluatedItems")):
                yield f"{where}/{number}", one, inner


def _of_property(part: Mapping[str, Any], name: str) -> list[Any]:
    named = part.get("properties") or {}
    patterns = part.get("patternProperties") or {}
    found = [named[name]] if name in named else []
    found += [one for pattern, one in patterns.items() if _fits(pattern, name)]
    return found or [part.get("additionalProperties"), part.get("unevaluatedProperties")]


def _resolved(reference: str, root: Any) -> Any:
    """What a reference within the schema points to; None for any other."""
    if reference == "#":
        return root
    if not reference.startswith("#/"):
        return None
    found = root
    for part in reference[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def _fits(pattern: str, name: str) -> bool:
    return _of_pattern(pattern).is_valid(name)


@lru_cache(maxsize=1024)
def _of_pattern(pattern: str) -> jsonschema_rs.Draft202012Validator:
    # The engine that validates: in linear time, whatever name an agent sends.
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.Draft202012Validator({"pattern": pattern}, pattern_options=options)
