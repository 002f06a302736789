from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.db.models import Q


class Groups:
    """Names of the groups that bootstrap makes. A group is a job, not a rank."""

    COMPLIANCE = "Compliance"
    AGENT_OWNERS = "Agent owners"
    AUDITORS = "Auditors"
    SECURITY = "Security"
    SUPERVISORS = "Approvers: supervisor"
    MANAGERS = "Approvers: manager"

    ALL = (COMPLIANCE, AGENT_OWNERS, AUDITORS, SECURITY, SUPERVISORS, MANAGERS)


class User(AbstractUser):
    """A person. Agents are never rows of this table: they would appear in approver pickers."""

    def __str__(self) -> str:
        return self.get_full_name() or self.get_username()

    def save(self, *args: Any, **kwargs: Any) -> None:
        # Django's own commands and forms save people too: the record needs their transaction.
        with transaction.atomic():
            super().save(*args, **kwargs)


class Environment(models.Model):
    """Where agents act: own signing key, own token audience, own endpoints."""

    slug = models.SlugField(primary_key=True, max_length=32)
    title = models.CharField(max_length=100)
    is_production = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "slug"]
        constraints = [
            models.CheckConstraint(condition=~Q(slug=""), name="environment_has_a_slug"),
        ]

    def __str__(self) -> str:
        return self.slug
