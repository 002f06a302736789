"""Arguments that a tool's schema declares to be secrets (`"x-data-class": "secret"`).

An agent may send them and the system gets them; nobody else sees them. In what is decided on, shown
and stored a mark with a keyed fingerprint stands in the place of each, so that an approval is still
bound to the very value. Rules, facts and amounts cannot look at them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from common.canonical import canonical_json, composed
from common.json_pointers import escaped, replaced
from common.secret_names import rule_of
from tools.annotations import marks as marks_of
from tools.annotations import said_of
from tools.classes import KEYWORD, SECRET
from tools.credentials import Credential, Hidden
from tools.data_classes import secret_mark, secrets_in
from tools.errors import InvalidArguments, InvalidToolDefinition, SecretUnusable

# Shorter ones are part of too many texts to be masked in an answer.
_SHORTEST_MASKED = 4
MAX_SECRET_TEXTS = 50
_DROPPED = object()


def secrets_set_apart(arguments: Any, schema: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arguments with marks in place of what is secret, and that by its place (RFC 6901)."""
    secrets = secrets_in(arguments, schema)
    marks = {where: secret_mark(secret) for where, secret in secrets.items()}
    return (replaced(arguments, marks), secrets) if marks else (arguments, {})


def with_secrets(
    arguments: Any, secrets: Mapping[str, Any], marks: Mapping[str, str] | None = None
) -> Any:
    """The arguments as they are sent: each secret in the place of its mark. `marks`: those that
    stood for the secrets when they were decided on, if a key has changed since.

    Raises SecretUnusable if a secret is not the one that its mark stands for.
    """
    there = dict(_marks_in(arguments, ""))
    for where, secret in secrets.items():
        if there.get(where) != (secret_mark(secret) if marks is None else marks.get(where)):
            message = "A secret argument is not the one that was decided on."
            raise SecretUnusable(message)
    return replaced(arguments, secrets)


def _marks_in(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _marks_in(item, f"{where}/{escaped(str(name))}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _marks_in(item, f"{where}/{number}")


def without_secret_arguments(
    arguments: Mapping[str, Any], schema: Mapping[str, Any]
) -> Mapping[str, Any]:
    """The arguments without what is secret, as if it had not been sent."""
    left = without_secret_parts(arguments, schema)
    return left if isinstance(left, Mapping) else {}


def without_secret_parts(value: Any, schema: Mapping[str, Any] | None) -> Any:
    """Return the value without what its schema declares to be secret; None if all of it is."""
    places = dict.fromkeys(secrets_in(value, schema) if schema else (), _DROPPED)
    if not places:
        return value
    left = _without_dropped(replaced(value, places))
    return None if left is _DROPPED else left


def _without_dropped(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {n: _without_dropped(item) for n, item in value.items() if item is not _DROPPED}
    if isinstance(value, list):
        return [_without_dropped(item) for item in value if item is not _DROPPED]
    return value


def ensure_few(secrets: Mapping[str, Any]) -> None:
    """Refuse secrets of many texts: each is looked for in everything that a system answers.

    Raises InvalidArguments.
    """
    texts = [text for secret in secrets.values() for text in _texts_in(secret)]
    if len(texts) > MAX_SECRET_TEXTS:
        message = f"The secret arguments have more than {MAX_SECRET_TEXTS} texts and numbers."
        raise InvalidArguments(message)


def credentials_of(secrets: Mapping[str, Any]) -> tuple[Credential, ...]:
    """The secrets as what is masked in everything that a system answers."""
    texts = [text for secret in secrets.values() for text in _texts_in(secret)]
    return tuple(
        Credential("argument", "", "", "", Hidden(text))
        for text in texts
        if len(text) >= _SHORTEST_MASKED
    )


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(item)
    elif isinstance(value, str):
        yield value
    elif value is not None and not isinstance(value, bool):
        yield canonical_json(value)


def ensure_secrets_unused(schema: Mapping[str, Any], *, expressions: Mapping[str, str]) -> None:
    """Refuse an expression over a secret argument, or over a value that has one in it.

    Results of expressions are recorded and shown. Secrets are left out before an expression is
    evaluated, so without this check it would silently compute something else. Raises
    InvalidDefinition.
    """
    paths = list(_secret_paths(schema))
    for what, text in expressions.items() if paths else ():
        for used in _paths_used(text):
            for path in paths:
                shorter = min(len(used), len(path))
                if used[:shorter] == path[:shorter]:
                    secret, name = ".".join(path), ".".join(("args", *used))
                    message = f"{what}: {name} has to do with {secret}, which is a secret."
                    raise InvalidToolDefinition(message)


_ARGS = re.compile(r"\bargs\b")
_MEMBER = re.compile(r"""\s*(?:\.\s*(\w++)(?!\s*\()|\[\s*(['"])(.*?)\2\s*\])""")


def _paths_used(text: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every use of `args` in a CEL expression: `args.a["b"]` is ("a", "b")."""
    for found in _ARGS.finditer(text):
        path: tuple[str, ...] = ()
        member = _MEMBER.match(text, found.end())
        while member:
            path = (*path, member[1] or member[3])
            member = _MEMBER.match(text, member.end())
        yield path


def ensure_secrets_named(schema: Mapping[str, Any]) -> None:
    """Raises InvalidDefinition for a secret that is not one property by its name: of others facts
    could count how many there are, and rules would be checked against another schema. And for names
    that are not in the form in which arguments are compared.
    """
    if composed(schema) != schema:
        message = "The input schema must be in Unicode's composed form (NFC)."
        raise InvalidToolDefinition(message)
    said = [one for one in marks_of(schema, KEYWORD)[0] if one == SECRET]
    if len(said) != len(list(_secret_paths(schema))):
        message = f"{KEYWORD} {SECRET} stands at a property by its name, and nowhere else."
        raise InvalidToolDefinition(message)


def _secret_paths(schema: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names, from the root on, of every property that is a secret."""
    if not isinstance(schema, Mapping):
        return
    if schema.get(KEYWORD) == SECRET:
        yield above
        return
    named = schema.get("properties")
    for name, rule in named.items() if isinstance(named, Mapping) else ():
        yield from _secret_paths(rule, (*above, name))


def undeclared_secrets(schema: Mapping[str, Any]) -> list[str]:
    """Arguments with the name of a credential of which the schema does not say what they are: calls
    that give them are refused.
    """
    return sorted(
        {
            name
            for name, rule in _properties(schema)
            if rule_of(name) is not None and not said_of(rule, schema, KEYWORD)
        }
    )


def _properties(schema: Any) -> Iterator[tuple[str, Any]]:
    """Every property that the schema names anywhere, with what it says of it."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            named = part.get("properties")
            yield from named.items() if isinstance(named, Mapping) else ()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
