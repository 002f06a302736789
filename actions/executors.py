"""Registry of executors: what continues an action instead of the actions' own worker.

An executor is notified, in the transaction that changed the action: its approval request was
decided, its worker was lost, or an operator recorded the outcome of an unknown call. Layers above
register themselves.
"""

from collections.abc import Callable
from uuid import UUID

from actions.models import Action

# Called with the run and the action.
Moved = Callable[[UUID, UUID], None]

# Called with a run that was closed or halted.
Stopped = Callable[[UUID], None]

_executors: dict[str, Moved] = {}
_followers: list[Stopped] = []


def register(name: str, moved: Moved) -> None:
    """Say what looks after actions with this executor's name; done once, in `ready()`."""
    if name in _executors:
        message = f"{name} is registered twice"
        raise ValueError(message)
    _executors[name] = moved


def notify_changed(action: Action) -> None:
    """Tell the action's executor. Raises KeyError if nothing is registered under its name."""
    _executors[action.executor](action.run_id, action.pk)


def on_run_ended(stopped: Stopped) -> None:
    """Say what is to be told of every run that is closed or halted; done once, in `ready()`."""
    _followers.append(stopped)


def notify_run_ended(run_id: UUID) -> None:
    """Tell those who follow runs, in the transaction that closed or halted this one."""
    for tell in _followers:
        tell(run_id)
