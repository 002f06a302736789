"""Classes of data, as a tool's schemas declare them for single properties.

`"x-data-class": "personal"` in a JSON Schema says what a value is. The portal acts on it: a
`secret` is no argument and is left out of answers; `personal` and `sensitive` values are kept
apart in the log, where seeing them is a right of its own. `"x-identifies": "order"` says that a
value is the identifier of an order: so the log can name what a call read, made or changed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from audit.values import bounded
from common.intake import SecretFound
from common.redaction import fingerprint, mark_of
from tools.errors import InvalidDefinition

KEYWORD = "x-data-class"
IDENTIFIES = "x-identifies"
PUBLIC, INTERNAL, PERSONAL, SENSITIVE, SECRET = (
    "public",
    "internal",
    "personal",
    "sensitive",
    "secret",
)
CLASSES = (PUBLIC, INTERNAL, PERSONAL, SENSITIVE, SECRET)
_APART = frozenset({PERSONAL, SENSITIVE})
_MAX_DEPTH = 32
MAX_THINGS = 50


def names_things(*schemas: Mapping[str, Any] | None) -> bool:
    """Whether the schemas say of some value what it identifies."""
    return any(True for schema in schemas for _ in _keywords(schema, IDENTIFIES, 0))


def declared_classes(*schemas: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The classes that the schemas name, each once. Raises InvalidDefinition for others."""
    found = {name for schema in schemas if schema for name in _keywords(schema, KEYWORD, 0)}
    unknown = sorted(str(name) for name in found if name not in CLASSES)
    if unknown:
        message = f"{KEYWORD} {unknown[0][:40]} is none of {', '.join(CLASSES)}."
        raise InvalidDefinition(message)
    return tuple(name for name in CLASSES if name in found)


def _keywords(schema: Any, keyword: str, depth: int) -> Iterator[Any]:
    if depth > 2 * _MAX_DEPTH:
        return
    if isinstance(schema, Mapping):
        if keyword in schema:
            yield schema[keyword]
        for inner in schema.values():
            yield from _keywords(inner, keyword, depth + 1)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _keywords(inner, keyword, depth + 1)


def things_in(*pairs: tuple[Any, Mapping[str, Any] | None]) -> list[dict[str, str]]:
    """The kind and identifier of everything that values name by their schemas, each once; the
    first MAX_THINGS.
    """
    found = {
        (str(kind), str(value)[:200]): None
        for given, schema in pairs
        if schema
        for _, kind, value in _marked(given, schema, "", 0, IDENTIFIES)
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    return [{"kind": kind, "id": value} for kind, value in list(found)[:MAX_THINGS]]


def ensure_no_secret_argument(arguments: Any, schema: Mapping[str, Any]) -> None:
    """Raises SecretFound for a value that is declared to be a secret."""
    for where, name, value in _marked(arguments, schema, "", 0):
        if name == SECRET and value not in (None, "", [], {}):
            raise SecretFound(where=where, kind="declared", fingerprint=fingerprint(str(value)))


def without_secrets(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """An answer with a mark in place of what the schema declares to be a secret."""
    if not schema:
        return value
    places = {
        where: mark_of("declared", str(found))
        for where, name, found in _marked(value, schema, "", 0)
        if name == SECRET and found not in (None, "")
    }
    return _replaced(value, places, "") if places else value


def set_apart(value: Any, schema: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """The value with its class in place of what is personal or sensitive, and that by its place
    (RFC 6901).
    """
    if not schema:
        return value, {}
    apart, places = {}, {}
    for where, name, found in _marked(value, schema, "", 0):
        if name in _APART:
            apart[where], places[where] = found, f"[{name}]"
    return (_replaced(value, places, ""), apart) if apart else (value, {})


def as_recorded(name: str, value: Any, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A value as details of an event: under its name, and under `sensitive` what is kept apart."""
    kept, apart = set_apart(value, schema)
    found = {name: bounded(kept)}
    if apart:
        found["sensitive"] = bounded(apart)
    return found


def _marked(
    value: Any, schema: Any, where: str, depth: int, keyword: str = KEYWORD
) -> Iterator[tuple[str, Any, Any]]:
    """(place, what the keyword says, value) of everything that has it, outermost only."""
    if not isinstance(schema, Mapping) or depth > _MAX_DEPTH:
        return
    if keyword in schema:
        yield where, schema[keyword], value
        return
    for part in (*schema.get("allOf", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _marked(value, part, where, depth + 1, keyword)
    for place, item, inner in _members(value, schema, where):
        yield from _marked(item, inner, place, depth + 1, keyword)


def _members(value: Any, schema: Mapping[str, Any], where: str) -> Iterator[tuple[str, Any, Any]]:
    """(place, value, schema) of each part that the schema speaks of."""
    if isinstance(value, Mapping):
        for name, inner in (schema.get("properties") or {}).items():
            if name in value:
                yield f"{where}/{_escaped(name)}", value[name], inner
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield f"{where}/{number}", item, schema.get("items")


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _replaced(value: Any, places: Mapping[str, str], where: str) -> Any:
    if where in places:
        return places[where]
    if isinstance(value, Mapping):
        return {
            name: _replaced(item, places, f"{where}/{_escaped(name)}")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_replaced(item, places, f"{where}/{n}") for n, item in enumerate(value)]
    return value
