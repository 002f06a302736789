"""What happens after people have decided, registered from the floors above.

`on_resolved(kind, handler)` in an app's `ready()`; the handler runs in the deciding transaction
and gets the request and who resolved it. Work outside the database is enqueued, not done there.
"""

from collections.abc import Callable

from approvals.models import ApprovalRequest
from common.actors import Actor

Handler = Callable[[ApprovalRequest, Actor], None]

_handlers: dict[str, Handler] = {}
_deciding: set[str] = set()


def on_resolved(kind: str, handler: Handler, *, decides: bool = False) -> None:
    """`decides`: the handler changes what decisions are made from, so that the generation is locked
    before the request is (see Locks in docs/architecture.md).
    """
    if kind in _handlers:
        message = f"{kind} already has a handler"
        raise ValueError(message)
    _handlers[kind] = handler
    if decides:
        _deciding.add(kind)


def resolved(request: ApprovalRequest, actor: Actor) -> None:
    """Raises KeyError for a kind nobody handles: a question without a consequence is a defect."""
    _handlers[request.kind](request, actor)


def changes_decisions(kind: str) -> bool:
    return kind in _deciding


def handled_kinds() -> set[str]:
    return set(_handlers)
