"""CEL, the Common Expression Language, behind one small door.

The engine is Google's C++ runtime: it type-checks on compilation, has no loops, no side effects
and an iteration budget, so an expression that somebody writes in the admin cannot hang a worker.
"""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from math import prod
from typing import Any

from cel_expr_python import cel

from common.errors import InvalidInput

MAX_EXPRESSION_LENGTH = 4_000


class InvalidExpression(InvalidInput):
    code = "invalid_expression"
    sentence = "The expression is not valid CEL."


class ExpressionFailed(Exception):
    """The expression is valid and could not be evaluated on these values."""


# CEL's static types that have a counterpart in a policy's context.
POLICY_TYPES = {
    "BOOL": "bool",
    "INT": "int",
    "STRING": "string",
    "LIST<STRING>": "strings",
}


def _sum(numbers: list[Any]) -> float:
    """Exact for decimal amounts: ten times 0.1 is 1."""
    if not all(type(number) in {int, float} for number in numbers):
        message = "sum is of numbers"
        raise TypeError(message)
    return float(sum((Decimal(str(number)) for number in numbers), Decimal(0)))


# CEL has no fold; amounts need one. Everything else is the standard library.
_SUM = cel.FunctionDecl(
    "sum",
    [
        cel.Overload(
            "sum_list_double",
            return_type=cel.Type.DOUBLE,
            parameters=[cel.Type.List(cel.Type.DYN)],
            impl=_sum,
        )
    ],
)


# How a name's type is written where it is declared.
TYPES = {
    "DYN": cel.Type.DYN,
    "BOOL": cel.Type.BOOL,
    "INT": cel.Type.INT,
    "DOUBLE": cel.Type.DOUBLE,
    "STRING": cel.Type.STRING,
    "LIST": cel.Type.List(cel.Type.DYN),
    "LIST<STRING>": cel.Type.List(cel.Type.STRING),
    "MAP": cel.Type.Map(cel.Type.STRING, cel.Type.DYN),
}
MAX_NESTED = 1
MAX_COMPREHENSIONS = 12
MAX_GROWTH = 100
# Steps of the engine, and parts it makes, that its own budget does not count: some 40 ns and 50
# bytes each.
MAX_WORK = 5_000_000
_MACRO = re.compile(r"\.\s*(?:map|filter|exists|exists_one|all)\s*\(")
# Texts and comments of CEL, in which no bracket and no name counts.
_RAW = r"(?<!\w)(?:[bB]?[rR]|[rR][bB])"
_NO_CODE = re.compile(
    rf"{_RAW}\"\"\"[\s\S]*?\"\"\"|{_RAW}'''[\s\S]*?'''|{_RAW}\"[^\"\n]*\"|{_RAW}'[^'\n]*'"
    r"|\"\"\"(?:\\[\s\S]|[^\\])*?\"\"\"|'''(?:\\[\s\S]|[^\\])*?'''"
    r"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|//[^\n]*"
)
# A name with the fields that follow it, and what comes then: a bracket of a call or of an index.
_PATH = re.compile(r"(?<!\w)([A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)\s*([(\[]?)")

# A name and the name of its type.
Declared = tuple[tuple[str, str], ...]


