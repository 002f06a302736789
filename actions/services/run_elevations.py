"""Elevations as runs see them: asked for within an open run, and over with it."""

from collections.abc import Sequence
from uuid import UUID

from actions.errors import RunNotOpen
from actions.models import Run
from agents.tokens import Caller, revalidate
from audit.generation import deciding_command
from common.actors import SYSTEM, Actor
from common.errors import GovernanceError, InvalidInput, NotFound
from common.rate_limits import enforce_limit
from policies.models import Elevation
from policies.services import elevations
from policies.snapshot import snapshot
from tools.errors import UnknownTool

ASKED_PER_MINUTE = 20


def request_elevation(
    caller: Caller,
    run_id: UUID,
    *,
    actor: Actor,
    tools: Sequence[str],
    minutes: int,
    reason: str,
) -> Elevation:
    """Ask people for tools in an open run of the caller's own. Raises the refusals of
    `elevations.ask`; NotFound, RunNotOpen; InvalidToken if the caller may no longer act;
    InvalidInput for a tool beyond the token's scope; TooManyRequests.
    """
    # Asking keeps decisions waiting for a moment: what cannot be asked is turned away before, and
    # nobody asks all the time.
    enforce_limit(f"elevate:{caller.identity.client_id}", per_minute=ASKED_PER_MINUTE)
    _ensure_askable(caller, run_id, tools)
    return _create_elevation(
        caller, run_id, actor=actor, tools=tools, minutes=minutes, reason=reason
    )


def _ensure_askable(caller: Caller, run_id: UUID, tools: Sequence[str]) -> None:
    if not Run.objects.filter(pk=run_id, identity_id=caller.identity.pk).exists():
        raise NotFound
    known = snapshot.cached().catalog.tools
    if any(tool not in known for tool in tools):
        raise UnknownTool


@deciding_command
def _create_elevation(
    caller: Caller,
    run_id: UUID,
    *,
    actor: Actor,
    tools: Sequence[str],
    minutes: int,
    reason: str,
) -> Elevation:
    identity = revalidate(caller, snapshot.current().directory).identity
    own = Run.objects.select_for_update().filter(pk=run_id, identity_id=identity.pk)
    run = own.first()
    # Rights that were lent are not added to: who lends them asks.
    if run is None or caller.chain or caller.person or run.chain or run.delegation:
        raise NotFound
    if run.status != Run.Status.OPEN:
        raise RunNotOpen
    if not all(caller.scope_covers(tool) for tool in tools):
        message = "The token's scope does not cover these tools."
        raise InvalidInput(message)
    return elevations.ask(
        identity,
        run_id,
        actor=actor,
        tools=tools,
        minutes=minutes,
        reason=reason,
        initiator=run.initiator,
    )


def end_due() -> int:
    """End what is over by time, and what belongs to runs that have ended; the number ended."""
    ended = elevations.end_overdue()
    rows = list(Elevation.objects.filter(status__in=["asked", "active"])[:500])
    runs = Run.objects.filter(pk__in=[row.run_id for row in rows], status=Run.Status.OPEN)
    still_open = set(runs.values_list("pk", flat=True))
    for row in rows:
        if row.run_id in still_open:
            continue
        try:
            if row.status == Elevation.Status.ASKED:
                elevations.take_back(row.pk, actor=SYSTEM, reason="The run has ended.")
            else:
                elevations.end(row.pk, actor=SYSTEM, reason="The run has ended.")
        except GovernanceError:
            continue  # somebody ended or answered it since the list was read
        ended += 1
    return ended
