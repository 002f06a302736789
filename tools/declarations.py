"""Declarations of a tool for decisions, parsed: sources, facts, claims and labels."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.cel import Expression, InvalidExpression, compiled
from tools.data_classes import ensure_class
from tools.errors import InvalidToolDefinition

_LABEL = re.compile(r"[a-z0-9_-]{1,50}")
# CEL's own words, and the names that expressions get from us.
_RESERVED = frozenset(
    [
        "args",
        "facts",
        "claims",
        "in",
        "true",
        "false",
        "null",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
CLAIM_TYPES: Mapping[str, type] = {"bool": bool, "string": str, "int": int}


@dataclass(frozen=True, slots=True)
class Source:
    """A read tool of the same system, called before a decision; each argument is CEL."""

    name: str
    tool: str
    arguments: Mapping[str, Expression]


@dataclass(frozen=True, slots=True)
class Fact:
    name: str
    title: str
    expression: Expression
    policy_type: str
    data_class: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something the runtime declares. It is recorded as its word, never as a fact."""

    name: str
    title: str
    policy_type: str
    default: Any
    data_class: str = ""


def parsed_expression(what: str, text: Any, variables: Sequence[str]) -> Expression:
    try:
        return compiled(str(text), tuple(variables))
    except InvalidExpression as error:
        message = f"{what}: {error}"
        if "undeclared reference" in message:
            message += f" The names there are: {', '.join(variables)}."
        raise InvalidToolDefinition(message) from error


def parsed_sources(rows: Any) -> tuple[Source, ...]:
    found: list[Source] = []
    for row in _objects("sources", rows, {"name", "tool", "arguments"}):
        if not isinstance(row["arguments"], dict):
            message = f"source {row['name']}: its arguments must be an object."
            raise InvalidToolDefinition(message)
        variables = ("args", *(source.name for source in found))
        arguments = {
            name: parsed_expression(f"source {row['name']}, argument {name}", text, variables)
            for name, text in dict(row["arguments"]).items()
        }
        found.append(Source(_identifier(row["name"]), str(row["tool"]), arguments))
    return tuple(found)


def parsed_facts(rows: Any, variables: Sequence[str]) -> tuple[Fact, ...]:
    found: list[Fact] = []
    for row in _objects("facts", rows, {"name", "title", "expression"}, {"data_class"}):
        what = f"fact {row['name']}"
        expression = parsed_expression(what, row["expression"], (*variables, "facts"))
        policy_type = expression.policy_type
        if policy_type is None:
            message = (
                f"{what} is of type {expression.type_name}: a policy can use bool, int, string "
                f"and list of strings. Convert it, as in string(x) or int(x), or of a list each "
                f"item, as in .map(x, string(x))."
            )
            raise InvalidToolDefinition(message)
        name, title = _identifier(row["name"]), str(row["title"])
        data_class = ensure_class(row.get("data_class"), what)
        found.append(Fact(name, title, expression, policy_type, data_class))
    return tuple(found)


def parsed_claims(rows: Any) -> tuple[Claim, ...]:
    found = []
    for row in _objects("claims", rows, {"name", "title", "type", "default"}, {"data_class"}):
        kind = CLAIM_TYPES.get(str(row["type"]))
        if kind is None or type(row["default"]) is not kind:
            message = (
                f"claim {row['name']}: its type is one of {', '.join(CLAIM_TYPES)}, and its "
                "default is of that type."
            )
            raise InvalidToolDefinition(message)
        name, title = _identifier(row["name"]), str(row["title"])
        data_class = ensure_class(row.get("data_class"), f"claim {name}")
        found.append(Claim(name, title, row["type"], row["default"], data_class))
    return tuple(found)


def _objects(
    what: str, rows: Any, members: set[str], more: Collection[str] = ()
) -> list[dict[str, Any]]:
    """`more`: members that an object may have beside those it must have."""
    if not isinstance(rows, list) or any(
        not isinstance(row, dict) or set(row) - set(more) != members for row in rows
    ):
        message = f"{what} must be a list of objects with {', '.join(sorted(members))}."
        raise InvalidToolDefinition(message)
    names = [str(row["name"]) for row in rows]
    if len(names) != len(set(names)):
        message = f"{what} must have distinct names."
        raise InvalidToolDefinition(message)
    return rows


def _identifier(name: Any) -> str:
    text = str(name)
    if not text.isidentifier() or not text.isascii() or text in _RESERVED:
        message = f"{text} cannot be used as a name."
        raise InvalidToolDefinition(message)
    return text


def parsed_labels(rows: Any) -> tuple[str, ...]:
    if not isinstance(rows, list):
        message = "labels must be a list of short names."
        raise InvalidToolDefinition(message)
    for row in rows:
        if not isinstance(row, str) or not _LABEL.fullmatch(row):
            message = (
                f"labels must be a list of short names: {str(row)[:60]!r} is none. Lower-case "
                "letters, digits, - and _, at most 50."
            )
            raise InvalidToolDefinition(message)
    return tuple(rows)
