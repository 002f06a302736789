from datetime import datetime

from django.db import models
from django.db.models import Q

from agents.models import AgentIdentity
from common.ids import uuid7


class Run(models.Model):
    """One piece of work by an agent: who or what started it, why, in which environment."""

    class Status(models.TextChoices):
        OPEN = "open", "open"
        CLOSED = "closed", "closed"
        HALTED = "halted", "halted"

    class Initiator(models.TextChoices):
        USER = "user", "a user"
        SCHEDULE = "schedule", "a schedule"
        EVENT = "event", "an event"
        AGENT = "agent", "the agent"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="runs")
    agent = models.CharField(max_length=64)
    environment = models.CharField(max_length=32)
    initiator_kind = models.CharField(max_length=16, choices=Initiator.choices)
    initiator = models.CharField(max_length=200)
    purpose = models.CharField(max_length=4000)
    reference = models.CharField(max_length=100, blank=True)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.OPEN)
    labels = models.JSONField(default=list)
    budget_actions = models.PositiveIntegerField(null=True)
    budget_amount = models.DecimalField(max_digits=24, decimal_places=10, null=True)
    actions_count = models.PositiveIntegerField(default=0)
    denials_count = models.PositiveIntegerField(default=0)
    amount = models.DecimalField(max_digits=24, decimal_places=10, default=0)
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=200, blank=True)
    chain = models.JSONField(
        default=list, help_text="Who handed this work over, first to last: their rights bind too."
    )
    delegation = models.CharField(
        max_length=36, blank=True, help_text="A person's word that the agent acts for them in it."
    )
    chain_epochs = models.JSONField(
        default=dict, help_text="Of each whose token was exchanged: who was stopped since counts."
    )
    effects_count = models.PositiveIntegerField(
        default=0, help_text="Calls begun in it that may change something: facts go by it."
    )

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status="open", closed_at=None)
                | (~Q(status="open") & Q(closed_at__isnull=False)),
                name="run_closed_at_matches_status",
            ),
        ]

    def __str__(self) -> str:
        return f"run {str(self.pk)[-12:]}"


class ActionQuerySet(models.QuerySet["Action"]):
    def ready_since(self, before: datetime) -> "ActionQuerySet":
        """Those that the actions' own worker carries on; a executor looks after its own."""
        return self.filter(status=Action.Status.READY, changed_at__lte=before, executor="")

    def unknown(self) -> "ActionQuerySet":
        return self.filter(status=Action.Status.UNKNOWN)

    def with_run(self) -> "ActionQuerySet":
        return self.select_related("run", "run__identity")


class Action(models.Model):
    """One governed tool call within a run, with the decision on it.

    Tool, agent and environment are names: an action must read the same when they have changed.
    Rows are inserted by the deciding transaction in hand-written SQL.
    """

    class Outcome(models.TextChoices):
        ALLOWED = "allowed", "allowed"
        NEEDS_APPROVAL = "needs_approval", "needs approval"
        DENIED = "denied", "denied"
        HALTED = "halted", "halted"

    class Status(models.TextChoices):
        WAITING = "waiting", "waiting for people"
        READY = "ready", "ready to execute"
        EXECUTING = "executing", "executing"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        UNKNOWN = "unknown", "unknown"
        DENIED = "denied", "denied"
        HALTED = "halted", "halted"
        REJECTED = "rejected", "rejected by people"
        EXPIRED = "expired", "not decided in time"
        WITHDRAWN = "withdrawn", "withdrawn"

    SETTLED = frozenset(
        {
            Status.SUCCEEDED,
            Status.FAILED,
            Status.UNKNOWN,
            Status.DENIED,
            Status.HALTED,
            Status.REJECTED,
            Status.EXPIRED,
            Status.WITHDRAWN,
        }
    )

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # The unique constraint's index begins with it.
    run = models.ForeignKey(Run, on_delete=models.PROTECT, related_name="actions", db_index=False)
    idempotency_key = models.CharField(max_length=100)
    request_digest = models.CharField(max_length=64)
    agent = models.CharField(max_length=64)
    environment = models.CharField(max_length=32)
    tool = models.CharField(max_length=200)
    tool_digest = models.CharField(max_length=64)
    endpoint = models.CharField(
        max_length=500, blank=True, help_text="The address that the call was decided for."
    )
    arguments = models.JSONField()
    arguments_digest = models.CharField(max_length=64)
    claims = models.JSONField(default=dict)
    facts = models.JSONField(default=dict)
    amount = models.DecimalField(max_digits=24, decimal_places=10, default=0)
    outcome = models.CharField(max_length=16, choices=Outcome.choices)
    tier = models.CharField(max_length=32, blank=True)
    reasons = models.JSONField(default=list)
    release = models.PositiveIntegerField()
    redecision = models.JSONField(null=True)
    status = models.CharField(max_length=16, choices=Status.choices)
    approval_id = models.UUIDField(null=True)
    attempts_count = models.PositiveSmallIntegerField(default=0)
    result = models.JSONField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=500, blank=True)
    epoch = models.PositiveIntegerField(default=0)
    scope = models.CharField(max_length=2000, blank=True)
    executor = models.CharField(
        max_length=16, blank=True, help_text="What carries it on; if empty, the actions' worker."
    )
    decided_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    objects = ActionQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("resolve_action", "Say what a call of unknown effect had done")]
        constraints = [
            models.UniqueConstraint(fields=["run", "idempotency_key"], name="action_once_per_key"),
            # What was denied or halted is never carried out.
            models.CheckConstraint(
                condition=~Q(outcome__in=["denied", "halted"]) | Q(attempts_count=0),
                name="action_denied_never_attempted",
            ),
        ]
        indexes = [
            models.Index(
                fields=["changed_at"],
                name="action_unsettled",
                condition=Q(status__in=["ready", "executing"]),
            ),
            models.Index(fields=["id"], name="action_unknown", condition=Q(status="unknown")),
        ]

    def __str__(self) -> str:
        return f"{self.tool} ({str(self.pk)[-12:]})"

    @property
    def is_settled(self) -> bool:
        return self.status in self.SETTLED


