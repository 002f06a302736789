"""Values of a definition: literals, with expressions where exactly one `${CEL}` stands.

There is no text with expressions in it, so there is nothing to inject into.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from common.canonical import normalise
from common.cel import (
    Declared,
    Expression,
    ExpressionFailed,
    WorkBudget,
    compiled_typed,
    ensure_bounded,
)
from common.errors import InvalidInput

OPEN, CLOSE = "${", "}"
# Of one value that an expression or a template gives, in characters of JSON.
MAX_WEIGHT = 1_000_000

Path = tuple[str | int, ...]


class InvalidTemplate(InvalidInput):
    code = "invalid_template"
    sentence = "A value is either literal or exactly one ${ expression }: text is not put together."


@dataclass(frozen=True, slots=True)
class Template:
    """A value with compiled expressions at some of its leaves."""

    value: Any

    def resolve(self, values: Mapping[str, Any], *, budget: WorkBudget | None = None) -> Any:
        """Return the value as plain JSON. All its expressions share one budget of steps.

        Raises ExpressionFailed.
        """
        return _kept(_resolved(self.value, values, budget or WorkBudget()))

    def expressions(self) -> Iterator[tuple[Path, Expression]]:
        """Every expression with the place where it stands."""
        yield from _expressions(self.value, ())


EMPTY = Template({})


def json_of(value: Any) -> Any:
    """Return the value of an expression as JSON that can be stored. Raises ExpressionFailed."""
    return _kept(plain(value))


def _kept(value: Any) -> Any:
    try:
        found = normalise(value)
    except InvalidInput as error:
        raise ExpressionFailed(str(error)) from error
    if weight(found) > MAX_WEIGHT:
        message = "The value is too large to be kept."
        raise ExpressionFailed(message)
    return found


def weight(value: Any) -> int:
    """About how long a value is when it is written as JSON; stops soon after MAX_WEIGHT."""
    total, rest = 0, [value]
    while rest and total <= MAX_WEIGHT:
        item = rest.pop()
        if isinstance(item, str):
            total += len(item) + 3
        elif isinstance(item, dict):
            total += sum(len(name) + 4 for name in item)
            rest += item.values()
        elif isinstance(item, list):
            total += 2 + len(item)
            rest += item
        else:
            total += 8
    return total


def _resolved(value: Any, values: Mapping[str, Any], budget: WorkBudget) -> Any:
    if isinstance(value, Expression):
        return plain(value.evaluate(values, budget=budget))
    if isinstance(value, dict):
        return {name: _resolved(item, values, budget) for name, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, values, budget) for item in value]
    return value


def plain(value: Any) -> Any:
    """Moments and lengths of time as text and seconds: JSON has neither."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def _expressions(value: Any, path: Path) -> Iterator[tuple[Path, Expression]]:
    if isinstance(value, Expression):
        yield path, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _expressions(item, (*path, name))
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _expressions(item, (*path, place))


def expression(text: str, names: Declared) -> Expression:
    """The one expression of `${...}`. Raises NotOneExpression, InvalidExpression."""
    stripped = text.strip()
    inner = stripped[len(OPEN) : -len(CLOSE)]
    if not stripped.startswith(OPEN) or not stripped.endswith(CLOSE) or OPEN in inner:
        raise InvalidTemplate
    ensure_bounded(inner)
    return compiled_typed(inner.strip(), names)


def is_expression(value: Any) -> bool:
    return isinstance(value, str) and OPEN in value
