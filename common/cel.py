"""CEL, the Common Expression Language, behind one small door.

The engine is Google's C++ runtime: it type-checks on compilation, has no loops, no side effects
and an iteration budget, so an expression that somebody writes in the admin cannot hang a worker.
"""

from collections.abc import Mapping
from functools import lru_cache
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
    return float(sum(numbers))


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


class Expression:
    """A compiled expression over named values of dynamic type."""

    def __init__(self, text: str, variables: tuple[str, ...]) -> None:
        if len(text) > MAX_EXPRESSION_LENGTH:
            message = f"The expression is longer than {MAX_EXPRESSION_LENGTH} characters."
            raise InvalidExpression(message)
        self.text = text
        if not text.isprintable() and not text.replace("\n", " ").isprintable():
            message = "The expression holds characters that cannot be printed."
            raise InvalidExpression(message)
        environment = cel.NewEnv(variables=dict.fromkeys(variables, cel.Type.DYN), functions=[_SUM])
        try:
            self._compiled = environment.compile(text)
        except RuntimeError as error:
            raise InvalidExpression(_first_line(error), expression=text) from error
        self.type_name: str = self._compiled.return_type().name()

    @property
    def policy_type(self) -> str | None:
        """`bool`, `int`, `string` or `strings`; None where a policy has no such type."""
        return POLICY_TYPES.get(self.type_name)

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """The value as plain Python. Raises ExpressionFailed, never an engine's own error."""
        try:
            value = self._compiled.eval(data=dict(values))
        except (RuntimeError, TypeError, ValueError) as error:
            raise ExpressionFailed(_first_line(error)) from error
        # Errors come either as an exception or as a value of type ERROR.
        if value.type().name() == "ERROR":
            raise ExpressionFailed(str(value.value()))
        return value.plain_value()


def _first_line(error: Exception) -> str:
    return str(error).split("\n", 1)[0].removeprefix("INVALID_ARGUMENT: ERROR: ")


@lru_cache(maxsize=4096)
def compiled(text: str, variables: tuple[str, ...]) -> Expression:
    """The expression, compiled once per process. Raises InvalidExpression."""
    return Expression(text, variables)
