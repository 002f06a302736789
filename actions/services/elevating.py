"""Elevations as runs see them: asked for within an open run, and over with it."""

from collections.abc import Sequence
from uuid import UUID

from actions.errors import RunNotOpen
from actions.models import Run
from agents.tokens import Caller, seen_from
from audit.generation import deciding_command
from common.actors import SYSTEM, Actor
from common.errors import InvalidInput, NotFound
from policies.errors import ElevationOver
from policies.models import Elevation
from policies.services import elevations
from policies.snapshot import snapshot


@deciding_command
def ask_elevation(
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
    InvalidInput for a tool beyond the token's scope.
    """
    identity = seen_from(caller, snapshot.fresh().directory).identity
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
        identity, run_id, actor=actor, tools=tools, minutes=minutes, reason=reason
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
        except ElevationOver:
            continue  # somebody ended it since the list was read
        ended += 1
    return ended
