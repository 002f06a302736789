"""Carrying an allowed action out, and writing down what came of it.

The attempt's row is committed before the call. What the call brought is applied only while that
attempt is still open; an attempt that a sweeper has closed meanwhile keeps its late answer out.
"""

import random
import time
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from actions import events
from actions.models import Action, Attempt, Run
from actions.services import rows
from actions.services.attempts import Started, attempt_rows
from actions.services.deciding import EXECUTE, action_subject
from audit.generation import current_mark, hold_shared
from audit.services import EVENTS, event_row
from audit.vocabulary import EventType
from common.actors import SYSTEM
from common.canonical import digest
from common.queueing import queue
from common.sql import Row, Write, write
from policies.snapshot import Snapshot
from tools.calling import call_tool
from tools.connectors.base import (
    Call,
    ConnectorError,
    NotSent,
    ToolResult,
    Unanswered,
    Unavailable,
)
from tools.definitions import ToolSpec

MAX_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 2.0

_jitter = random.SystemRandom()


def perform(action: Action, started: Started, *, mark: int, held: Snapshot) -> Action:
    """Call the tool until it answers, refuses, or may not be tried again; record each try.

    `mark` and `held` are those of the decision. If the generation has moved, a further try is
    decided anew instead of made.
    """
    spec = held.catalog.tools[action.tool]
    current: Started | None = started
    while current is not None:
        try:
            result = _called(action, spec, held)
        except ConnectorError as error:
            current = _after_error(action, spec, current, error, mark=mark)
            if current is not None:
                time.sleep(backoff_seconds(current.number - 1))
        else:
            _succeeded(action, spec, current, result)
            current = None
    return action


def backoff_seconds(failures: int) -> float:
    """Exponential with full jitter: uniform below a bound that doubles."""
    bound = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**failures)
    return _jitter.uniform(0, bound)


def _called(action: Action, spec: ToolSpec, held: Snapshot) -> ToolResult:
    call = Call(
        run_id=str(action.run_id),
        idempotency_key=str(action.pk),
        timeout_seconds=spec.timeout_seconds,
    )
    return call_tool(
        held.catalog, spec, action.arguments, environment=action.environment, call=call
    )


def may_be_repeated(spec: ToolSpec) -> bool:
    """Whether a second call with the same key cannot have a second effect."""
    return spec.idempotent or spec.access == "read"


def _is_retryable(error: ConnectorError, spec: ToolSpec) -> bool:
    if isinstance(error, NotSent | Unavailable):
        return True  # neither was carried out
    return isinstance(error, Unanswered) and may_be_repeated(spec)


def _after_error(
    action: Action, spec: ToolSpec, started: Started, error: ConnectorError, *, mark: int
) -> Started | None:
    """Close the attempt and, if the call may be tried again, open the next one."""
    retryable = _is_retryable(error, spec) and started.number < MAX_ATTEMPTS
    unknown = isinstance(error, Unanswered) and not retryable
    with transaction.atomic():
        hold_shared()
        run = Run.objects.select_for_update().only("status").get(pk=action.run_id)
        as_decided = current_mark() == mark and run.status == Run.Status.OPEN
        now = timezone.now()
        attempt_status = Attempt.Status.UNKNOWN if unknown else Attempt.Status.FAILED
        if not _closed(started.id, attempt_status, now=now, error=error):
            return None
        batch: list[tuple[Write, list[Row]]] = []
        event = _error_event(action, started, error, now=now, unknown=unknown, again=retryable)
        following: Started | None = None
        action.error_code, action.error = error.code, str(error)[:500]
        if not retryable:
            action.status = Action.Status.UNKNOWN if unknown else Action.Status.FAILED
        elif not as_decided:
            # Something has changed since: whether to try again is decided anew.
            action.status = Action.Status.READY
            queue.enqueue(EXECUTE, str(action.pk))
        else:
            following, attempt, asked = attempt_rows(action, spec, actor=SYSTEM, now=now)
            batch = [(rows.ATTEMPTS, [attempt]), (EVENTS, [event, asked])]
        if following is None:
            batch = [(EVENTS, [event])]
        batch.append((rows.ACTION_PROGRESS, [progress(action, now)]))
        write(connection, batch)
    return following


def _error_event(
    action: Action,
    started: Started,
    error: ConnectorError,
    *,
    now: datetime,
    unknown: bool,
    again: bool,
) -> Row:
    details: dict[str, Any] = {
        "tool": action.tool,
        "attempt": started.number,
        "error": error.code,
    }
    if not unknown:
        details["again"] = again
    kind = events.CALL_UNRESOLVED if unknown else events.CALL_FAILED
    return _event(kind, action, now, details)


def _succeeded(action: Action, spec: ToolSpec, started: Started, result: ToolResult) -> None:
    with transaction.atomic():
        now = timezone.now()
        new_labels = _labels_with(action.run_id, spec)
        if not _closed(started.id, Attempt.Status.SUCCEEDED, now=now):
            return
        action.status = Action.Status.SUCCEEDED
        action.result = result.value
        action.error_code = action.error = ""
        event = _event(
            events.CALL_COMPLETED,
            action,
            now,
            {
                "tool": action.tool,
                "attempt": started.number,
                "args_digest": action.arguments_digest,
                "result_digest": digest(result.value),
                "labels": list(spec.labels),
            },
        )
        write(
            connection,
            [
                (rows.ACTION_PROGRESS, [progress(action, now)]),
                (rows.RUN_LABELS, new_labels),
                (EVENTS, [event]),
            ],
        )


def _labels_with(run_id: UUID, spec: ToolSpec) -> list[Row]:
    """The run's labels with the tool's added, the run locked; nothing if none is new."""
    if not spec.labels:
        return []
    run = Run.objects.select_for_update().only("labels").get(pk=run_id)
    labels = sorted({*run.labels, *spec.labels})
    return [] if labels == run.labels else [{"id": run_id, "labels": labels}]


def _closed(
    attempt_id: UUID,
    status: Attempt.Status,
    *,
    now: datetime,
    error: ConnectorError | None = None,
) -> bool:
    """Close an open attempt; False if somebody else has closed it."""
    return bool(
        Attempt.objects.filter(pk=attempt_id, status=Attempt.Status.STARTED).update(
            status=status,
            ended_at=now,
            error_code=error.code if error else "",
            error=str(error)[:500] if error else "",
        )
    )


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
    kind: EventType, action: Action, now: datetime, details: dict[str, Any]
) -> dict[str, Any]:
    return event_row(
        kind,
        actor=SYSTEM,
        subject=action_subject(action),
        run_id=action.run_id,
        at=now,
        details=details,
    )
