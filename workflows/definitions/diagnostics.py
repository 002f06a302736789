"""Collecting everything that is wrong with a definition, each at its line."""

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from common.cel import Declared, Expression, InvalidExpression
from workflows.definitions.source import Diagnostic, Path, SourceText
from workflows.definitions.templates import InvalidTemplate, Template, expression, is_expression


class Problems:
    """A definition being checked: says where things stand, and remembers what is wrong."""

    def __init__(self, source: SourceText) -> None:
        self._source = source
        self.found: list[Diagnostic] = []

    def add(self, path: Path, message: str, *, below: int = 0) -> None:
        """A problem at the line of `path`, or `below` lines further down in its text."""
        self.found.append(Diagnostic(self._source.line(path) + below, message))

    def sorted(self) -> list[Diagnostic]:
        return sorted(set(self.found))

    def check_form(
        self, validator: jsonschema_rs.Validator, value: Any, path: Path, what: str
    ) -> bool:
        """Whether the value has the form; each way in which it has not is a problem."""
        broken = list(validator.iter_errors(value))
        for error in broken:
            self.add((*path, *error.instance_path), _sentence(error, what))
        return not broken

    def expression(
        self, text: str, names: Declared, path: Path, *, of_type: str = ""
    ) -> Expression | None:
        """The compiled expression, if it is valid and of the type that is needed."""
        try:
            found = expression(text, names)
        except (InvalidTemplate, InvalidExpression) as error:
            message, below = _said(str(error))
            self.add(path, message, below=below)
            return None
        if of_type and found.type_name not in {of_type, "DYN"}:
            self.add(path, f"This is of type {found.type_name} where {of_type} is needed.")
            return None
        return found

    def template(self, value: Any, names: Declared, path: Path) -> Template:
        """The value with its expressions compiled."""
        return Template(self._compiled(value, names, path))

    def _compiled(self, value: Any, names: Declared, path: Path) -> Any:
        if is_expression(value):
            return self.expression(value, names, path)
        if isinstance(value, Mapping):
            return {
                name: self._compiled(item, names, (*path, name)) for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._compiled(item, names, (*path, n)) for n, item in enumerate(value)]
        return value


def _sentence(error: jsonschema_rs.ValidationError, what: str) -> str:
    missing = getattr(error.kind, "property", None)
    if missing is not None:
        return f"{what} must say {missing}."
    unexpected = getattr(error.kind, "unexpected", None)
    if unexpected:
        return f"{what} has no {unexpected[0]}."
    where = str(error.instance_path[-1]) if error.instance_path else what
    return f"{where}: {error.message}"


def _said(text: str) -> tuple[str, int]:
    """An engine's message for people, and how many lines below the start it points."""
    place, _, said = text.removeprefix("<input>:").partition(": ")
    line, _, _ = place.partition(":")
    below = int(line) - 1 if line.isdigit() and text.startswith("<input>:") else 0
    message = said if text.startswith("<input>:") else text
    message = message.replace(" (in container '')", "")
    if "undeclared reference" in message:
        message += ": it is no input, no step that this one needs, and nothing of the run"
    if "(double, int)" in message or "(int, double)" in message:
        message += ": whole and decimal numbers are not mixed, write 5.0 or use double(x)"
    return f"{message[:1].upper()}{message[1:]}.", below
