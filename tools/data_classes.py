"""Classes of data, as a tool's schemas declare them for single properties.

`"x-data-class": "personal"` in a JSON Schema says what a value is. The portal acts on it: a
`secret` is no argument and is left out of answers; `personal` and `sensitive` values are kept
apart in the log, where seeing them is a right of its own. `"x-identifies": "order"` says that a
value is the identifier of an order: so the log can name what a call read, made or changed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from audit import bounded_values
from common.canonical import canonical_json
from common.input_checks import SecretFound
from common.json_pointers import replaced
from common.redaction import fingerprint, mark_of, plain_digits
from tools.annotations import marks, spoken_of
from tools.classes import (
    APART,
    CLASSES,
    CLOSED,
    IDENTIFIES,
    KEYWORD,
    PUBLIC,
    SECRET,
    classes_in,
    problem_of,
)
from tools.errors import InvalidToolDefinition

MAX_THINGS = 50
# Characters of all places together: paths may be long, and items many.
_MAX_PLACES = 2_000_000


def ensure_class(name: Any, what: str) -> str:
    """A class that somebody gives a fact or a claim; "" if none. Raises InvalidDefinition."""
    if name is None or name == "":
        return ""
    if not isinstance(name, str) or name not in CLASSES or name == SECRET:
        message = f"{what}: its data_class is one of {', '.join(CLASSES[:-1])}."
        raise InvalidToolDefinition(message)
    return name


def names_things(*schemas: Mapping[str, Any] | None) -> bool:
    """Whether the schemas say of some value what it identifies."""
    return any(marks(schema, IDENTIFIES)[0] for schema in schemas if schema)


def declared_classes(*schemas: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The classes that the schemas name, each once. Raises InvalidDefinition for others."""
    found = classes_in(*schemas)
    unknown = sorted(str(name) for name in found if name not in CLASSES)
    if unknown:
        message = f"{KEYWORD} {unknown[0][:40]} is none of {', '.join(CLASSES)}."
        raise InvalidToolDefinition(message)
    return tuple(name for name in CLASSES if name in found)


def ensure_acted_on(*schemas: Mapping[str, Any] | None) -> None:
    """Raises InvalidDefinition for what the schemas say of classes in vain; see `problem_of`."""
    for problem in filter(None, map(problem_of, filter(None, schemas))):
        raise InvalidToolDefinition(problem)


def things_in(*pairs: tuple[Any, Mapping[str, Any] | None]) -> list[dict[str, str]]:
    """The kind and identifier of everything that values name by their schemas, each once; the
    first MAX_THINGS. An identifier that is kept apart is not named: its class stands for it.
    """
    found: dict[tuple[str, str], None] = {}
    for given, schema in pairs:
        if not schema:
            continue
        classes = _classes(given, schema)
        for where, kind, value in spoken_of(given, schema, IDENTIFIES):
            if isinstance(value, str | int) and not isinstance(value, bool):
                named = _closed_class(where, classes)
                found[str(kind), f"[{named}]" if named else str(value)[:200]] = None
            if len(found) == MAX_THINGS:
                break
    return [{"kind": kind, "id": value} for kind, value in list(found)[:MAX_THINGS]]


def _closed_class(where: str, classes: Mapping[str, tuple[str, Any]]) -> str:
    """The class of a value, or of what it is within, if it does not lie in the open."""
    while True:
        name, _ = classes.get(where, (PUBLIC, None))
        if name in CLOSED:
            return name
        if not where:
            return ""
        where = where.rpartition("/")[0]


def vouched(value: Any, schema: Mapping[str, Any] | None) -> frozenset[str]:
    """The values of which the schema says what they identify, or that they are public: no guess
    about their form overrules that. As text, without the spaces and dashes of groups of digits.
    """
    if not schema or not isinstance(value, dict | list):
        return frozenset()
    found = [item for _, _, item in spoken_of(value, schema, IDENTIFIES)]
    found += [item for _, name, item in spoken_of(value, schema, KEYWORD) if name == PUBLIC]
    return frozenset(
        plain_digits(str(item))
        for item in found
        if isinstance(item, str | int) and not isinstance(item, bool)
    )


def ensure_no_secret_argument(arguments: Any, schema: Mapping[str, Any]) -> None:
    """Raises SecretFound for a value that is declared to be a secret."""
    for where, (name, value) in _classes(arguments, schema).items():
        if name == SECRET and value not in (None, "", [], {}):
            raise SecretFound(where=where, kind="declared", fingerprint=fingerprint(str(value)))


def without_secrets(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """An answer with a mark in place of what the schema declares to be a secret."""
    if not schema:
        return value
    marked = {where: secret_mark(found) for where, found in secrets_in(value, schema).items()}
    return replaced(value, marked) if marked else value


def secrets_in(value: Any, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the places (RFC 6901) that the schema declares secret; of nested secrets the outer."""
    found = {
        where: given
        for where, (name, given) in _classes(value, schema).items()
        if name == SECRET and given not in (None, "", [], {})
    }
    return {where: given for where, given in found.items() if not any(_above(where, found))}


def secret_mark(secret: Any) -> str:
    """Return the placeholder of a declared secret."""
    return mark_of("declared", secret if isinstance(secret, str) else canonical_json(secret))


def set_apart(value: Any, schema: Mapping[str, Any] | None) -> tuple[Any, dict[str, Any]]:
    """The value with its class in place of what is personal or sensitive, and that by its place
    (RFC 6901). What lies within something that is kept apart goes with it.
    """
    if not schema:
        return value, {}
    classes = _classes(value, schema)
    chosen = {where: one for where, one in classes.items() if one[0] in APART}
    outermost = {where: one for where, one in chosen.items() if not any(_above(where, chosen))}
    if not outermost:
        return value, {}
    places = {where: f"[{name}]" for where, (name, _) in outermost.items()}
    return replaced(value, places), {where: found for where, (_, found) in outermost.items()}


def _above(where: str, places: Mapping[str, Any]) -> Iterator[bool]:
    while where:
        where = where.rpartition("/")[0]
        yield where in places


def _classes(value: Any, schema: Mapping[str, Any]) -> dict[str, tuple[str, Any]]:
    """(class, value) by place; of several classes for one place the strictest.

    Of a value with more places than can be named the whole is of the strictest class that the
    schema knows.
    """
    found: dict[str, tuple[str, Any]] = {}
    left = _MAX_PLACES
    for where, name, item in spoken_of(value, schema, KEYWORD):
        if not isinstance(name, str) or name not in CLASSES:
            continue
        left -= len(where) + 1
        if left < 0:
            return {"": (max(declared_classes(schema), key=CLASSES.index), value)}
        known = found.get(where)
        if known is None or CLASSES.index(known[0]) < CLASSES.index(name):
            found[where] = (name, item)
    return found


def classes_apart(value: Any, schema: Mapping[str, Any] | None) -> dict[str, str]:
    """The class of each part that is personal or sensitive, by its place (RFC 6901)."""
    classes = _classes(value, schema) if schema else {}
    return {where: name for where, (name, _) in classes.items() if name in APART}


def as_recorded(name: str, value: Any, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """A value as details of an event: under its name, and under `sensitive` what is kept apart."""
    kept, apart = set_apart(value, schema)
    found = {name: bounded_values.bounded(kept)}
    if apart:
        found[bounded_values.SENSITIVE] = bounded_values.bounded(apart)
    return found