class SealedArguments(models.Model):
    """The arguments of a call that its tool declares to be secrets, sealed until the call is over.

    In `Action.arguments` their marks stand in their places.
    """

    action = models.OneToOneField(
        Action, primary_key=True, on_delete=models.PROTECT, related_name="sealed_arguments"
    )
    sealed = models.TextField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"secrets of {self.action_id}"


class Attempt(models.Model):
    """One try at executing an action, committed before the tool is called."""

    class Status(models.TextChoices):
        STARTED = "started", "started"
        SUCCEEDED = "succeeded", "succeeded"
        FAILED = "failed", "failed"
        UNKNOWN = "unknown", "unknown"
        LATE = "late", "answered too late"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    action = models.ForeignKey(
        Action, on_delete=models.PROTECT, related_name="attempts", db_index=False
    )
    number = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.STARTED)
    started_at = models.DateTimeField()
    lease_until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    error_code = models.CharField(max_length=64, blank=True)
    error = models.CharField(max_length=500, blank=True)
    evidence = models.JSONField(
        null=True, help_text="What came after it had been given up: kept, and not applied."
    )
    exclusive_key = models.CharField(
        max_length=64, blank=True, help_text="Calls with the same one are made one at a time."
    )

    class Meta:
        ordering = ["number"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["action", "number"], name="attempt_numbered_once"),
            models.UniqueConstraint(
                fields=["action"], condition=Q(status="started"), name="attempt_one_at_a_time"
            ),
            models.UniqueConstraint(
                fields=["exclusive_key"],
                condition=Q(status="started") & ~Q(exclusive_key=""),
                name="attempt_exclusive_one_at_a_time",
            ),
            models.CheckConstraint(
                condition=Q(status="started", ended_at=None)
                | (~Q(status="started") & Q(ended_at__isnull=False)),
                name="attempt_ended_at_matches_status",
            ),
        ]
        indexes = [
            models.Index(
                fields=["lease_until"], name="attempt_running", condition=Q(status="started")
            ),
        ]

    def __str__(self) -> str:
        return f"attempt {self.number}"


class ExclusiveKey(models.Model):
    """A thing that calls of several runs change one at a time, such as an account:
    `Tool.exclusive_by`.

    `turns`: how many calls were begun, so that facts read before another one are known to be old.
    """

    key = models.CharField(primary_key=True, max_length=64)
    turns = models.PositiveBigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.key


class UsageHour(models.Model):
    """The use of an identity in one hour, counted from its actions."""

    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="usage")
    hour = models.DateTimeField()
    allowed = models.PositiveIntegerField(default=0)
    needs_approval = models.PositiveIntegerField(default=0)
    denied = models.PositiveIntegerField(default=0)
    halted = models.PositiveIntegerField(default=0)
    tools = models.PositiveIntegerField(default=0, help_text="How many different ones.")
    is_evaluated = models.BooleanField(default=False)

    class Meta:
        ordering = ["-hour"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["identity", "hour"], name="usage_once_per_hour"),
        ]
        indexes = [
            models.Index(fields=["hour"], name="usage_not_judged", condition=Q(is_evaluated=False)),
        ]

    def __str__(self) -> str:
        return f"{self.identity} {self.hour:%Y-%m-%d %H}h"

    @property
    def calls(self) -> int:
        return self.allowed + self.needs_approval + self.denied + self.halted


class FirstToolUse(models.Model):
    """The first time an identity was allowed to use a tool."""

    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="tool_uses")
    tool = models.CharField(max_length=200)
    first_at = models.DateTimeField()

    class Meta:
        ordering = ["first_at"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["identity", "tool"], name="tool_use_first_once"),
        ]

    def __str__(self) -> str:
        return f"{self.identity}: {self.tool}"
