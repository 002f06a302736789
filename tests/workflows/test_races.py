"""Two at one run at the same moment, on PostgreSQL with real threads."""

import time
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.utils import timezone

from actions.models import Action, Attempt, Run
from actions.services import execution, recovery
from audit.models import Event
from common.actors import Actor
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_failing import MAIL
from tests.workflows.test_undoing import CHILD, PARENT
from workflows.models import WorkflowRun
from workflows.services import operator_commands, worker

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]
ROSE = Actor("human", "1", "rose")


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(cursor.fetchone()[0])


def until_somebody_waits() -> None:
    for _ in range(500):
        if somebody_waits():
            return
        time.sleep(0.02)
    pytest.fail("Nobody has waited for the lock.")


def beside(work: Callable[[], None]) -> Thread:
    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    return thread


def test_an_attempt_given_up_while_its_driver_waits_is_not_applied(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sweeper holds the run when the answer comes: what it writes counts, not what was."""
    workflow_helpers.publish(MAIL)
    run = workflow_helpers.begin(governed)
    held, threads = Flag(), []
    real = execution.call_once

    def gives_up() -> None:
        with transaction.atomic():
            Run.objects.select_for_update().get(pk=run.pk)
            Attempt.objects.update(lease_until=timezone.now())
            assert recovery.reap_abandoned() == 1
            held.set()
            until_somebody_waits()

    def called(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        threads.append(beside(gives_up))
        assert held.wait(10)
        return result

    monkeypatch.setattr(worker, "call_once", called)
    worker.run_until_idle(run.pk)
    for thread in threads:
        thread.join()
    assert Attempt.objects.get().status == "late"
    assert Action.objects.get().status == "unknown"
    assert workflow_helpers.steps(workflow_helpers.driven(run)) == {"mail": "unknown"}
    assert Event.objects.filter(type="tool.call.answered_late").count() == 1


def test_a_child_ends_while_its_parent_is_held(governed: Governed) -> None:
    """What it leaves for its parent refers to the parent's row and does not wait for its lock."""
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(PARENT)
    run = workflow_helpers.begin(governed)
    worker.run_until_idle(run.pk)
    child = WorkflowRun.objects.get(parent=run)
    done = Flag()

    def ends() -> None:
        worker.run_until_idle(child.pk)
        done.set()

    from workflows.services.run_loader import lock_state  # noqa: PLC0415 - only here

    with transaction.atomic():
        assert lock_state(run.pk, wait=True) is not None
        thread = beside(ends)
        assert done.wait(10), "the child waited for its parent's lock"
    thread.join()
    assert WorkflowRun.objects.get(pk=child.pk).status == "succeeded"
    assert workflow_helpers.driven(run).status == "succeeded"


def drives(ids: list[UUID]) -> Callable[[], None]:
    def work() -> None:
        for pk in ids * 6:
            worker.run_until_idle(pk)

    return work


def test_a_parent_is_undone_while_its_child_is_driven(governed: Governed) -> None:
    """Locks go from the outer run to the inner one, and never back."""
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(PARENT)
    runs = [workflow_helpers.driven(workflow_helpers.begin(governed)) for _ in range(5)]
    for run in runs:
        operator_commands.undo(run.pk, actor=ROSE, reason="A mistake.")
    children = list(WorkflowRun.objects.filter(parent__in=runs).values_list("pk", flat=True))

    threads = [beside(drives([run.pk for run in runs])), beside(drives(children))]
    for thread in threads:
        thread.join()
    for run in runs:
        assert workflow_helpers.driven(run).status == "compensated"
    assert len(governed.toolbox.effects) == 5 * 3


def test_a_process_that_is_frozen_in_a_transaction_does_not_hold_a_halt_for_ever() -> None:
    """PostgreSQL ends its transaction, and with it the locks that a halt waits for."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("10s",)
