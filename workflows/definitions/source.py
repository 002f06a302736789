"""Reading a definition's YAML: plain values, each with the line it stands on.

YAML is input only. What is read is what JSON can say: no tags, anchors or aliases, no dates, no
`yes` and `no` as booleans, no key twice.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from common.canonical import NotCanonical, normalise

MAX_BYTES = 100_000
MAX_DEPTH = 40

# Where a value is: the keys and places that lead to it.
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """A problem and its line in the text; lines count from 1."""

    line: int
    message: str

    def plain(self) -> dict[str, Any]:
        return {"line": self.line, "message": self.message}


class Unreadable(Exception):
    """The text is not YAML of the kind that is read here."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Diagnostic(line, message)


@dataclass(frozen=True)
class SourceText:
    """A definition as written: its values, and the line of each."""

    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """The line of the value, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?")


def read(text: str) -> SourceText:
    """Raises Unreadable."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise Unreadable(1, "This is not text that can be written as UTF-8.") from error
    if size > MAX_BYTES:
        message = f"The definition is larger than {MAX_BYTES} bytes."
        raise Unreadable(1, message)
    try:
        _ensure_bounded(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Unreadable(
            mark.line + 1 if mark else 1, f"This is not YAML: {error.problem}."
        ) from error
    except (yaml.YAMLError, RecursionError) as error:
        raise Unreadable(1, "This is not YAML that can be read.") from error
    if node is None:
        raise Unreadable(1, "The definition is empty.")
    lines: dict[Path, int] = {}
    value = _value(node, (), lines)
    try:
        return SourceText(normalise(value), lines)
    except NotCanonical as error:
        raise Unreadable(1, str(error)) from error


def _ensure_bounded(text: str) -> None:
    """Look at one event after the other, and no further than where one is not allowed: what the
    parser would do with deep nesting grows faster than the text.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        _ensure_plain(event)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1 if event.start_mark else 1
            message = f"This is nested deeper than {MAX_DEPTH} levels."
            raise Unreadable(line, message)


def _ensure_plain(event: yaml.Event) -> None:
    """Aliases would let a few lines stand for millions, tags for anything at all."""
    line = event.start_mark.line + 1 if event.start_mark else 1
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise Unreadable(line, "Anchors and aliases are not allowed.")
    if getattr(event, "tag", None) is not None:
        raise Unreadable(line, "Tags are not allowed.")


def _value(node: yaml.Node, path: Path, lines: dict[Path, int]) -> Any:
    line = node.start_mark.line + 1
    # The text of a block begins on the line after its mark.
    lines[path] = line + 1 if getattr(node, "style", None) in {"|", ">"} else lines.get(path, line)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, place), lines) for place, item in enumerate(node.value)]
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise Unreadable(line, "A key must be plain text.")
        key = str(key_node.value)
        if key in found:
            raise Unreadable(line, f"The key {key} is given twice.")
        lines[*path, key] = line
        found[key] = _value(value_node, (*path, key), lines)
    return found


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style is not None:  # quoted or in a block: text as it stands
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _DECIMAL.fullmatch(text) else text
