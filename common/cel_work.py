"""A bound of the work that a CEL expression does, from its text and the sizes of its values.

The engine counts iterations, and neither how long the values are that it looks at in each nor how
large those are that it makes.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

MAX_COMPREHENSIONS = 12
MAX_GROWTH = 100
# What it may cost to compile the patterns of an expression once, in steps of 40 ns.
MAX_PATTERN_STEPS = 200_000
_MACRO = re.compile(r"\.\s*(?:map|filter|exists|exists_one|all)\s*\(")
# Texts and comments of CEL, in which no bracket and no name counts.
_RAW = r"(?<!\w)(?:[bB]?[rR]|[rR][bB])"
_NO_CODE = re.compile(
    rf"{_RAW}\"\"\"[\s\S]*?\"\"\"|{_RAW}'''[\s\S]*?'''|{_RAW}\"[^\"\n]*\"|{_RAW}'[^'\n]*'"
    r"|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'''(?:\\[\s\S]|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|//[^\n]*"
)
# An index by a name, a text or a comment, whichever begins first: what looks like an index within
# a comment is none, and would hide what follows it.
_TOKEN = re.compile(
    rf"""\[\s*(?P<quote>["'])(?P<name>[A-Za-z_]\w*)(?P=quote)\s*\]|{_NO_CODE.pattern}"""
)
_NAMES = r"[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*"
# A name with the fields that follow it, and what comes then: a bracket of a call or of an index.
_PATH = re.compile(rf"(?<!\w)({_NAMES})\s*([(\[]?)")
_RANGE = re.compile(rf"(?<![\w.)\]])({_NAMES})\s*$")
_IN = re.compile(r"(?<!\w)in\s*$")
_SUM = re.compile(r"(?<!\w)sum\s*\(")
_MATCHES = re.compile(r"(?<!\w)matches(?!\w)")
_MATCHES_TEXT = re.compile(r"(?<!\w)matches\s*\((?:[^()]*,)?\s*0\s*\)")
_UNICODE_CLASS = re.compile(r"\\[pP]")
_COUNTED = re.compile(r"\{(?:\d+,)?(\d+)\}|\{(\d+),\}")
_LONGEST_RANGE = 300
_KEYWORDS = frozenset({"in", "true", "false", "null"})
# An exact sum makes a decimal number of each one.
_STEPS_OF_SUM = 10
# The engine compiles a pattern at each use: so much, and for each class of Unicode.
_STEPS_OF_PATTERN = 3_000
_STEPS_OF_CLASS = 25_000
# RE2 refuses a pattern with more repetitions.
_MAX_REPEATS = 1_000


@dataclass(frozen=True, slots=True)
class Mention:
    """A name with fields, as it stands in the code."""

    path: tuple[str, ...]
    is_indexed: bool = False
    is_after_in: bool = False


@dataclass(frozen=True, slots=True)
class Loop:
    """A comprehension: its place among others, what it runs over, and what its body names."""

    parent: int | None
    depth: int
    over: tuple[str, ...]
    variable: str
    body: str
    mentions: tuple[Mention, ...]


class Work:
    """A bound of an expression's work on values, in steps of 40 ns and parts of 50 bytes."""

    def __init__(self, text: str) -> None:
        code = _code_of(text)
        self.mentions = _mentions(code)
        # Before they are read, which takes a while for each.
        self._has_too_many_loops = len(_MACRO.findall(code)) > MAX_COMPREHENSIONS
        self._loops = [] if self._has_too_many_loops else _loops_in(code)
        self._growth = prod(_growth(loop.body) for loop in self._loops)
        # Lists that are put together are longer than each of them.
        self._joins = 1 + code.count("+")
        self._written = max(len(text) - len(code), 0)
        self._matches = len(_MATCHES.findall(code))
        self._pattern = _pattern_steps(text) if self._matches else 0
        self._width = _pattern_width(text) if self._matches else 0
        self._sum = _STEPS_OF_SUM if _SUM.search(code) else 1
        self.problem = self._problem(text, code)

    def _problem(self, text: str, code: str) -> str:
        """Say why the text is refused whatever its values are; nothing if it is not."""
        if "`" in text:
            return "Names in backticks cannot be read here."
        if self._has_too_many_loops or self._growth > MAX_GROWTH:
            return "The expression has too many comprehensions, or they make values grow too much."
        if self._matches != len(_MATCHES_TEXT.findall(code)):
            return "matches takes a pattern that is written there."
        if self._pattern > MAX_PATTERN_STEPS:
            return (
                "The patterns take too long: a class of Unicode (\\p) is not repeated by numbers. "
                "Write + and compare the size."
            )
        return ""

    @property
    def deepest(self) -> int:
        """Return how deep comprehensions are nested."""
        return max((loop.depth for loop in self._loops), default=0)

    def on(self, values: Mapping[str, Any]) -> int:
        """Return the steps.

        1. Each loop runs as often as what it runs over is long, for each run of those around it.
        2. In each of its runs it looks at everything that it names from outside, in whole.
        3. Its own elements are parts of the values, or of what other loops have made.
        """
        if not self._loops and not self._matches:
            is_plain = self._joins == 1 and self._sum == 1
            return 0 if is_plain else _named(self.mentions, values) * self._sum
        named = _named(self.mentions, values)
        # A pattern looks at each sign as often, at worst, as it repeats its parts.
        matching = self._pattern + (named + self._written) * self._width
        if not self._loops:
            return matching + named * self._sum
        size, longest = _size(values)
        longest = (longest + 1) * self._joins
        runs: list[int] = []
        for loop in self._loops:
            runs.append(self._runs_of(loop, runs, values, size, longest))
        looked = [
            times * (_named(loop.mentions, values) + self._written + self._pattern_of(loop))
            for loop, times in zip(self._loops, runs, strict=True)
        ]
        made = size + sum(looked)
        elements = 0
        for loop in self._loops:
            around = 1 if loop.parent is None else runs[loop.parent]
            own = sum(1 for one in loop.mentions if _found(one.path, values) is None)
            is_given = _found(loop.over, values) is not None
            elements += max(own, 1) * (around * size if is_given else made)
        if any(_MATCHES.search(loop.body) for loop in self._loops):
            elements *= max(self._width, 1)
        return (sum(looked) + elements) * self._growth * self._sum + named + matching

    def _runs_of(
        self, loop: Loop, runs: list[int], values: Mapping[str, Any], size: int, longest: int
    ) -> int:
        outer = None if loop.parent is None else self._loops[loop.parent]
        around = 1 if loop.parent is None else runs[loop.parent]
        given = _found(loop.over, values)
        if given is not None and isinstance(given[0], list | Mapping):
            return (len(given[0]) + 1) * around
        if outer is not None and loop.over[:1] == (outer.variable,) and _found(outer.over, values):
            # Over a part of the element: all of them together are parts of the values.
            return size * (1 if outer.parent is None else runs[outer.parent])
        return longest * around

    def _pattern_of(self, loop: Loop) -> int:
        return self._pattern if _MATCHES.search(loop.body) else 0


def _code_of(text: str) -> str:
    """The text with an index by a name as a field, without comments, and 0 for each text."""

    def replaced(found: re.Match[str]) -> str:
        if found["name"]:
            return f".{found['name']}"
        return " " if found[0].startswith("//") else "0"

    return _TOKEN.sub(replaced, text)


def _pattern_steps(text: str) -> int:
    """Return the cost of compiling the texts of the expression as patterns, each once."""
    steps = 0
    for found in _NO_CODE.finditer(text):
        literal = found[0]
        if not literal.startswith("//"):
            repeats = prod(max(int(a or b), 1) for a, b in _COUNTED.findall(literal))
            classes = len(_UNICODE_CLASS.findall(literal))
            steps += _STEPS_OF_CLASS * classes * min(repeats, _MAX_REPEATS)
    return _STEPS_OF_PATTERN + steps


def _pattern_width(text: str) -> int:
    """Return how often the texts of the expression, as patterns, repeat their parts by numbers."""
    width = 0
    for found in _NO_CODE.finditer(text):
        if not found[0].startswith("//"):
            repeats = prod(max(int(a or b), 1) for a, b in _COUNTED.findall(found[0]))
            width += min(repeats, _MAX_REPEATS)
    return width


def _growth(body: str) -> int:
    """One comma parts the variable from the body; every other one, and every plus, adds a part."""
    return max(body.count("+") + body.count(","), 1)


def _loops_in(code: str) -> list[Loop]:
    """The comprehensions, each after those that it is nested in."""
    opens = {found.end() - 1: found.start() for found in _MACRO.finditer(code)}
    ends = dict(_brackets(code))
    found: list[Loop] = []
    places: list[int] = []
    for place, start in sorted(opens.items()):
        around = [n for n, other in enumerate(places) if place < ends.get(other, len(code))]
        body = code[place + 1 : ends.get(place, len(code))]
        over = _range_before(code, start)
        found.append(
            Loop(
                parent=around[-1] if around else None,
                depth=len(around) + 1,
                over=over,
                variable=body.partition(",")[0].strip(),
                body=body,
                mentions=_mentions(body),
            )
        )
        places.append(place)
    return found


def _range_before(code: str, end: int) -> tuple[str, ...]:
    """Return the name with fields that ends there; nothing for anything else, or a longer one."""
    begin = max(end - _LONGEST_RANGE, 0)
    found = _RANGE.search(code[begin:end])
    if found is None or code[: begin + found.start()].rstrip().endswith((".", ")", "]")):
        return ()
    return _parts(found[1])


def _brackets(code: str) -> Iterator[tuple[int, int]]:
    """Yield where each round bracket opens and closes."""
    waiting: list[int] = []
    for place, char in enumerate(code):
        if char == "(":
            waiting.append(place)
        elif char == ")" and waiting:
            yield waiting.pop(), place


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in path.split("."))


def _mentions(code: str) -> tuple[Mention, ...]:
    """The names with fields in the code; of a call, what its method belongs to."""
    found = []
    for match in _PATH.finditer(code):
        parts, then = _parts(match[1]), match[2]
        if then == "(":
            parts = parts[:-1]
        if parts and parts[0] not in _KEYWORDS:
            is_after_in = _IN.search(code[max(match.start() - 20, 0) : match.start()]) is not None
            found.append(Mention(parts, then == "[", is_after_in))
    return tuple(found)


def _found(path: tuple[str, ...], values: Mapping[str, Any]) -> tuple[Any] | None:
    """The value at the path, as far as there is one; None for a name that is not given, such as a
    variable of a loop.
    """
    for count in range(len(path), 0, -1):
        name = ".".join(path[:count])
        if name not in values:
            continue
        value = values[name]
        for field in path[count:]:
            if not isinstance(value, Mapping) or field not in value:
                break
            value = value[field]
        return (value,)
    return None


def _named(mentions: tuple[Mention, ...], values: Mapping[str, Any]) -> int:
    return sum(_size_of(mention, values) for mention in mentions)


def _size_of(mention: Mention, values: Mapping[str, Any]) -> int:
    """The size of what is named: of the largest of its parts if it is indexed, and 1 for a key that
    is looked up in a map.
    """
    found = _found(mention.path, values)
    if found is None:
        return 0
    value = found[0]
    if mention.is_after_in and isinstance(value, Mapping):
        return 1
    if mention.is_indexed and isinstance(value, list | Mapping):
        parts = value.values() if isinstance(value, Mapping) else value
        return max((_size(part)[0] for part in parts), default=1)
    return _size(value)[0]


def _size(value: Any) -> tuple[int, int]:
    """Return how many parts and characters a value has, and the length of its longest list."""
    waiting, longest, size = [value], 1, 0
    while waiting:
        part = waiting.pop()
        size += len(part) if isinstance(part, str) else 1
        if isinstance(part, list | Mapping):
            longest = max(longest, len(part))
            waiting += part.values() if isinstance(part, Mapping) else part
    return size, longest
