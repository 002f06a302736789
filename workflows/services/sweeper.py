"""The sweeper makes up for everything that can get lost. Any number may run; none is needed.

Hints get lost, workers die, brokers are emptied: a run that has work says so in `next_wake_at`,
in the same transaction, and is found here.
"""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q

from common.clock import database_now
from common.task_queue import queue
from workflows.models import WakeUp, WorkflowRun
from workflows.services.unit_of_work import DRIVE

NOTE_OVERDUE = timedelta(seconds=2)
BATCH = 200


def sweep(*, now: datetime | None = None, limit: int = BATCH) -> int:
    """Send the hints of runs whose time has come or whose hint seems lost; how many."""
    moment = now or database_now()
    ids = {*due_runs(moment, limit), *_mark_hinted(moment, limit)}
    for run_id in ids:
        queue.enqueue(DRIVE, str(run_id))
    return len(ids)


def _hint_again() -> timedelta:
    return timedelta(seconds=settings.WORKFLOW_HINT_SECONDS)


@transaction.atomic
def due_runs(now: datetime, limit: int) -> list[UUID]:
    """Runs to be woken, marked as hinted at so that other sweepers leave them alone."""
    never = Q(last_hint_at=None) | Q(last_hint_at__lt=F("next_wake_at"))
    due = WorkflowRun.objects.filter(next_wake_at__lte=now).filter(
        never | Q(last_hint_at__lt=now - _hint_again())
    )
    if connection.features.has_select_for_update_skip_locked:
        due = due.select_for_update(skip_locked=True, of=("self",), no_key=True)
    ids = list(due.order_by("next_wake_at").values_list("pk", flat=True)[:limit])
    if ids:
        WorkflowRun.objects.filter(pk__in=ids).update(last_hint_at=now)
    return ids


def to_drive(*, limit: int = BATCH) -> list[UUID]:
    """Runs for a worker that gets no hints: all that are due, and all that were left a note."""
    moment = database_now()
    due = WorkflowRun.objects.filter(next_wake_at__lte=moment).order_by("next_wake_at")
    noted = WakeUp.objects.order_by("pk").values_list("run_id", flat=True)
    return list({*due.values_list("pk", flat=True)[:limit], *noted[:limit]})


@transaction.atomic
def _mark_hinted(now: datetime, limit: int) -> list[UUID]:
    """Runs that were left a note which nobody has come for, marked as hinted at."""
    forgotten = (
        Q(run__last_hint_at=None)
        | Q(run__last_hint_at__lt=F("created_at"))
        | Q(run__last_hint_at__lt=now - _hint_again())
    )
    overdue = WakeUp.objects.filter(forgotten, created_at__lte=now - NOTE_OVERDUE)
    ids = list(dict.fromkeys(overdue.order_by("pk").values_list("run_id", flat=True)[:limit]))
    runs = WorkflowRun.objects.filter(pk__in=ids)
    if connection.features.has_select_for_update_skip_locked:
        # Rows that a worker holds are being looked at; to wait for several could be a circle.
        runs = runs.select_for_update(skip_locked=True, of=("self",), no_key=True)
    ids = list(runs.values_list("pk", flat=True))
    WorkflowRun.objects.filter(pk__in=ids).update(last_hint_at=now)
    return ids
