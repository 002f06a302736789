"""What happens after people have decided, registered from the floors above.

`on_resolved(kind, handler)` in an app's `ready()`; the handler runs in the deciding transaction
and gets the request and who resolved it. Work outside the database is enqueued, not done there.
"""

from collections.abc import Callable

from approvals.models import ApprovalRequest
from common.actors import Actor

Handler = Callable[[ApprovalRequest, Actor], None]

_handlers: dict[str, Handler] = {}


def on_resolved(kind: str, handler: Handler) -> None:
    if kind in _handlers:
        message = f"{kind} already has a handler"
        raise ValueError(message)
    _handlers[kind] = handler


def resolved(request: ApprovalRequest, actor: Actor) -> None:
    """Raises KeyError for a kind nobody handles: a question without a consequence is a defect."""
    _handlers[request.kind](request, actor)


def handled_kinds() -> set[str]:
    return set(_handlers)