class Expression:
    """A compiled expression over declared names. A name may have dots: `inputs.amount`."""

    def __init__(self, text: str, declared: Declared) -> None:
        if len(text) > MAX_EXPRESSION_LENGTH:
            message = f"The expression is longer than {MAX_EXPRESSION_LENGTH} characters."
            raise InvalidExpression(message)
        self.text = text
        _ensure_small(text)
        if not text.isprintable() and not text.replace("\n", " ").isprintable():
            message = "The expression holds characters that cannot be printed."
            raise InvalidExpression(message)
        variables = {name: TYPES[kind] for name, kind in declared}
        environment = cel.NewEnv(variables=variables, functions=[_SUM])
        try:
            self._compiled = environment.compile(text)
        except RuntimeError as error:
            raise InvalidExpression(_first_line(error), expression=text) from error
        self._loops = Loops(text)
        self.type_name: str = self._compiled.return_type().name()
        # What is not named in the text need not be handed over.
        self._names = {name: kind for name, kind in declared if name in text}

    @property
    def names(self) -> frozenset[str]:
        """The declared names that the text may speak of."""
        return frozenset(self._names)

    @property
    def policy_type(self) -> str | None:
        """`bool`, `int`, `string` or `strings`; None where a policy has no such type."""
        return POLICY_TYPES.get(self.type_name)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value as plain Python. Raises ExpressionFailed, never an engine's own error."""
        given = self._handed_over(values)
        if self._loops.work_on(given) > MAX_WORK:
            message = "The expression looks at too much: its lists and texts are too long."
            raise ExpressionFailed(message)
        try:
            value = self._compiled.eval(data=given)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExpressionFailed(_without_values(str(error))) from error
        # Errors come either as an exception or as a value of type ERROR.
        if value.type().name() == "ERROR":
            raise ExpressionFailed(_without_values(str(value.value())))
        return value.plain_value()

    def _handed_over(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that the text names. A whole number where a decimal one is declared is made
        one: JSON does not tell them apart, CEL does.
        """
        found = {name: values[name] for name in self._names if name in values}
        for name, value in found.items():
            if self._names[name] == "DOUBLE" and type(value) is int:
                found[name] = float(value)
        return found


class Loops:
    """The comprehensions of an expression, and a bound of the work that they do on values."""

    def __init__(self, text: str) -> None:
        bodies = list(_comprehensions(text))
        code = _without_texts(text)
        self._bodies = [(depth, _paths(body)) for depth, body in bodies]
        self._paths = _paths(code)
        self._growth = prod(_growth(body) for _, body in bodies)
        # Lists that are put together are longer than each of them.
        self._joins = 1 + code.count("+")
        self._written = len(text) - len(code)

    def work_on(self, values: Mapping[str, Any]) -> int:
        """Return how many steps the comprehensions take, and parts they make, at most.

        A body costs the size of its own elements, which together are part of the values, and for
        each element that of every other value that it names.
        """
        if not self._bodies:
            return _named(self._paths, values) if self._joins > 1 else 0
        size, longest = _size(values)
        longest = (longest + 1) * self._joins
        work = 0
        for depth, paths in self._bodies:
            others = _named(paths, values) + self._written
            work += longest ** (depth - 1) * (size + longest * others)
        return work * self._growth + _named(self._paths, values)


def _growth(body: str) -> int:
    """One comma parts the variable from the body; every other one, and every plus, adds a part."""
    return max(body.count("+") + body.count(","), 1)


def _paths(body: str) -> list[tuple[list[str], str]]:
    """Return the names with fields in the code, without methods and functions, each with the
    bracket of an index that follows it.
    """
    found = []
    for path, then in _PATH.findall(body):
        parts = [part.strip() for part in path.split(".")]
        found.append((parts[:-1] if then == "(" else parts, then.replace("(", "")))
    return found


def _named(paths: list[tuple[list[str], str]], values: Mapping[str, Any]) -> int:
    return sum(_size_of(path, then, values) for path, then in paths)


def _size_of(path: list[str], then: str, values: Mapping[str, Any]) -> int:
    """The size of the value at the path: of the largest of its parts if it is indexed. 0 for a name
    that is not handed over: a variable of the loop, whose values are parts of others.
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
        if then and isinstance(value, list | Mapping):
            parts = value.values() if isinstance(value, Mapping) else value
            return max((_size(part)[0] for part in parts), default=1)
        return _size(value)[0]
    return 0


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


def ensure_bounded(text: str) -> None:
    """Refuse what could cost much before it is run. Raises InvalidExpression.

    The engine stops an evaluation at its iteration budget; this says so when it is written.
    """
    if max((depth for depth, _ in _comprehensions(text)), default=0) > MAX_NESTED:
        message = f"Comprehensions (map, filter, exists, all) are nested deeper than {MAX_NESTED}."
        raise InvalidExpression(message)


def _ensure_small(text: str) -> None:
    """Refuse what makes values grow, which the engine's budget does not stop: a chain of
    `map(x, x + x)` doubles them at every link.
    """
    growths = [_growth(body) for _, body in _comprehensions(text)]
    if len(growths) > MAX_COMPREHENSIONS or prod(growths) > MAX_GROWTH:
        message = "The expression has too many comprehensions, or they make values grow too much."
        raise InvalidExpression(message)


def _without_texts(text: str) -> str:
    return _NO_CODE.sub(lambda found: " " if found[0].startswith("//") else "0", text)


def _comprehensions(text: str) -> Iterator[tuple[int, str]]:
    """Yield how deep each comprehension is nested in others, and the code in its brackets."""
    text = _without_texts(text)
    opens = {found.end() - 1 for found in _MACRO.finditer(text)}
    held: list[int] = []
    for place, char in enumerate(text):
        if char == "(":
            held.append(place)
        elif char == ")" and held:
            start = held.pop()
            if start in opens:
                yield 1 + len(opens & set(held)), text[start + 1 : place]


# What the engine says goes into errors and events, where no value of a run may stand.
_SAYINGS = (
    "divide by zero",
    "modulus by zero",
    "key not found in map",
    "index error",
    "no matching overload",
    "no value with name",
    "overflow",
    "iteration budget exceeded",
    "cannot convert",
    "conversion failed",
    "invalid regular expression",
)


def _without_values(said: str) -> str:
    for known in _SAYINGS:
        if known in said.lower():
            return f"The expression could not be evaluated: {known}."
    return "The expression could not be evaluated on these values."


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].removeprefix("INVALID_ARGUMENT: ERROR: ")


@lru_cache(maxsize=4096)
def compiled(text: str, variables: tuple[str, ...]) -> Expression:
    """The expression over names of any type, compiled once per process.

    Raises InvalidExpression.
    """
    return Expression(text, tuple((name, "DYN") for name in variables))


def compiled_typed(text: str, declared: Declared) -> Expression:
    """The expression over typed names, compiled once per process. Raises InvalidExpression."""
    # An environment is made for each expression: hundreds of names that it does not use cost much.
    return _compiled_typed(text, tuple(pair for pair in declared if pair[0] in text))


@lru_cache(maxsize=4096)
def _compiled_typed(text: str, declared: Declared) -> Expression:
    return Expression(text, declared)
