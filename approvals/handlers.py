"""Handlers of decided requests, registered by the layers above.

`on_resolved(kind, handler)` in an app's `ready()`; the handler runs in the deciding transaction
and gets the request and who resolved it. Work outside the database is enqueued, not done there.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from uuid import UUID

from approvals.models import ApprovalRequest
from common.actors import Actor

Handler = Callable[[ApprovalRequest, Actor], None]
Involved = Callable[[ApprovalRequest], Collection[int]]
Obstacles = Callable[[Sequence[ApprovalRequest]], Mapping[UUID, str]]

_handlers: dict[str, Handler] = {}
_involved: dict[str, Involved] = {}
_deciding: set[str] = set()
_obstacles: list[Obstacles] = []


def on_resolved(
    kind: str, handler: Handler, *, decides: bool = False, involved: Involved | None = None
) -> None:
    """`decides`: the handler changes what decisions are made from, so that the generation is locked
    before the request is (see Locks in docs/architecture.md). `involved`: who owns or sponsors by
    now what the request is about, beside those of when it was opened.
    """
    if kind in _handlers:
        message = f"{kind} already has a handler"
        raise ValueError(message)
    _handlers[kind] = handler
    if decides:
        _deciding.add(kind)
    if involved is not None:
        _involved[kind] = involved


def on_obstacles(find: Obstacles) -> None:
    """`find`: which of the requests ask for what would not be done now though people approve, and
    why, in a sentence; such as a call of an agent that is halted.
    """
    _obstacles.append(find)


def obstacles(requests: Sequence[ApprovalRequest]) -> Mapping[UUID, str]:
    """Return, for each request that could not take effect now, the reason."""
    found: dict[UUID, str] = {}
    for find in _obstacles if requests else ():
        found |= find(requests)
    return found


def involved_now(request: ApprovalRequest) -> Collection[int]:
    found = _involved.get(request.kind)
    return found(request) if found is not None else ()


def resolved(request: ApprovalRequest, actor: Actor) -> None:
    """Raises KeyError for a kind nobody handles: a question without a consequence is a defect."""
    _handlers[request.kind](request, actor)


def changes_decisions(kind: str) -> bool:
    return kind in _deciding


def handled_kinds() -> set[str]:
    return set(_handlers)
