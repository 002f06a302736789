"""A person lets an agent act for them: the root of a line of delegation."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from agents.models.identities import AgentIdentity
from common.ids import uuid7


class PersonDelegationQuerySet(models.QuerySet["PersonDelegation"]):
    def in_force(self) -> "PersonDelegationQuerySet":
        """Not ended by anybody; whether its time is over is looked at when it is used."""
        return self.filter(ended_at=None)


class PersonDelegation(models.Model):
    """One person's word that one identity may act for them, within a scope and until a time."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="delegations"
    )
    identity = models.ForeignKey(
        AgentIdentity, on_delete=models.PROTECT, related_name="person_delegations"
    )
    scope = models.CharField(max_length=2000, help_text="Maximum scope, in token syntax.")
    code_hmac = models.CharField(max_length=64, unique=True)
    reason = models.TextField()
    made_at = models.DateTimeField(auto_now_add=True)
    ends_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    objects = PersonDelegationQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("add", "change", "view")
        constraints = [
            models.CheckConstraint(condition=~Q(reason=""), name="person_delegation_has_a_reason"),
            models.CheckConstraint(
                condition=Q(ends_at__gt=F("made_at")), name="person_delegation_has_an_end"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.identity} for a person"
