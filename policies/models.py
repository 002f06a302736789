from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from guardian.models import GroupObjectPermissionBase

from agents.models import AgentIdentity
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


class SystemGroupPermission(GroupObjectPermissionBase):
    """A role's grant on a whole system (guardian, by direct foreign key)."""

    content_object = models.ForeignKey(System, on_delete=models.CASCADE)


class ToolGroupPermission(GroupObjectPermissionBase):
    """A role's grant on one tool (guardian, by direct foreign key)."""

    content_object = models.ForeignKey(Tool, on_delete=models.CASCADE)


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

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        message = "A policy release is never removed."
        raise TypeError(message)
