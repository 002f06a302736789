"""One command, one function, one transaction, one actor."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import transaction

from common.actors import Actor, acting

P = ParamSpec("P")
R = TypeVar("R")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Run the function in a transaction, with its `actor` known to the change log.

    The function must take `actor` as a keyword; calling it without one is a TypeError.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        actor = kwargs.get("actor")
        if not isinstance(actor, Actor):
            message = f"{function.__name__}() needs actor=Actor(...)"
            raise TypeError(message)
        with transaction.atomic(), acting(actor):
            return function(*args, **kwargs)

    return run
