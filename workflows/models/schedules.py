from datetime import datetime

from django.db import models
from django.db.models import Q

from agents.models import AgentIdentity
from workflows.models.definitions import Workflow
from workflows.models.runs import WorkflowRun


class ScheduleQuerySet(models.QuerySet["Schedule"]):
    def due(self, now: datetime) -> "ScheduleQuerySet":
        return self.filter(paused=False, next_fire_at__lte=now)


class Schedule(models.Model):
    """A time table for starting a workflow, with the agent and the inputs."""

    class CatchUp(models.TextChoices):
        NONE = "none", "leave out what was missed"
        LATEST = "latest", "make up for the latest"
        ALL = "all", "make up for all"

    class Overlap(models.TextChoices):
        ALLOW = "allow", "start all the same"
        SKIP = "skip", "leave this time out"

    slug = models.SlugField(unique=True, max_length=64)
    workflow = models.ForeignKey(Workflow, on_delete=models.PROTECT, related_name="schedules")
    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="+")
    cron = models.CharField(max_length=100, help_text="Minute, hour, day, month, weekday.")
    timezone = models.CharField(max_length=64, default="UTC", help_text="Such as Europe/Paris.")
    inputs = models.JSONField(default=dict, blank=True)
    catch_up = models.CharField(max_length=16, choices=CatchUp.choices, default=CatchUp.LATEST)
    overlap = models.CharField(max_length=16, choices=Overlap.choices, default=Overlap.SKIP)
    paused = models.BooleanField(default=False)
    next_fire_at = models.DateTimeField(null=True)

    objects = ScheduleQuerySet.as_manager()

    class Meta:
        ordering = ["slug"]
        indexes = [
            models.Index(fields=["next_fire_at"], name="schedule_due", condition=Q(paused=False)),
        ]

    def __str__(self) -> str:
        return self.slug


class ScheduleFire(models.Model):
    """One time at which a schedule was to start something. The constraint lets one ticker do it."""

    class Status(models.TextChoices):
        STARTED = "started", "started"
        SKIPPED = "skipped", "left out"
        REFUSED = "refused", "refused"

    schedule = models.ForeignKey(Schedule, on_delete=models.PROTECT, related_name="fires")
    fire_time = models.DateTimeField()
    status = models.CharField(max_length=16, choices=Status.choices)
    run = models.ForeignKey(WorkflowRun, null=True, on_delete=models.PROTECT, related_name="+")
    reason = models.CharField(max_length=500, blank=True)
    fired_at = models.DateTimeField()

    class Meta:
        ordering = ["-pk"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["schedule", "fire_time"], name="schedule_fires_once_per_time"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.schedule} at {self.fire_time:%Y-%m-%d %H:%M}"
