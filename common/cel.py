"""CEL, the Common Expression Language, behind one small door.

The engine is Google's C++ runtime: it type-checks on compilation, has no loops, no side effects
and an iteration budget, so an expression that somebody writes in the admin cannot hang a worker.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

from cel_expr_python import cel

from common.cel_work import Work
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
# Steps of the engine, and parts it makes, that its own budget does not count: some 40 ns and 50
# bytes each.
MAX_WORK = 5_000_000
# A name and the name of its type.
Declared = tuple[tuple[str, str], ...]


@dataclass
class WorkMeter:
    """The steps that several budgets have spent, and the time that may pass meanwhile.

    Steps are what an expression does with its values; to hand them over takes time too.
    """

    steps: int = 0
    until: float = math.inf

    @property
    def is_full(self) -> bool:
        return self.steps >= MAX_WORK or time.monotonic() >= self.until


@dataclass
class WorkBudget:
    """The steps that expressions may take together."""

    left: int = MAX_WORK
    meter: WorkMeter | None = None

    def spend(self, steps: int) -> None:
        """Raises ExpressionFailed."""
        if self.meter is not None:
            self.meter.steps += max(min(steps, self.left), 0)
        self.left -= steps
        if self.left < 0:
            message = "The expression looks at too much: its lists and texts are too long."
            raise ExpressionFailed(message)


class Expression:
    """A compiled expression over declared names. A name may have dots: `inputs.amount`."""

    def __init__(self, text: str, declared: Declared) -> None:
        if len(text) > MAX_EXPRESSION_LENGTH:
            message = f"The expression is longer than {MAX_EXPRESSION_LENGTH} characters."
            raise InvalidExpression(message)
        self.text = text
        self._work = Work(text)
        if self._work.problem:
            raise InvalidExpression(self._work.problem)
        if not text.isprintable() and not text.replace("\n", " ").isprintable():
            message = "The expression holds characters that cannot be printed."
            raise InvalidExpression(message)
        variables = {name: TYPES[kind] for name, kind in declared}
        environment = cel.NewEnv(variables=variables, functions=[_SUM])
        try:
            self._compiled = environment.compile(text)
        except RuntimeError as error:
            raise InvalidExpression(_first_line(error), expression=text) from error
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

    def parts_named(self, name: str) -> frozenset[str] | None:
        """The fields of this name that the text speaks of; None if it may be any of them."""
        found = [one.path[1:] for one in self._work.mentions if one.path[0] == name]
        return frozenset(path[0] for path in found) if all(found) else None

    def evaluate(self, values: Mapping[str, Any], *, budget: WorkBudget | None = None) -> Any:
        """The value as plain Python. Raises ExpressionFailed, never an engine's own error, also if
        it would take more than is left of the budget: MAX_WORK for the expression alone.
        """
        given = self._handed_over(values)
        (budget or WorkBudget()).spend(self._work.on(given))
        try:
            value = self._compiled.eval(data=given)
        except (RuntimeError, TypeError, ValueError, MemoryError) as error:
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


def ensure_bounded(text: str) -> None:
    """Refuse what could cost much before it is run. Raises InvalidExpression.

    The engine stops an evaluation at its iteration budget; this says so when it is written.
    """
    if Work(text).deepest > MAX_NESTED:
        message = f"Comprehensions (map, filter, exists, all) are nested deeper than {MAX_NESTED}."
        raise InvalidExpression(message)


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
