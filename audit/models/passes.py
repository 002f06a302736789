"""Passes of external auditors: what they may see, and until when."""

from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from common.ids import uuid7


class AuditorPass(models.Model):
    """A person sees the log of these agents and this time, and nothing else, until it ends.

    A person who was given a pass once sees the log through a pass only. When it has ended, nothing
    is shown, until somebody restores the rights of the person's own account.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="auditor_passes"
    )
    agents = models.JSONField(default=list, help_text="Client ids; none: all agents.")
    since = models.DateTimeField(null=True)
    until = models.DateTimeField(null=True)
    ends_at = models.DateTimeField()
    reason = models.TextField()
    granted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    granted_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True)
    restored_at = models.DateTimeField(
        null=True, help_text="Since when the rights of the person's own account count again."
    )

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "auditor passes"
        default_permissions = ("view",)
        permissions = [("grant_pass", "Can give and withdraw auditors' passes")]
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="pass_has_a_reason"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("granted_at")), name="pass_ends_after_it_begins"
            ),
            models.CheckConstraint(
                condition=~Q(person=F("granted_by")), name="pass_by_somebody_else"
            ),
            models.UniqueConstraint(
                fields=["person"], condition=Q(withdrawn_at=None), name="pass_one_per_person"
            ),
        ]

    def __str__(self) -> str:
        return f"pass of {self.person}"

    def is_in_force(self, now: datetime) -> bool:
        return self.withdrawn_at is None and self.ends_at > now
