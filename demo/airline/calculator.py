import ast
import math
import operator
import re
from collections.abc import Callable

from demo.airline.refusals import AirlineRefusal

LONGEST_EXPRESSION = 300
LARGEST_RESULT = 1e15
DECIMALS = 2

Number = int | float

_ARITHMETIC = re.compile(r"[0-9+\-*/(). ]+")
_BINARY: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_UNARY: dict[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}


class ExpressionRefused(AirlineRefusal):
    def __init__(self) -> None:
        super().__init__("cannot calculate this expression")


def calculation(expression: str) -> float:
    """Value of a sum in numbers, + - * / and parentheses, to the cent.

    Raises ExpressionRefused for anything else, and for what is too long or too large.
    """
    if len(expression) > LONGEST_EXPRESSION or not _ARITHMETIC.fullmatch(expression):
        raise ExpressionRefused
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return round(float(_value(tree.body)), DECIMALS)
    except (SyntaxError, ZeroDivisionError, OverflowError) as failure:
        raise ExpressionRefused from failure


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as number):
            return _bounded(number)
        case ast.UnaryOp(op=sign, operand=operand) if type(sign) in _UNARY:
            return _UNARY[type(sign)](_value(operand))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
            return _bounded(_BINARY[type(sign)](_value(left), _value(right)))
        case _:
            raise ExpressionRefused


def _bounded(number: Number) -> Number:
    if not (math.isfinite(number) and abs(number) <= LARGEST_RESULT):
        raise ExpressionRefused
    return number
