"""Actors: passed to every command, never looked up."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["human", "agent", "system"]


@dataclass(frozen=True, slots=True)
class Actor:
    """A person, an agent or the portal itself, as the audit log names it."""

    kind: Kind
    id: str
    label: str

    @classmethod
    def from_user(cls, user: Any) -> "Actor":
        return cls(kind="human", id=str(user.pk), label=user.get_username())


SYSTEM = Actor(kind="system", id="portal", label="Chancery")

# django-auditlog writes its entries from model signals, where nothing can be passed. This is the
# one place that reads who is acting from the context; only `acting` writes it.
_acting: ContextVar[Actor | None] = ContextVar("acting", default=None)


@contextmanager
def acting(actor: Actor) -> Iterator[None]:
    token = _acting.set(actor)
    try:
        yield
    finally:
        _acting.reset(token)


def acting_now() -> Actor | None:
    return _acting.get()
