"""Telling a run that something has happened, without taking its lock."""

from uuid import UUID

from django.db import connection

from approvals.models import ApprovalRequest
from common.actors import Actor
from common.clock import database_now
from common.sql import write
from common.task_queue import queue
from workflows.models import StepRun, WorkflowRun
from workflows.services.tables import WAKES
from workflows.services.unit_of_work import DRIVE


def wake(run_id: UUID) -> None:
    """Leave a note, in the transaction of what happened, and send a hint after it.

    Whoever votes holds locks that a worker may want next: to lock the run here could be a circle.
    """
    write(connection, [(WAKES, [{"run_id": run_id, "created_at": database_now()}])])
    queue.enqueue(DRIVE, str(run_id))


def action_moved(run_id: UUID, action_id: UUID) -> None:
    """People, a sweeper or a person's word have moved an action of a step."""
    wake(run_id)


def run_stopped(run_id: UUID) -> None:
    """A run was closed or halted, maybe with a workflow that waits in it."""
    if WorkflowRun.objects.filter(pk=run_id).exists():
        wake(run_id)


def step_decided(request: ApprovalRequest, actor: Actor) -> None:
    """People have answered the question of an approval step."""
    run_id = StepRun.objects.filter(approval_id=request.pk).values_list("run_id", flat=True).first()
    if run_id is not None:
        wake(run_id)
