"""Driving a run: look ahead, take a turn, make the call that was claimed, and again.

A driver holds nothing between its turns but the result of one call. Any number of drivers may work
on any run; what one of them loses, the others find in the database.
"""

import logging
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

from actions.services.execution import called
from actions.services.settling import sign_of_life
from common.queueing import queue
from tools.connectors.base import ConnectorError
from workflows.advancing import with_result
from workflows.compiled import spec_of
from workflows.services.answers import Outcome
from workflows.services.claiming import Claimed
from workflows.services.looking import Look, look_ahead
from workflows.services.taking import Taken, take_turn
from workflows.services.turns import DRIVE
from workflows.states import Case

MAX_TURNS = 50
MAX_SECONDS = 20.0
COMMIT_TRIES = 6
_jitter = random.SystemRandom()
log = logging.getLogger(__name__)
T = TypeVar("T")

# Set when the process is to end: a driver stops between two steps.
ending = threading.Event()


def lease() -> timedelta:
    """How long without a sign of life a driver counts as gone."""
    return timedelta(seconds=settings.WORKFLOW_LEASE_SECONDS)


def drive(run_id: UUID) -> int:
    """Take turns until nothing is left to do, somebody else is at it, or it has been long enough.

    How many calls were made. A repeated, late or lost hint does no harm.
    """
    began = time.monotonic()
    calls = 0
    outcome: Outcome | None = None
    look: Look | None = None
    for _ in range(MAX_TURNS):
        taken = _taken(run_id, outcome, look)
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
        _taken(run_id, outcome, None)
    queue.enqueue(DRIVE, str(run_id))
    return calls


def _taken(run_id: UUID, outcome: Outcome | None, look: Look | None) -> Taken:
    """The turn, tried again where the database went away: the call's result must not be lost."""
    tries = COMMIT_TRIES if outcome is not None else 2
    return again(lambda: take_turn(run_id, lease=lease(), outcome=outcome, look=look), tries=tries)


def again(work: Callable[[], T], *, tries: int) -> T:
    """Do it again after a deadlock or a lost connection, with growing pauses."""
    for failures in range(1, tries):
        try:
            return work()
        except (OperationalError, InterfaceError) as error:
            log.warning("the database did not take a turn: %s", type(error).__name__)
            connection.close()
            time.sleep(_jitter.uniform(0, min(5.0, 0.05 * 4**failures)))
    return work()


def _made(claimed: Claimed) -> Outcome:
    """Call the tool. No transaction is open; signs of life are given meanwhile."""
    with _alive(claimed.started.id):
        try:
            result = called(
                claimed.action,
                claimed.tool,
                claimed.held,
                timeout_seconds=claimed.timeout_seconds,
            )
        except ConnectorError as error:
            return Outcome(claimed.path, claimed.action, claimed.started, claimed.tool, error=error)
    return Outcome(claimed.path, claimed.action, claimed.started, claimed.tool, result=result)


def _ahead(taken: Taken, outcome: Outcome) -> Look | None:
    """Prepare what will come after a success, so that one transaction does for both."""
    case = taken.case
    if case is None or outcome.result is None or case.status != "running":
        return None
    return _looked(with_result(case, outcome.path, outcome.result.value))


def _looked(case: Case) -> Look | None:
    spec = spec_of(case.version_id)
    return look_ahead(spec, case, lease())


@contextmanager
def _alive(attempt_id: UUID) -> Iterator[None]:
    """Extend the attempt's lease as long as the block lasts; nothing is written for short ones."""
    over = threading.Event()
    seconds = lease().total_seconds()

    def beat() -> None:
        while not over.wait(seconds / 3):
            try:
                sign_of_life([attempt_id], lease=lease())
            except DatabaseError as error:
                # The next beat tries again; without any, the attempt counts as given up.
                log.warning("no sign of life could be given: %s", type(error).__name__)
            finally:
                connection.close()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
