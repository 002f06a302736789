"""Driving a run: look ahead, take a turn, make the call that was claimed, and again.

A worker holds nothing between its turns but the result of one call. Any number of workers may work
on any run; what one of them loses, the others find in the database.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from actions.services.execution import call_once
from actions.services.recovery import sign_of_life
from common.task_queue import queue
from policies.snapshot import snapshot
from tools.connectors.base import ConnectorError
from workflows.planning import with_result
from workflows.run_state import WorkflowState
from workflows.services.call_outcomes import CallOutcome
from workflows.services.dispatch import DispatchedCall
from workflows.services.preparation import PreparedStep, prepare_next
from workflows.services.run_loader import seen_case
from workflows.services.tick import TickResult, tick
from workflows.services.unit_of_work import DRIVE
from workflows.spec_cache import spec_of

MAX_TURNS = 50
MAX_SECONDS = 20.0
COMMIT_TRIES = 6
MAX_IDLE_BEATS = 10
_jitter = random.SystemRandom()
log = logging.getLogger(__name__)
T = TypeVar("T")

# Set when the process is to end: a worker stops between two steps.
ending = threading.Event()


def lease() -> timedelta:
    """Return how long a worker may give no sign of life before it counts as lost."""
    return timedelta(seconds=settings.WORKFLOW_LEASE_SECONDS)


def run_until_idle(run_id: UUID) -> int:
    """Take turns until nothing is left to do, somebody else is at it, or it has been long enough.

    How many calls were made. A repeated, late or lost hint does no harm.
    """
    began = time.monotonic()
    calls = 0
    outcome: CallOutcome | None = None
    known = seen_case(run_id)
    look = _looked(known) if known is not None else None
    for _ in range(MAX_TURNS):
        taken = _taken(run_id, outcome, look, known=known)
        known = taken.case
        outcome = look = None
        if taken.claimed is not None:
            outcome = _made(taken.claimed)
            calls += 1
            look = _ahead(taken, outcome)
        elif taken.has_more and taken.case is not None:
            look = _looked(taken.case)
        else:
            return calls
        if outcome is None and (ending.is_set() or time.monotonic() - began > MAX_SECONDS):
            break
    if outcome is not None:
        _taken(run_id, outcome, None, known=None)
    queue.enqueue(DRIVE, str(run_id))
    return calls


def _taken(
    run_id: UUID,
    outcome: CallOutcome | None,
    look: PreparedStep | None,
    *,
    known: WorkflowState | None,
) -> TickResult:
    """The turn, tried again where the database went away: the call's result must not be lost."""
    held = [known]  # what a failed try has changed in memory is not used again

    def take() -> TickResult:
        case = held.pop() if held else None
        return tick(run_id, lease=lease(), outcome=outcome, look=look, known=case)

    return retry_on_disconnect(take, tries=COMMIT_TRIES if outcome is not None else 2)


def retry_on_disconnect(work: Callable[[], T], *, tries: int) -> T:
    """Do it again after a deadlock or a lost connection, with growing pauses."""
    for failures in range(1, tries):
        try:
            return work()
        except (OperationalError, InterfaceError) as error:
            log.warning("the database did not take a turn: %s", type(error).__name__)
            connection.close()
            time.sleep(_jitter.uniform(0, min(5.0, 0.05 * 4**failures)))
    return work()


def _made(claimed: DispatchedCall) -> CallOutcome:
    """Call the tool. No transaction is open; signs of life are given meanwhile."""
    with heart.beating(claimed.started.id):
        try:
            result = call_once(
                claimed.action,
                claimed.tool,
                claimed.held,
                send_by=claimed.started.send_by,
                timeout_seconds=claimed.timeout_seconds,
            )
        except ConnectorError as error:
            return CallOutcome(
                claimed.path, claimed.action, claimed.started, claimed.tool, error=error
            )
    return CallOutcome(claimed.path, claimed.action, claimed.started, claimed.tool, result=result)


def _ahead(taken: TickResult, outcome: CallOutcome) -> PreparedStep | None:
    """Prepare what will come after a success, so that one transaction does for both."""
    case = taken.case
    if case is None or outcome.result is None or case.status != "running":
        return None
    known = with_result(case, outcome.path, outcome.result.value)
    return _looked(known, answered=outcome.action.pk)


def _looked(case: WorkflowState, *, answered: UUID | None = None) -> PreparedStep | None:
    """Prepare the next call from the cached generation; rebuild it if it has moved."""
    if snapshot.cached_with_version()[0] != case.mark:
        snapshot.current()
    spec = spec_of(case.version_id)
    return prepare_next(spec, case, lease(), answered=answered)


class LeaseHeartbeat:
    """Gives signs of life for the calls of this process that take long; nothing for short ones."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: dict[UUID, float] = {}
        self._thread: threading.Thread | None = None
        self._pid = 0

    @contextmanager
    def beating(self, attempt_id: UUID) -> Iterator[None]:
        """Extend the attempt's lease again and again as long as the block lasts."""
        with self._lock:
            self._calls[attempt_id] = time.monotonic()
            # A forked process has the memory of its parent and none of its threads.
            if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._beat, daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(attempt_id, None)

    def _beat(self) -> None:
        idle = 0
        while idle < MAX_IDLE_BEATS:
            pause = lease().total_seconds() / 3
            time.sleep(pause)
            now = time.monotonic()
            with self._lock:
                long = [one for one, since in self._calls.items() if now - since >= pause / 2]
                idle = 0 if self._calls else idle + 1
                if idle >= MAX_IDLE_BEATS:
                    self._thread = None
            if long:
                _sign(long)


def _sign(attempt_ids: list[UUID]) -> None:
    try:
        sign_of_life(attempt_ids, lease=lease())
    except DatabaseError as error:
        # The next beat tries again; without any, the attempt counts as given up.
        log.warning("no sign of life could be given: %s", type(error).__name__)
    finally:
        connection.close()


heart = LeaseHeartbeat()
