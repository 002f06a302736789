"""What carries actions on instead of the actions' own worker; floors above register themselves.

A driver is told, in the transaction that moved it, that an action of its is to be looked at: people
have decided, a worker went away, or a person said what an unknown call had done.
"""

from collections.abc import Callable
from uuid import UUID

from actions.models import Action

# Called with the run and the action.
Moved = Callable[[UUID, UUID], None]

# Called with a run that was closed or halted.
Stopped = Callable[[UUID], None]

_drivers: dict[str, Moved] = {}
_followers: list[Stopped] = []


def register(name: str, moved: Moved) -> None:
    """Say what looks after actions with this driver's name; done once, in `ready()`."""
    if name in _drivers:
        message = f"{name} is registered twice"
        raise ValueError(message)
    _drivers[name] = moved


def notify_changed(action: Action) -> None:
    """Tell the action's driver. Raises KeyError if nothing is registered under its name."""
    _drivers[action.driver](action.run_id, action.pk)


def on_run_ended(stopped: Stopped) -> None:
    """Say what is to be told of every run that is closed or halted; done once, in `ready()`."""
    _followers.append(stopped)


def notify_run_ended(run_id: UUID) -> None:
    """Tell those who follow runs, in the transaction that closed or halted this one."""
    for tell in _followers:
        tell(run_id)
