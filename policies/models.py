from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from guardian.models import GroupObjectPermissionBase

from agents.models import AgentIdentity
from common.ids import uuid7
from tools.models import System, Tool


class Role(models.Model):
    """A set of agent identities with the same job. Its grants are its group's permissions."""

    slug = models.SlugField(unique=True, max_length=64)
    title = models.CharField(max_length=100)
    group = models.OneToOneField(Group, on_delete=models.PROTECT, related_name="role")
    members = models.ManyToManyField(AgentIdentity, through="RoleMembership", related_name="roles")

    class Meta:
        ordering = ["slug"]

    def __str__(self) -> str:
        return self.slug


class RoleMembership(models.Model):
    role = models.ForeignKey(Role, on_delete=models.CASCADE, related_name="memberships")
    identity = models.ForeignKey(
        AgentIdentity, on_delete=models.CASCADE, related_name="memberships"
    )
    added_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["role__slug"]
        constraints = [
            models.UniqueConstraint(fields=["role", "identity"], name="membership_once"),
        ]

    def __str__(self) -> str:
        return f"{self.identity} as {self.role}"


_BY_ELEVATION = "It gives no authority by itself: only while an elevation is in force."


class SystemGroupPermission(GroupObjectPermissionBase):
    """A role's grant on a whole system (guardian, by direct foreign key)."""

    content_object = models.ForeignKey(System, on_delete=models.CASCADE)
    by_elevation = models.BooleanField("only by elevation", default=False, help_text=_BY_ELEVATION)


class ToolGroupPermission(GroupObjectPermissionBase):
    """A role's grant on one tool (guardian, by direct foreign key)."""

    content_object = models.ForeignKey(Tool, on_delete=models.CASCADE)
    by_elevation = models.BooleanField("only by elevation", default=False, help_text=_BY_ELEVATION)


class ElevationQuerySet(models.QuerySet["Elevation"]):
    def asked(self) -> "ElevationQuerySet":
        return self.filter(status=Elevation.Status.ASKED)

    def active(self) -> "ElevationQuerySet":
        """Given, and not ended; whether its time is over is looked at when it is used."""
        return self.filter(status=Elevation.Status.ACTIVE)


class Elevation(models.Model):
    """Tools that an identity does not hold, given for one run and a while by people's approval."""

    class Status(models.TextChoices):
        ASKED = "asked", "waiting for people"
        ACTIVE = "active", "in force"
        ENDED = "ended", "ended"
        REFUSED = "refused", "not approved"

    MAX_MINUTES = 480

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="elevations")
    run_id = models.UUIDField(help_text="The only run in which it counts.")
    tools = models.JSONField(help_text="Full names.")
    reason = models.TextField()
    minutes = models.PositiveSmallIntegerField(help_text="How long, from when it is approved.")
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ASKED)
    approval_id = models.UUIDField(null=True)
    asked_at = models.DateTimeField(auto_now_add=True)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    ended_because = models.CharField(max_length=200, blank=True)

    objects = ElevationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view", "change")
        indexes = [
            models.Index(
                fields=["status"],
                name="elevation_not_over",
                condition=Q(status__in=["asked", "active"]),
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="elevation_has_a_reason"),
            models.CheckConstraint(
                condition=Q(minutes__gte=1, minutes__lte=480), name="elevation_is_short"
            ),
            models.CheckConstraint(
                condition=~Q(status="active")
                | Q(starts_at__isnull=False, ends_at__gt=models.F("starts_at"), ended_at=None),
                name="elevation_in_force_has_an_end",
            ),
            models.CheckConstraint(
                condition=~Q(status__in=["ended", "refused"]) | Q(ended_at__isnull=False),
                name="elevation_ended_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return f"elevation of {self.identity}"


class Policy(models.Model):
    """One rule in Cedar, as people edit it. What is enforced is the live release."""

    slug = models.SlugField(unique=True, max_length=100, help_text="The rule's @id.")
    text = models.TextField()
    enabled = models.BooleanField(default=True)
    written_by_id = models.CharField(max_length=64, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["slug"]
        verbose_name_plural = "policies"

    def __str__(self) -> str:
        return self.slug


class PolicyReleaseQuerySet(models.QuerySet["PolicyRelease"]):
    def live(self) -> "PolicyReleaseQuerySet":
        return self.filter(status=PolicyRelease.Status.LIVE)


class PolicyRelease(models.Model):
    """An immutable numbered set of policies with the schema and tools it was checked against."""

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        LIVE = "live", "live"
        RETIRED = "retired", "retired"
        REJECTED = "rejected", "not approved"

    number = models.PositiveIntegerField(unique=True)
    text = models.TextField()
    schema = models.JSONField()
    tools = models.JSONField(help_text="Definition digest of each tool it was checked against.")
    digest = models.CharField(max_length=64)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    note = models.TextField(blank=True)
    drafted_by = models.CharField(max_length=200)
    drafted_by_id = models.CharField(max_length=64)
    writers = models.JSONField(
        default=list, help_text="Who drafted it or wrote a rule that is new in it."
    )
    drafted_at = models.DateTimeField(auto_now_add=True)
    published_by = models.CharField(max_length=200, blank=True)
    published_at = models.DateTimeField(null=True)

    objects = PolicyReleaseQuerySet.as_manager()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(
                fields=["status"], condition=Q(status="live"), name="release_one_live"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["draft", "rejected"], published_at=None)
                | Q(status__in=["live", "retired"], published_at__isnull=False),
                name="release_published_at_matches_status",
            ),
        ]

    def __str__(self) -> str:
        return f"release {self.number}"

    def replaced(self) -> "PolicyRelease | None":
        """Return the release to compare with: the one it replaced, or the live one before it is
        published.
        """
        others = PolicyRelease.objects.exclude(pk=self.pk)
        if self.published_at is None:
            return others.live().first()
        before = others.filter(published_at__lt=self.published_at)
        return before.order_by("-published_at").first()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        message = "A policy release is never removed."
        raise TypeError(message)
