"""Rows that record the outcome of an attempt: its end, the action's progress, and the event.

Whoever writes them has made sure, under lock, that the attempt is still open.
"""

from datetime import datetime
from typing import Any

from django.db import transaction

from actions import events
from actions.models import Action, Attempt
from actions.services import audit_details
from actions.services.attempts import OpenAttempt
from actions.services.decisions import action_subject
from audit.event_types import EventType
from audit.services.recorder import event_row, record
from common.actors import SYSTEM
from common.canonical import digest
from common.sql import Row
from tools.connectors.base import ConnectorError, ToolResult
from tools.definitions import ToolSpec

# Of a call that succeeded, and whose answer could not be taken in.
UNREADABLE = "result_unreadable"


def attempt_end(
    started: OpenAttempt,
    status: Attempt.Status,
    *,
    now: datetime,
    error: ConnectorError | None = None,
) -> Row:
    return {
        "id": started.id,
        "status": status.value,
        "ended_at": now,
        "error_code": error.code if error else "",
        "error": str(error)[:500] if error else "",
    }


def succeeded(
    action: Action, spec: ToolSpec, started: OpenAttempt, result: ToolResult, *, now: datetime
) -> Row:
    """The action has its result; the event of it."""
    action.status = Action.Status.SUCCEEDED
    action.result = result.value
    action.error_code, action.error = "", ""
    if result.unreadable:
        action.error_code, action.error = UNREADABLE, result.unreadable[:500]
    details = {
        "tool": action.tool,
        "attempt": started.number,
        "args_digest": action.arguments_digest,
        "labels": list(spec.labels),
        "classes": list(spec.data_classes),
        "access": spec.access,
        **audit_details.of_answer(action, result.value, spec),
        **({"error": UNREADABLE} if result.unreadable else {}),
    }
    known = spec.vouched_arguments(action.arguments) | spec.vouched_answer(result.value)
    return _event(events.CALL_COMPLETED, action, now, details, known)


def failed(
    action: Action,
    started: OpenAttempt,
    error: ConnectorError,
    *,
    now: datetime,
    unknown: bool,
    again: bool,
) -> Row:
    """The attempt brought no result: what is known of it on the action, and the event of it."""
    action.error_code, action.error = error.code, str(error)[:500]
    details: dict[str, Any] = {
        "tool": action.tool,
        "attempt": started.number,
        "error": error.code,
    }
    if not unknown:
        details["again"] = again
    kind = events.CALL_UNRESOLVED if unknown else events.CALL_FAILED
    return _event(kind, action, now, details)


def progress(action: Action, now: datetime) -> Row:
    action.changed_at = now
    return {
        "id": action.pk,
        "status": action.status,
        "attempts_count": action.attempts_count,
        "result": action.result,
        "error_code": action.error_code,
        "error": action.error,
        "changed_at": now,
    }


def _event(
    kind: EventType,
    action: Action,
    now: datetime,
    details: dict[str, Any],
    known: frozenset[str] = frozenset(),
) -> Row:
    return event_row(
        kind,
        actor=SYSTEM,
        subject=action_subject(action),
        run_id=action.run_id,
        at=now,
        details=details,
        vouched=known,
    )


@transaction.atomic
def keep_late_answer(
    action: Action, started: OpenAttempt, *, outcome: str, evidence: Any, now: datetime
) -> None:
    """An answer to an attempt that had been given up: evidence, which changes nothing."""
    kept = {"outcome": outcome, "result_digest": digest(evidence), "at": now.isoformat()}
    Attempt.objects.filter(pk=started.id, status=Attempt.Status.UNKNOWN).update(
        status=Attempt.Status.LATE, evidence=kept
    )
    record(
        events.CALL_ANSWERED_LATE,
        actor=SYSTEM,
        subject=action_subject(action),
        run_id=action.run_id,
        tool=action.tool,
        attempt=started.number,
        outcome=outcome,
        result_digest=digest(evidence),
    )
