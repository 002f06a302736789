from typing import Any

from django.db import models
from django.db.models import Q

WHOLE = 10_000  # shares are counted in hundredths of a percent


class Workflow(models.Model):
    """A piece of work in steps, by its name. What it does is its versions'."""

    slug = models.SlugField(unique=True, max_length=64)
    title = models.CharField(max_length=500)
    live = models.ForeignKey(
        "WorkflowVersion", null=True, on_delete=models.PROTECT, related_name="+"
    )
    paused = models.BooleanField(default=False, help_text="No new run is started.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class WorkflowVersionQuerySet(models.QuerySet["WorkflowVersion"]):
    def drafts(self) -> "WorkflowVersionQuerySet":
        return self.filter(status=WorkflowVersion.Status.DRAFT)

    def light(self) -> "WorkflowVersionQuerySet":
        """Without the text and what it was compiled against."""
        return self.defer("text", "spec", "world")


class WorkflowVersion(models.Model):
    """One immutable version: its definition, and the tools it was checked against."""

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        PUBLISHED = "published", "published"
        RETIRED = "retired", "retired"
        REJECTED = "rejected", "not approved"

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    text = models.TextField(help_text="The YAML as it was written.")
    spec = models.JSONField(help_text="What it says, as plain values; this is what is hashed.")
    world = models.JSONField(help_text="The tools it was checked against, with their digests.")
    digest = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    note = models.TextField(blank=True)
    drafted_by = models.CharField(max_length=200)
    drafted_by_id = models.CharField(max_length=64)
    drafted_at = models.DateTimeField(auto_now_add=True)
    published_by = models.CharField(max_length=200, blank=True)
    published_at = models.DateTimeField(null=True)

    objects = WorkflowVersionQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow", "number"], name="workflow_version_numbered_once"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "rejected"], published_at=None)
                | Q(status__in=["published", "retired"], published_at__isnull=False),
                name="workflow_version_published_at_matches_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.workflow} version {self.number}"

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        message = "A version of a workflow is never removed."
        raise TypeError(message)


class Rollout(models.Model):
    """A new version given to a share of new runs, and taken back by itself if it does badly."""

    class Status(models.TextChoices):
        RUNNING = "running", "under way"
        COMPLETED = "completed", "completed"
        ROLLED_BACK = "rolled_back", "rolled back"

    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="rollouts")
    stable = models.ForeignKey(WorkflowVersion, on_delete=models.PROTECT, related_name="+")
    candidate = models.ForeignKey(WorkflowVersion, on_delete=models.PROTECT, related_name="+")
    share = models.PositiveIntegerField(help_text="Of 10,000 new runs.")
    max_failed_percent = models.PositiveSmallIntegerField(default=10)
    max_denied_percent = models.PositiveSmallIntegerField(default=20)
    min_runs = models.PositiveIntegerField(
        default=10, help_text="Ended runs before the guard judges."
    )
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.RUNNING)
    reason = models.CharField(max_length=500, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["workflow"], condition=Q(status="running"), name="rollout_one_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(share__gt=0, share__lt=WHOLE), name="rollout_share_is_a_part"
            ),
            models.CheckConstraint(
                condition=Q(status="running", ended_at=None)
                | (~Q(status="running") & Q(ended_at__isnull=False)),
                name="rollout_ended_at_matches_status",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.candidate} to {self.share / 100:g} %"
