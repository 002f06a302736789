"""Findings of unusual use of an identity, with the evidence and the response."""

from datetime import datetime

from django.db import models
from django.db.models import Q

from agents.models.identities import AgentIdentity
from common.ids import uuid7


class FindingQuerySet(models.QuerySet["Finding"]):
    def open(self) -> "FindingQuerySet":
        return self.filter(resolved_at=None)

    def unanswered(self, before: datetime) -> "FindingQuerySet":
        """Questions to a sponsor that nobody has answered since."""
        asked = self.open().filter(response=Finding.Response.ASK, responded_at__lte=before)
        return asked.order_by("responded_at")


class Finding(models.Model):
    """One anomaly. It stays open until a person has said what it was."""

    class Rule(models.TextChoices):
        FIRST_USE = "first_use", "first use of a tool in production"
        TWO_NETWORKS = "two_networks", "one token used from two networks"
        SUPERSEDED_KEY = "superseded_key", "a superseded key was used"
        PROBING = "probing", "denied on several tools in a short time"
        MINT_RATE = "mint_rate", "more tokens than its runtimes need"
        OUTSIDE_HOURS = "outside_hours", "used outside its declared hours"
        MANY_CALLS = "many_calls", "many more calls than usual"
        MANY_DENIALS = "many_denials", "many more denials than usual"

    class Response(models.TextChoices):
        NOTE = "note", "noted"
        ASK = "ask", "the sponsor is asked"
        SHORTEN = "shorten", "its tokens live a minute"
        SUSPEND = "suspend", "it is suspended"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="findings")
    rule = models.CharField(max_length=32, choices=Rule.choices)
    about = models.CharField(
        max_length=200, blank=True, help_text="What it is about, such as a tool or a token's id."
    )
    response = models.CharField(max_length=16, choices=Response.choices)
    evidence = models.JSONField(default=dict)
    found_at = models.DateTimeField(auto_now_add=True)
    responded_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=200, blank=True)
    resolution = models.TextField(blank=True)

    objects = FindingQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view", "change")
        indexes = [
            models.Index(fields=["found_at"], name="finding_open", condition=Q(resolved_at=None)),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["identity", "rule", "about"],
                condition=Q(resolved_at=None),
                name="finding_open_once",
            ),
            models.CheckConstraint(
                condition=Q(resolved_at=None, resolution="")
                | (Q(resolved_at__isnull=False) & ~Q(resolution="")),
                name="finding_resolved_with_a_reason",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_rule_display()}: {self.identity}"
