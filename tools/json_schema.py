"""A JSON Schema (2020-12) simplified where that changes nothing: what a value is, in one piece.

Libraries write an optional argument as `anyOf` of its type and null, and shared parts as `$ref`.
`resolved` follows references, merges `allOf`, and takes the one alternative that is not null.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MAX_DEPTH = 24
# What a schema may be put together from, in all: references to references multiply.
MAX_PARTS = 400
_ALTERNATIVES = ("anyOf", "oneOf")
_PUT_TOGETHER = frozenset({"$ref", "allOf", *_ALTERNATIVES})


@dataclass(frozen=True, slots=True)
class Resolved:
    """`schema` has one type and no references at its own level; `nullable` values may be null."""

    schema: Mapping[str, Any]
    nullable: bool = False

    @property
    def kind(self) -> str:
        return str(self.schema.get("type", ""))


def resolved(
    schema: Any, root: Mapping[str, Any], *, depth: int = 0, left: Iterator[int] | None = None
) -> Resolved | None:
    """The schema in one piece; None if it is of several types, refers in a circle, says none, or is
    put together from more than MAX_PARTS.
    """
    left = iter(range(MAX_PARTS)) if left is None else left
    if not isinstance(schema, Mapping) or depth > MAX_DEPTH or next(left, None) is None:
        return None
    parts = _parts(schema, root, depth, left)
    if parts is None:
        return None
    own = {name: said for name, said in schema.items() if name not in _PUT_TOGETHER}
    kinds, nullable = _kinds(schema), all(part.nullable for part in parts) if parts else True
    if kinds is None and not parts:
        return None
    if kinds is not None:
        real = [kind for kind in kinds if kind != "null"]
        if len(real) != 1:
            return None
        own["type"], nullable = real[0], nullable and "null" in kinds
    whole: dict[str, Any] | None = own
    for part in parts:
        whole = _merged(whole, part.schema) if whole is not None else None
    return Resolved(whole, nullable) if whole is not None else None


def _parts(
    schema: Mapping[str, Any], root: Mapping[str, Any], depth: int, left: Iterator[int]
) -> list[Resolved] | None:
    """Yield the parts of the schema, each in one piece."""
    wanted: list[Any] = []
    nullable = False
    if "$ref" in schema:
        wanted.append(target(schema["$ref"], root))
    found = schema.get("allOf")
    wanted += found if isinstance(found, Sequence) else []
    for keyword in _ALTERNATIVES:
        options = schema.get(keyword)
        if isinstance(options, Sequence):
            real = [one for one in options if not _is_null(one)]
            if len(real) != 1:
                return None
            nullable = len(real) < len(options)
            wanted += real
    plain = []
    for one in wanted:
        part = resolved(one, root, depth=depth + 1, left=left)
        if part is None:
            return None
        plain.append(part)
    return [Resolved(part.schema, nullable=True) for part in plain] if nullable else plain


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        schema.get("type") == "null" or ("const" in schema and schema["const"] is None)
    )


def _kinds(schema: Mapping[str, Any]) -> list[str] | None:
    """The types that the schema names, or that its constants or members have."""
    named = schema.get("type")
    if isinstance(named, str):
        values = schema.get("enum")
        may_be_null = isinstance(values, list) and None in values
        return [named, "null"] if may_be_null and named != "null" else [named]
    if isinstance(named, list):
        return [str(one) for one in named]
    if "const" in schema or isinstance(schema.get("enum"), list):
        values = [schema["const"]] if "const" in schema else schema["enum"]
        return sorted({_kind_of(value) for value in values})
    if "properties" in schema:
        return ["object"]
    return None


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    for kind, name in ((int, "integer"), (float, "number"), (str, "string"), (list, "array")):
        if isinstance(value, kind):
            return name
    return "object"


def _merged(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """Both at once; None where they are of different types. What is said nearer counts."""
    if "type" in own and "type" in other and own["type"] != other["type"]:
        numbers = {own["type"], other["type"]} == {"integer", "number"}
        if not numbers:
            return None
        own = {**own, "type": "integer"}
    merged = {**other, **own}
    if "properties" in own and "properties" in other:
        merged["properties"] = {**other["properties"], **own["properties"]}
    required = [*other.get("required", ()), *own.get("required", ())]
    if required:
        merged["required"] = list(dict.fromkeys(required))
    return merged


def target(reference: Any, root: Mapping[str, Any]) -> Any:
    """Return the target of a reference within the schema (RFC 6901); None for any other."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for part in reference[1:].split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and name.isdecimal() and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


# A value is compared with each list and object of an `enum`, in whole.
MAX_ENUMERATED_PARTS = 200


def enumerated_parts(schema: Any) -> int:
    """Count the parts of the lists and objects that `enum` and `const` name."""
    found, waiting = 0, [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            named = [*_listed(part.get("enum")), part.get("const")]
            found += sum(_count_parts(one) for one in named if isinstance(one, Mapping | list))
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _count_parts(value: Any) -> int:
    found, waiting = 0, [value]
    while waiting:
        part = waiting.pop()
        found += 1
        if isinstance(part, Mapping):
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found


def with_defaults(value: Any, schema: Any, root: Mapping[str, Any], *, depth: int = 0) -> Any:
    """The value with the defaults of the properties that it lacks, in objects and lists too."""
    if depth > MAX_DEPTH or not isinstance(value, dict | list):
        return value
    found = resolved(schema, root)
    if found is None:
        return value
    if isinstance(value, list):
        items = found.schema.get("items")
        return [with_defaults(one, items, root, depth=depth + 1) for one in value]
    filled = dict(value)
    properties = found.schema.get("properties")
    for name, rule in properties.items() if isinstance(properties, Mapping) else ():
        if name not in filled:
            default = _default_of(rule, root)
            if default is _NONE:
                continue
            filled[name] = default
        filled[name] = with_defaults(filled[name], rule, root, depth=depth + 1)
    return filled


_NONE = object()


def _default_of(rule: Any, root: Mapping[str, Any]) -> Any:
    if not isinstance(rule, Mapping):
        return _NONE
    if "default" in rule:
        return rule["default"]
    found = resolved(rule, root)
    return found.schema.get("default", _NONE) if found is not None else _NONE
