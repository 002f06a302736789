"""Work on one item after the other, such that none keeps the others from their turn."""

import logging
from collections.abc import Callable, Iterable
from typing import TypeVar

log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(items: Iterable[Item], work: Callable[[Item], Result], *, what: str) -> list[Result]:
    """The results of those that could be done; the others are logged and come again.

    For sweepers, tickers and senders, whose items have nothing to do with each other: whatever is
    wrong with one of them must not stop the rest. Never on the way of a decision, where what cannot
    be done is refused. The items' transactions are their own.
    """
    found: list[Result] = []
    for item in items:
        try:
            found.append(work(item))
        except Exception as error:  # noqa: BLE001 - what is wrong with one item is unforeseen
            # The class and the item's key: messages may quote values.
            name = type(error).__name__
            log.error("%s %s: %s", what, getattr(item, "pk", item), name)  # noqa: TRY400 - no values
    return found
