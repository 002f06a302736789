"""Requests about the log, each made by one person and decided by another; and legal holds."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Q

from audit.models.events import Event
from audit.retention import CLASSES, FLOOR_DAYS
from common.ids import uuid7


class DualControlRequest(models.Model):
    """Asked by one person; another one decides."""

    class Status(models.TextChoices):
        ASKED = "asked", "waits for a second person"
        APPROVED = "approved", "approved"
        REFUSED = "refused", "refused"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    purpose = models.TextField()
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    asked_at = models.DateTimeField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ASKED)
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    decided_at = models.DateTimeField(null=True)
    decision = models.TextField(blank=True)

    class Meta:
        abstract = True

    @property
    def is_asked(self) -> bool:
        return self.status == self.Status.ASKED


def _by_two(name: str) -> list[models.BaseConstraint]:
    undecided = Q(status="asked", decided_by=None, decided_at=None)
    decided = Q(status__in=["approved", "refused"], decided_by__isnull=False)
    return [
        models.CheckConstraint(
            condition=undecided | decided & Q(decided_at__isnull=False),
            name=f"{name}_decision_matches_status",
        ),
        models.CheckConstraint(
            condition=Q(decided_by=None) | ~Q(decided_by=models.F("asked_by")),
            name=f"{name}_by_two_people",
        ),
        models.CheckConstraint(condition=~Q(purpose=""), name=f"{name}_has_a_purpose"),
    ]


class Export(DualControlRequest):
    """A request to export evidence of some runs, agents and a period; of all if none is named.

    `previous_checkpoint`: the auditor's checkpoint of an earlier bundle, which this one continues.
    """

    VALID = timedelta(days=7)

    runs = models.JSONField(default=list, blank=True)
    agents = models.JSONField(default=list, blank=True)
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    with_values = models.BooleanField(
        default=False, help_text="With what lies beside the events, such as people's names."
    )
    with_sensitive = models.BooleanField(
        "with sensitive values",
        default=False,
        help_text="With what tools declare to be personal or sensitive, too.",
    )
    previous_checkpoint = models.TextField(blank=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [
            ("ask_export", "Can ask to take evidence away"),
            ("approve_export", "Can approve that evidence is taken away"),
        ]
        constraints = [
            *_by_two("export"),
            models.CheckConstraint(
                condition=Q(with_sensitive=False) | Q(with_values=True),
                name="export_sensitive_are_values",
            ),
        ]

    def __str__(self) -> str:
        return f"Evidence: {self.purpose[:60]}"

    def may_be_taken(self, now: datetime) -> bool:
        if self.status != self.Status.APPROVED or self.decided_at is None:
            return False
        return now < self.decided_at + self.VALID


class Erasure(DualControlRequest):
    """Values to be erased: of one person, one run or one event; all values, or those named."""

    class About(models.TextChoices):
        PERSON = "person", "a person"
        RUN = "run", "a run"
        EVENT = "event", "an event, by its identifier"

    about = models.CharField(max_length=16, choices=About.choices)
    about_id = models.CharField(max_length=64)
    fields = models.JSONField(default=list, blank=True)
    basis = models.CharField(max_length=32, help_text="A code; see `audit.services.erasures`.")
    events_count = models.IntegerField(null=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [
            ("ask_erasure", "Can ask for values to be erased"),
            ("approve_erasure", "Can approve that values are erased"),
        ]
        constraints = [
            *_by_two("erasure"),
            models.CheckConstraint(
                condition=Q(about__in=["person", "run", "event"]), name="erasure_about_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"Erasure of {self.get_about_display()} {self.about_id}"


class RetentionRule(models.Model):
    """For how many days the values of a class of events are kept, if not as long as usual."""

    kind = models.CharField(
        primary_key=True,
        max_length=16,
        choices=[(name, one.title) for name, one in CLASSES.items()],
    )
    days = models.PositiveIntegerField()

    class Meta:
        ordering = ["kind"]
        default_permissions = ("view",)
        permissions = [("set_retention", "Can set how long values are kept")]
        constraints = [
            models.CheckConstraint(
                condition=Q(days__gte=FLOOR_DAYS), name="retention_above_the_floor"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.days} days"


class SystemRetention(models.Model):
    """For how many days the values of a system's calls are kept, whatever the rule for all says."""

    system = models.CharField(max_length=64)
    kind = models.CharField(
        max_length=16, choices=[(name, one.title) for name, one in CLASSES.items()]
    )
    days = models.PositiveIntegerField()

    class Meta:
        ordering = ["system", "kind"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["system", "kind"], name="system_retention_once"),
            models.CheckConstraint(
                condition=Q(days__gte=FLOOR_DAYS), name="system_retention_above_the_floor"
            ),
            models.CheckConstraint(condition=~Q(system=""), name="system_retention_of_a_system"),
        ]

    def __str__(self) -> str:
        return f"{self.system}, {self.get_kind_display()}: {self.days} days"


class Hold(models.Model):
    """A legal hold: what it covers is neither erased nor removed in time. It covers everything
    that was recorded in its period, of the agent or the run if one is named.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    reason = models.TextField()
    run_id = models.UUIDField(null=True, blank=True)
    agent = models.CharField(max_length=64, blank=True)
    since = models.DateTimeField(null=True, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    placed_at = models.DateTimeField()
    released_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    released_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        permissions = [("place_hold", "Can place and release legal holds")]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="hold_has_a_reason"),
            models.CheckConstraint(
                condition=Q(released_by=None, released_at=None)
                | Q(released_by__isnull=False, released_at__isnull=False),
                name="hold_release_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"Hold: {self.reason[:60]}"

    def covered(self) -> models.QuerySet[Event]:
        """The events that it covers."""
        wanted: dict[str, Any] = {}
        if self.since is not None:
            wanted["recorded_at__gte"] = self.since
        if self.until is not None:
            wanted["recorded_at__lt"] = self.until
        if self.run_id is not None:
            wanted["run_id"] = self.run_id
        found = Event.objects.filter(**wanted)
        return found.of_agent(self.agent) if self.agent else found
