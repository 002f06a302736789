"""What carries actions on instead of the actions' own worker; floors above register themselves.

A driver is told, in the transaction that moved it, that an action of its is to be looked at: people
have decided, a worker went away, or a person said what an unknown call had done.
"""

from collections.abc import Callable
from uuid import UUID

from actions.models import Action

# Called with the run and the action.
Moved = Callable[[UUID, UUID], None]

_drivers: dict[str, Moved] = {}


def register(name: str, moved: Moved) -> None:
    """Say what looks after actions with this driver's name; done once, in `ready()`."""
    if name in _drivers:
        message = f"{name} is registered twice"
        raise ValueError(message)
    _drivers[name] = moved


def moved(action: Action) -> None:
    """Tell the action's driver. Raises KeyError if nothing is registered under its name."""
    _drivers[action.driver](action.run_id, action.pk)
