from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group
from django.db import models
from django.db.models import F, Q

from accounts.models import User
from approvals.errors import RequestAlreadyDecided, RequestExpired
from audit.auditor_scope import scope_of
from common.ids import uuid7


class Tier(models.Model):
    """A level of human consent: who decides, how many of them, within what time."""

    class OnTimeout(models.TextChoices):
        DENY = "deny", "deny"
        ESCALATE = "escalate", "ask the next tier"

    slug = models.SlugField(primary_key=True, max_length=32)
    title = models.CharField(max_length=100)
    rank = models.PositiveSmallIntegerField(unique=True)
    quorum = models.PositiveSmallIntegerField(default=1)
    groups = models.ManyToManyField(Group, related_name="tiers")
    time_limit_seconds = models.PositiveIntegerField(default=24 * 3600)
    on_timeout = models.CharField(max_length=16, choices=OnTimeout.choices, default=OnTimeout.DENY)
    escalate_to = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="escalated_from"
    )
    requires_step_up = models.BooleanField(
        default=False, help_text="Whether people show a second factor again before they answer."
    )
    owner_may_sign = models.BooleanField(
        default=False, help_text="Whether an agent's owner or sponsor may decide its requests."
    )

    class Meta:
        ordering = ["rank"]
        constraints = [
            models.CheckConstraint(condition=Q(rank__gt=0), name="tier_rank_above_automatic"),
            models.CheckConstraint(condition=Q(quorum__gt=0), name="tier_quorum_is_positive"),
            models.CheckConstraint(
                condition=Q(time_limit_seconds__gt=0), name="tier_time_limit_is_positive"
            ),
            models.CheckConstraint(
                condition=Q(on_timeout="deny", escalate_to=None)
                | Q(on_timeout="escalate", escalate_to__isnull=False),
                name="tier_escalates_somewhere",
            ),
            models.CheckConstraint(
                condition=Q(escalate_to=None) | ~Q(escalate_to=F("slug")),
                name="tier_escalates_to_another",
            ),
        ]

    def __str__(self) -> str:
        return self.title


class ApprovalRequestQuerySet(models.QuerySet["ApprovalRequest"]):
    def pending(self) -> "ApprovalRequestQuerySet":
        return self.filter(status=ApprovalRequest.Status.PENDING)

    def due(self, now: datetime) -> "ApprovalRequestQuerySet":
        return self.pending().filter(expires_at__lte=now)

    def for_approver(self, user: User) -> "ApprovalRequestQuerySet":
        """Requests whose tier the person may decide in; not whether this one is theirs. None for
        somebody with an auditor's pass, whatever groups they are in.
        """
        if scope_of(user) is not None:
            return self.none()
        return self.filter(tier__in=Tier.objects.filter(groups__user=user))

    def about(self, kind: str, pk: Any) -> "ApprovalRequestQuerySet":
        return self.filter(subject_kind=kind, subject_id=str(pk))


class ApprovalRequest(models.Model):
    """A question to people about any subject, with a frozen picture of what is asked."""

    class Status(models.TextChoices):
        PENDING = "pending", "waiting"
        APPROVED = "approved", "approved"
        REJECTED = "rejected", "rejected"
        EXPIRED = "expired", "expired"
        WITHDRAWN = "withdrawn", "withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    subject_kind = models.CharField(max_length=64)
    subject_id = models.CharField(max_length=64)
    subject_label = models.CharField(max_length=200)
    run_id = models.UUIDField(null=True)
    snapshot = models.JSONField()
    snapshot_digest = models.CharField(max_length=64)
    reasons = models.JSONField(default=list)
    requester_kind = models.CharField(max_length=16)
    requester_id = models.CharField(max_length=64)
    requester_label = models.CharField(max_length=200)
    conflicted_users = models.JSONField(
        default=list, help_text="Owner and sponsor, who sign only where the tier lets them."
    )
    initiator = models.CharField(
        max_length=200, blank=True, help_text="Who the work is for, by the agent's word."
    )
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT)
    quorum = models.PositiveSmallIntegerField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.PENDING)
    opened_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    decided_at = models.DateTimeField(null=True)
    spent_at = models.DateTimeField(null=True)
    undecidable_since = models.DateTimeField(
        null=True, help_text="Since when too few people are left who may decide it."
    )

    objects = ApprovalRequestQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["expires_at"], name="approval_due", condition=Q(status="pending")),
            models.Index(fields=["subject_kind", "subject_id"], name="approval_by_subject"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status="pending", decided_at=None)
                | (~Q(status="pending") & Q(decided_at__isnull=False)),
                name="approval_decided_at_matches_status",
            ),
            models.UniqueConstraint(
                fields=["kind", "subject_kind", "subject_id"],
                condition=Q(status="pending"),
                name="approval_one_open_question",
            ),
            models.CheckConstraint(
                condition=Q(spent_at=None) | Q(status="approved"),
                name="approval_spent_only_when_approved",
            ),
        ]

    def __str__(self) -> str:
        return self.title

    def ensure_pending(self, now: datetime) -> None:
        if self.status != self.Status.PENDING:
            raise RequestAlreadyDecided
        if self.expires_at <= now:
            raise RequestExpired


class VoteQuerySet(models.QuerySet["Vote"]):
    def standing(self) -> "VoteQuerySet":
        """Those that count; see `approvals.eligibility`."""
        return self.filter(struck_at=None)


class Vote(models.Model):
    """One person's answer to one request."""

    class Answer(models.TextChoices):
        APPROVE = "approve", "approve"
        REJECT = "reject", "reject"

    request = models.ForeignKey(ApprovalRequest, on_delete=models.PROTECT, related_name="votes")
    voter = models.ForeignKey(User, on_delete=models.PROTECT, related_name="votes")
    tier = models.ForeignKey(Tier, on_delete=models.PROTECT, related_name="+")
    answer = models.CharField(max_length=16, choices=Answer.choices)
    reason = models.TextField()
    snapshot_digest = models.CharField(max_length=64)
    factor = models.CharField(
        max_length=64, blank=True, help_text="The second factor that was shown for it, and when."
    )
    cast_at = models.DateTimeField()
    struck_at = models.DateTimeField(
        null=True, help_text="When it stopped to count: its voter could no longer decide this."
    )
    struck_because = models.CharField(max_length=64, blank=True)

    objects = VoteQuerySet.as_manager()

    class Meta:
        ordering = ["cast_at"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["request", "voter", "tier"],
                condition=Q(struck_at=None),
                name="vote_once_per_person_and_tier",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="vote_has_a_reason"),
            models.CheckConstraint(
                condition=Q(answer__in=["approve", "reject"]), name="vote_answer_is_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.voter}: {self.answer}"
