from django.db import models
from django.db.models import Q

from actions.models import Action, Run
from common.ids import uuid7
from workflows.models.definitions import Workflow, WorkflowVersion


class WorkflowRunQuerySet(models.QuerySet["WorkflowRun"]):
    def unfinished(self) -> "WorkflowRunQuerySet":
        return self.exclude(status__in=WorkflowRun.ENDED)


class WorkflowRun(models.Model):
    """One execution of one version, step by step, within a Run that it shares its key with.

    Rows are written by the engine under the lock of their Run.
    """

    class Status(models.TextChoices):
        RUNNING = "running", "running"
        WAITING = "waiting", "waiting"
        COMPENSATING = "compensating", "being undone"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        HALTED = "halted", "halted"
        COMPENSATED = "compensated", "undone"
        COMPENSATION_FAILED = "compensation_failed", "could not be undone"
        CANCELLED = "cancelled", "cancelled"

    # Nothing moves it any more but a person. A halted run is frozen, not over.
    ENDED = frozenset({Status.SUCCEEDED, Status.FAILED, Status.COMPENSATED, Status.CANCELLED})
    RESTING = ENDED | {Status.HALTED, Status.COMPENSATION_FAILED}

    run = models.OneToOneField(
        Run, primary_key=True, on_delete=models.PROTECT, related_name="workflow_run"
    )
    # Indexes below begin with these two; what every turn writes has as few as can be.
    workflow = models.ForeignKey(
        Workflow, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    version = models.ForeignKey(
        WorkflowVersion, on_delete=models.PROTECT, related_name="runs", db_index=False
    )
    parent = models.ForeignKey("self", null=True, on_delete=models.PROTECT, related_name="children")
    parent_path = models.CharField(max_length=120, blank=True)
    depth = models.PositiveSmallIntegerField(default=0)
    status = models.CharField(max_length=24, choices=Status.choices, default=Status.RUNNING)
    inputs = models.JSONField(default=dict)
    inputs_digest = models.CharField(max_length=64)
    idempotency_key = models.CharField(max_length=220, unique=True)
    scope = models.CharField(max_length=2000, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    output = models.JSONField(null=True)
    reason = models.CharField(max_length=500, blank=True)
    ending = models.CharField(
        max_length=16, blank=True, help_text="How it is to end once it has been undone."
    )
    steps_count = models.PositiveIntegerField(default=0)
    errors_count = models.PositiveIntegerField(default=0)
    unknown_count = models.PositiveIntegerField(
        default=0, help_text="Steps of which it is not known whether they took effect."
    )
    finished_seq = models.PositiveIntegerField(default=0)
    success_condition_met = models.BooleanField(
        null=True, help_text="Whether the definition's own measure of success was met."
    )
    is_partial = models.BooleanField(
        default=False, help_text="It failed after some of its steps had changed something."
    )
    revision = models.PositiveIntegerField(
        default=0,
        help_text="Incremented by every write of the state (optimistic lock).",
    )
    next_wake_at = models.DateTimeField(null=True)
    last_hint_at = models.DateTimeField(null=True)
    deadline_at = models.DateTimeField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = WorkflowRunQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view",)
        permissions = [
            ("operate_workflowrun", "Resume, retry, cancel and undo runs of workflows"),
            ("start_workflowrun", "Start runs of workflows for an agent"),
        ]
        indexes = [
            models.Index(
                fields=["next_wake_at"],
                name="wfrun_to_wake",
                condition=Q(next_wake_at__isnull=False),
            ),
            models.Index(fields=["version", "status"], name="wfrun_by_version"),
            models.Index(fields=["status", "-run"], name="wfrun_by_status"),
            models.Index(fields=["workflow", "-run"], name="wfrun_by_workflow"),
            models.Index(fields=["-run"], name="wfrun_partial", condition=Q(is_partial=True)),
            models.Index(fields=["-run"], name="wfrun_unknown", condition=Q(unknown_count__gt=0)),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(
                    status__in=["succeeded", "failed", "compensated", "cancelled"],
                    ended_at__isnull=False,
                )
                | Q(
                    status__in=[
                        "running",
                        "waiting",
                        "compensating",
                        "halted",
                        "compensation_failed",
                    ],
                    ended_at=None,
                ),
                name="wfrun_ended_at_matches_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.workflow_id and self.workflow.slug} {str(self.pk)[-12:]}"

    @property
    def is_ended(self) -> bool:
        return self.status in self.ENDED


class StepRun(models.Model):
    """One step of a run as it stands. There is no row for a step that has not begun."""

    class Status(models.TextChoices):
        RUNNING = "running", "running"
        RETRY = "retry", "waiting to try again"
        WAITING = "waiting", "waiting"
        UNKNOWN = "unknown", "effect unknown"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        DENIED = "denied", "denied"
        EXPIRED = "expired", "not answered in time"
        SKIPPED = "skipped", "skipped"
        CANCELLED = "cancelled", "cancelled"

    OPEN = frozenset({Status.RUNNING, Status.RETRY, Status.WAITING, Status.UNKNOWN})

    class WaitsFor(models.TextChoices):
        APPROVAL = "approval", "people"
        TIME = "time", "a moment"
        SIGNAL = "signal", "a signal"
        CHILD = "child", "another run"
        BREAKER = "breaker", "a system that does not answer"
        TURN = "turn", "another call that changes what this one depends on"
        ITEMS = "items", "its items"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(
        WorkflowRun, on_delete=models.PROTECT, related_name="steps", db_index=False
    )
    path = models.CharField(max_length=120)
    scope = models.CharField(
        max_length=60, blank=True, help_text="The item of a foreach that it belongs to."
    )
    kind = models.CharField(max_length=16)
    compensates = models.CharField(
        max_length=120, blank=True, help_text="The path of the step whose effect it takes back."
    )
    status = models.CharField(max_length=16, choices=Status.choices)
    waiting_for = models.CharField(max_length=16, blank=True, choices=WaitsFor.choices)
    input = models.JSONField(null=True)
    output = models.JSONField(null=True)
    action = models.ForeignKey(
        Action, null=True, on_delete=models.PROTECT, related_name="+", db_index=False
    )
    approval_id = models.UUIDField(null=True)
    child = models.ForeignKey(
        WorkflowRun,
        null=True,
        on_delete=models.PROTECT,
        related_name="parent_steps",
        db_index=False,
    )
    attempts = models.PositiveSmallIntegerField(default=0)
    crashes = models.PositiveSmallIntegerField(default=0)
    generation = models.PositiveSmallIntegerField(
        default=0, help_text="Raised when a person has it done anew, with another key."
    )
    total = models.PositiveIntegerField(default=0)
    begun = models.PositiveIntegerField(default=0)
    done = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(null=True)
    finished_seq = models.PositiveIntegerField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=500, blank=True)
    folded = models.BooleanField(
        default=False, help_text="Of a finished item: no longer needed to go on."
    )
    in_doubt = models.BooleanField(
        default=False, help_text="A call of it was not answered: it may have taken effect."
    )
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["run", "path"], name="step_once_per_path"),
            models.CheckConstraint(
                condition=Q(status__in=["running", "retry", "waiting", "unknown"], ended_at=None)
                | (
                    ~Q(status__in=["running", "retry", "waiting", "unknown"])
                    & Q(ended_at__isnull=False)
                ),
                name="step_ended_at_matches_status",
            ),
        ]
        indexes = [
            models.Index(fields=["run"], name="step_in_play", condition=Q(folded=False)),
            models.Index(
                fields=["approval_id"],
                name="step_by_approval",
                condition=Q(approval_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return self.path


class Signal(models.Model):
    """Something that happened outside, said to a run. Kept though nobody may wait for it yet."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    run = models.ForeignKey(WorkflowRun, on_delete=models.PROTECT, related_name="signals")
    name = models.CharField(max_length=64)
    key = models.CharField(max_length=100, help_text="The same signal sent twice has the same.")
    payload = models.JSONField(default=dict)
    received_at = models.DateTimeField()
    consumed_by = models.CharField(max_length=120, blank=True)
    consumed_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["run", "key"], name="signal_once_per_key"),
            models.CheckConstraint(
                condition=Q(consumed_by="", consumed_at=None)
                | (~Q(consumed_by="") & Q(consumed_at__isnull=False)),
                name="signal_consumed_at_matches",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class WakeUp(models.Model):
    """A note that a run has something to look at, left by whoever may not lock the run.

    Inserted in the transaction of what happened; taken away by the transaction that has seen it.
    """

    run = models.ForeignKey(WorkflowRun, on_delete=models.PROTECT, related_name="wakes")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        default_permissions = ()

    def __str__(self) -> str:
        return f"wake {self.run_id}"
