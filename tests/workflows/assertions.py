"""What a refusal must leave as it was: every table that a request could have touched."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from auditlog.models import LogEntry
from django.db import models

from actions.models import Action, Attempt, Run
from approvals.models import ApprovalRequest, Vote
from audit.models import Event
from workflows.models import (
    Rollout,
    Schedule,
    ScheduleFire,
    Signal,
    StepRun,
    WakeUp,
    Workflow,
    WorkflowRun,
    WorkflowVersion,
)

TABLES: tuple[type[models.Model], ...] = (
    Workflow,
    WorkflowVersion,
    Rollout,
    Schedule,
    ScheduleFire,
    Run,
    WorkflowRun,
    StepRun,
    Signal,
    WakeUp,
    Action,
    Attempt,
    ApprovalRequest,
    Vote,
    Event,
    LogEntry,
)


def rows() -> dict[str, list[Any]]:
    return {
        table.__name__: list(table._default_manager.order_by("pk").values()) for table in TABLES
    }


@contextmanager
def nothing_changed() -> Iterator[None]:
    before = rows()
    yield
    assert rows() == before
