"""Carrying an allowed action out, and writing down what came of it.

The attempt's row is committed before the call. What the call brought is applied only while that
attempt is still open; an attempt that a sweeper has closed meanwhile keeps its late answer out.
"""

import random
import time
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Subquery
from django.utils import timezone

from actions.errors import HaltWatcherStale
from actions.in_flight import watcher
from actions.models import Action, Attempt, Run
from actions.services import results, sealed_arguments, tables
from actions.services.attempts import OpenAttempt, attempt_rows
from actions.services.decisions import EXECUTE
from audit.generation import current_mark, hold_shared
from audit.services.recorder import EVENTS
from common.actors import SYSTEM
from common.sql import Expanding, Row, Write, write
from common.task_queue import queue
from policies.snapshot import Snapshot
from tools.connectors.base import (
    Call,
    CancelledByHalt,
    ConnectorError,
    NoResponse,
    NotSent,
    ToolResult,
    Unavailable,
)
from tools.definitions import ToolSpec
from tools.invocation import call_tool

MAX_ATTEMPTS = 3
BACKOFF_BASE_SECONDS = 0.2
BACKOFF_CAP_SECONDS = 2.0

_jitter = random.SystemRandom()


def perform(action: Action, started: OpenAttempt, *, mark: int, held: Snapshot) -> Action:
    """Call the tool until it answers, refuses, or may not be tried again; record each try.

    `mark` and `held` are those of the decision. If the generation has moved, a further try is
    decided anew instead of made.
    """
    spec = held.catalog.tools[action.tool]
    current: OpenAttempt | None = started
    while current is not None:
        try:
            result = call_once(action, spec, held, send_by=current.send_by)
        except ConnectorError as error:
            current = _record_failure(action, spec, current, error, mark=mark, held=held)
            if current is not None:
                time.sleep(backoff_seconds(current.number - 1))
        else:
            _record_success(action, spec, current, result)
            current = None
    return action


def backoff_seconds(failures: int) -> float:
    """Exponential with full jitter: uniform below a bound that doubles."""
    bound = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**failures)
    return _jitter.uniform(0, bound)


def call_once(
    action: Action,
    spec: ToolSpec,
    held: Snapshot,
    *,
    send_by: float,
    timeout_seconds: float | None = None,
) -> ToolResult:
    """Call the tool once, with the action's identifier as key. Raises ConnectorError.

    Its attempt is committed, and no transaction is open. `send_by` is the attempt's.
    """
    try:
        watcher.ensure_running()
    except HaltWatcherStale as error:
        raise NotSent(str(error)) from error
    with watcher.track(action, spec) as flight:
        if flight.is_cancelled:
            message = "It was stopped before it was sent."
            raise NotSent(message)
        call = Call(
            run_id=str(action.run_id),
            idempotency_key=str(action.pk),
            timeout_seconds=min(timeout_seconds or spec.timeout_seconds, spec.timeout_seconds),
            flight=flight,
            send_by=send_by,
        )
        arguments, credentials = sealed_arguments.opened(action, spec)
        return call_tool(
            held.catalog,
            spec,
            arguments,
            environment=action.environment,
            call=replace(call, credentials=credentials),
        )


def may_be_repeated(spec: ToolSpec) -> bool:
    """Whether a second call with the same key cannot have a second effect."""
    return spec.idempotent or spec.access == "read"


def was_not_carried_out(error: ConnectorError) -> bool:
    """Whether trying again is safe for every tool."""
    return isinstance(error, NotSent | Unavailable)


def _is_retryable(error: ConnectorError, spec: ToolSpec) -> bool:
    if was_not_carried_out(error):
        return True
    if isinstance(error, CancelledByHalt):
        return False
    return isinstance(error, NoResponse) and may_be_repeated(spec)


def _record_failure(
    action: Action,
    spec: ToolSpec,
    started: OpenAttempt,
    error: ConnectorError,
    *,
    mark: int,
    held: Snapshot,
) -> OpenAttempt | None:
    """Close the attempt and, if the call may be tried again, open the next one."""
    retryable = _is_retryable(error, spec) and started.number < MAX_ATTEMPTS
    # What only reads has done nothing, cut off or not.
    harmless = isinstance(error, CancelledByHalt) and spec.access == "read"
    unknown = isinstance(error, NoResponse) and not retryable and not harmless
    with transaction.atomic():
        hold_shared()
        run = Run.objects.select_for_update().only("status").get(pk=action.run_id)
        as_decided = current_mark() == mark and run.status == Run.Status.OPEN
        as_decided = as_decided and not (retryable and _has_moved(action, started, held))
        now = timezone.now()
        attempt_status = Attempt.Status.UNKNOWN if unknown else Attempt.Status.FAILED
        if not _close_attempt(started.id, attempt_status, now=now, error=error):
            results.keep_late_answer(action, started, outcome=error.code, evidence=None, now=now)
            return None
        batch: list[tuple[Write | Expanding, list[Row]]] = []
        event = results.failed(action, started, error, now=now, unknown=unknown, again=retryable)
        following: OpenAttempt | None = None
        if not retryable:
            action.status = Action.Status.UNKNOWN if unknown else Action.Status.FAILED
        elif not as_decided:
            # Something has changed since: whether to try again is decided anew.
            action.status = Action.Status.READY
            queue.enqueue(EXECUTE, str(action.pk))
        else:
            following, attempt, asked = attempt_rows(action, spec, actor=SYSTEM, now=now)
            batch = [(tables.ATTEMPTS, [attempt]), (EVENTS, [event, asked])]
        if following is None:
            batch = [(EVENTS, [event])]
        batch.append((tables.ACTION_PROGRESS, [results.progress(action, now)]))
        write(connection, batch)
    return following


def _has_moved(action: Action, started: OpenAttempt, held: Snapshot) -> bool:
    """Whether another call of the run may have changed what the decision rests on since."""
    own = Attempt.objects.filter(pk=started.id).values("started_at")
    others = Attempt.objects.filter(action__run_id=action.run_id, started_at__gte=Subquery(own))
    tools = others.exclude(action=action).values_list("action__tool", flat=True).distinct()
    known = held.catalog.tools
    return any(name not in known or known[name].access != "read" for name in tools)


def _record_success(
    action: Action, spec: ToolSpec, started: OpenAttempt, result: ToolResult
) -> None:
    with transaction.atomic():
        now = timezone.now()
        new_labels = _labels_with(action.run_id, spec)
        if not _close_attempt(started.id, Attempt.Status.SUCCEEDED, now=now):
            results.keep_late_answer(
                action, started, outcome="succeeded", evidence=result.value, now=now
            )
            return
        event = results.succeeded(action, spec, started, result, now=now)
        write(
            connection,
            [
                (tables.ACTION_PROGRESS, [results.progress(action, now)]),
                (tables.RUN_LABELS, new_labels),
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


def _close_attempt(
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
