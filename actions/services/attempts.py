"""Attempts: committed before the tool is called, closed when it has answered."""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from actions import events
from actions.models import Action, Attempt
from actions.services.freshness import exclusive_key
from audit.services.recorder import Subject, event_row
from common.actors import Actor
from common.ids import uuid7
from tools.definitions import ToolSpec

# Beyond the call's own time limit: back-off before it, and writing the result after it.
LEASE_MARGIN = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class OpenAttempt:
    """An attempt whose row is committed: the tool may be called now."""

    id: UUID
    number: int
    # By the monotonic clock. Whoever comes later, because it was frozen, sends nothing: the attempt
    # may count as given up, and the system may have been asked and said that it knows of none.
    send_by: float


def attempt_rows(
    action: Action,
    tool: ToolSpec,
    *,
    actor: Actor,
    now: datetime,
    lease: timedelta | None = None,
) -> tuple[OpenAttempt, dict[str, Any], dict[str, Any]]:
    """The next attempt of the action, with its row and event; counts it on the action.

    `lease`: how long without a sign of life counts as gone, for a executor that gives such signs;
    otherwise the call's whole time limit.
    """
    lease_for = lease or timedelta(seconds=tool.timeout_seconds) + LEASE_MARGIN
    action.attempts_count += 1
    # Half, because the lease began with the transaction, and what is sent takes its time to arrive.
    send_by = time.monotonic() + lease_for.total_seconds() / 2
    started = OpenAttempt(uuid7(), action.attempts_count, send_by)
    row = {
        "id": started.id,
        "action_id": action.pk,
        "number": started.number,
        "status": Attempt.Status.STARTED.value,
        "started_at": now,
        "lease_until": now + lease_for,
        "exclusive_key": exclusive_key(tool, action.arguments, action.environment),
        "error_code": "",
        "error": "",
    }
    event = event_row(
        events.CALL_REQUESTED,
        actor=actor,
        subject=Subject("actions.action", str(action.pk), action.tool),
        run_id=action.run_id,
        at=now,
        details={
            "tool": action.tool,
            "attempt": started.number,
            "args_digest": action.arguments_digest,
        },
    )
    return started, row, event
