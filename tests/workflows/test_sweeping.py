"""Hints get lost and workers die: what has work to do is found."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Event as Moment
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from common.actors import SYSTEM
from common.clock import database_now
from tests.actions.test_races import at_once
from tests.conftest import Hints
from tests.factories import Governed
from tests.workflows import workflow_helpers
from workflows.models import StepRun, WakeUp, WorkflowRun
from workflows.services import run_signals, sweeper, wakeups, worker
from workflows.services.run_loader import lock_state

pytestmark = pytest.mark.django_db

PAY = "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
REST = "steps:\n  rest: {wait: {for: 2h}}\n"
TOLD = "steps:\n  told: {wait: {signal: paid, timeout: 1d}}\n"
SECOND = timedelta(seconds=1)
Sweep = Callable[[datetime], list[UUID]]


@pytest.fixture
def sweep(hints: Hints, django_capture_on_commit_callbacks: Any) -> Sweep:
    """Sweep at a moment: the runs that were sent a hint."""

    def swept(now: datetime) -> list[UUID]:
        hints.sent.clear()
        with django_capture_on_commit_callbacks(execute=True):
            number = sweeper.sweep(now=now)
        found = [UUID(sent) for sent in hints.of("workflows.drive")]
        assert number == len(found) == len(hints.sent)
        return found

    return swept


@pytest.fixture
def begun(governed: Governed) -> WorkflowRun:
    """A run that was started a moment ago and that no worker has come for."""
    workflow_helpers.publish(PAY)
    return workflow_helpers.begin(governed)


def told(run: WorkflowRun, key: str = "k") -> datetime:
    """The moment at which a signal was sent to the run."""
    sent, _ = run_signals.send(run.pk, actor=SYSTEM, name="paid", payload={}, key=key)
    return sent.received_at


# -- runs whose time has come --------------------------------------------------------------------


def test_a_fresh_hint_is_not_repeated_and_a_lost_one_is(begun: WorkflowRun, sweep: Sweep) -> None:
    assert sweep(begun.started_at) == []
    assert sweep(begun.started_at + 15 * SECOND) == []
    late = begun.started_at + 16 * SECOND
    assert sweep(late) == [begun.pk]
    assert sweep(late + 15 * SECOND) == []
    assert sweep(late + 16 * SECOND) == [begun.pk]


def test_what_is_found_is_done_and_not_found_again(
    begun: WorkflowRun, governed: Governed, sweep: Sweep
) -> None:
    late = begun.started_at + timedelta(days=1)
    [found] = sweep(late)
    assert worker.run_until_idle(found) == 1
    assert WorkflowRun.objects.get().status == "succeeded"
    assert governed.toolbox.calls == ["pay"]
    assert sweep(late + timedelta(days=1)) == []


def test_a_run_that_nobody_was_told_of_is_found_at_once(begun: WorkflowRun, sweep: Sweep) -> None:
    WorkflowRun.objects.update(last_hint_at=None)
    assert sweep(begun.started_at) == [begun.pk]
    assert sweep(begun.started_at + SECOND) == []


def test_a_run_that_waits_is_left_alone_until_its_time(governed: Governed, sweep: Sweep) -> None:
    run = workflow_helpers.done(governed, REST)
    due = run.next_wake_at
    assert due is not None
    for early in (run.started_at, run.started_at + timedelta(hours=1), due - SECOND):
        assert sweep(early) == []
    assert sweep(due) == [run.pk]
    assert sweep(due + 15 * SECOND) == []
    assert sweep(due + 16 * SECOND) == [run.pk]


def test_a_time_that_has_come_is_told_however_fresh_the_last_hint_is(
    governed: Governed, sweep: Sweep
) -> None:
    run = workflow_helpers.done(governed, REST)
    due = run.next_wake_at
    assert due is not None
    WorkflowRun.objects.update(last_hint_at=due - SECOND)
    assert sweep(due) == [run.pk]


def test_a_run_whose_worker_died_in_a_call_is_found_after_its_lease(
    begun: WorkflowRun, governed: Governed, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(worker, "_made", die)
        with pytest.raises(KeyboardInterrupt):
            worker.run_until_idle(begun.pk)
    run = WorkflowRun.objects.get()
    assert (run.status, workflow_helpers.steps(run)) == ("running", {"pay": "running"})
    step = StepRun.objects.get()
    given_up = step.started_at + worker.lease()
    assert sweep(given_up) == []
    assert sweep(given_up + 6 * SECOND) == [run.pk]
    assert governed.toolbox.calls == []


def test_runs_that_rest_are_left_alone(governed: Governed, sweep: Sweep) -> None:
    ended = workflow_helpers.done(governed, PAY)
    halted = workflow_helpers.done(
        governed, "stop_when:\n  - {if: '${ true }', reason: never}\n" + PAY
    )
    assert (ended.status, halted.status) == ("succeeded", "halted")
    assert sweep(database_now() + timedelta(days=400)) == []


def test_the_longest_overdue_are_told_first(governed: Governed, sweep: Sweep) -> None:
    workflow_helpers.publish(PAY)
    runs = [workflow_helpers.begin(governed) for _ in range(3)]
    now = database_now() + timedelta(hours=1)
    for minutes, run in zip((20, 30, 10), runs, strict=True):
        overdue = now - timedelta(minutes=minutes)
        WorkflowRun.objects.filter(pk=run.pk).update(next_wake_at=overdue)
    assert sweeper.due_runs(now, 2) == [runs[1].pk, runs[0].pk]
    assert sweeper.due_runs(now, 2) == [runs[2].pk]
    assert sweep(now) == []


# -- notes that nobody came for ------------------------------------------------------------------


def test_a_note_that_nobody_came_for_is_found(governed: Governed, sweep: Sweep) -> None:
    run = workflow_helpers.done(governed, TOLD)
    left = told(run)
    assert WakeUp.objects.get().run == run
    assert sweep(left + SECOND) == []  # its own hint is under way
    assert sweep(left + 3 * SECOND) == [run.pk]
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded"
    assert not WakeUp.objects.exists()
    assert sweep(left + timedelta(minutes=1)) == []


def test_several_notes_are_one_hint(governed: Governed, sweep: Sweep) -> None:
    run = workflow_helpers.done(governed, TOLD)
    told(run, "one")
    left = told(run, "two")
    WorkflowRun.objects.update(next_wake_at=left)
    assert WakeUp.objects.count() == 2
    assert sweep(left + 3 * SECOND) == [run.pk]


def test_a_note_for_a_run_that_has_ended_is_taken_away(governed: Governed, sweep: Sweep) -> None:
    run = workflow_helpers.done(governed, PAY)
    wakeups.wake(run.pk)
    late = database_now() + 3 * SECOND
    assert sweep(late) == [run.pk]
    assert worker.run_until_idle(run.pk) == 0
    assert not WakeUp.objects.exists()
    assert sweep(late + timedelta(days=1)) == []
    assert WorkflowRun.objects.get().status == "succeeded"


# -- several sweepers ----------------------------------------------------------------------------


def swept_at_once(hints: Hints, now: datetime) -> list[str]:
    """Whom eight sweepers at once send hints to."""
    hints.sent.clear()
    results = at_once(lambda number: sweeper.sweep(now=now))
    assert sum(results) == len(hints.sent)
    return sorted(hints.of("workflows.drive"))


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_several_sweepers_send_each_run_one_hint(governed: Governed, hints: Hints) -> None:
    workflow_helpers.publish(PAY)
    runs = {str(workflow_helpers.begin(governed).pk) for _ in range(6)}
    late = database_now() + timedelta(minutes=1)
    for now in (late, late + 16 * SECOND):
        assert swept_at_once(hints, now) == sorted(runs)
        assert swept_at_once(hints, now + 15 * SECOND) == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_sweeper_does_not_wait_for_a_driver(governed: Governed) -> None:
    workflow_helpers.publish(PAY)
    held, free = workflow_helpers.begin(governed), workflow_helpers.begin(governed)
    is_held, may_go = Moment(), Moment()

    def drive() -> None:
        try:
            with transaction.atomic():
                lock_state(held.pk, wait=True)
                is_held.set()
                may_go.wait(10)
        finally:
            connection.close()

    late = database_now() + timedelta(minutes=1)
    with ThreadPoolExecutor(1) as pool:
        worker = pool.submit(drive)
        assert is_held.wait(10)
        try:
            assert sweeper.due_runs(late, 10) == [free.pk]
        finally:
            may_go.set()
        worker.result()
    assert sweeper.due_runs(late, 10) == [held.pk]
