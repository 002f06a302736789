from datetime import datetime, timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from accounts.models import Environment

# How long former owners and sponsors do not approve what the agent asks.
FORMER_FOR = timedelta(days=90)


class Agent(models.Model):
    """An AI agent as the organisation knows it."""

    class Risk(models.TextChoices):
        LOW = "low", "low"
        MEDIUM = "medium", "medium"
        HIGH = "high", "high"

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        ACTIVE = "active", "active"
        SUSPENDED = "suspended", "suspended"
        RETIRED = "retired", "retired"

    slug = models.SlugField(unique=True, max_length=64)
    title = models.CharField(max_length=100)
    purpose = models.TextField()
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="owned_agents"
    )
    sponsor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="sponsored_agents"
    )
    risk = models.CharField(max_length=16, choices=Risk.choices, default=Risk.MEDIUM)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.DRAFT)
    created_at = models.DateTimeField(auto_now_add=True)
    certified_until = models.DateTimeField(
        null=True, help_text="Unless who answers for it confirms it again, it is suspended then."
    )
    reminded_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["slug"]
        permissions = [
            ("manage_every_agent", "Manage agents that somebody else answers for"),
        ]
        constraints = [
            models.CheckConstraint(condition=~Q(purpose=""), name="agent_has_a_purpose"),
            models.CheckConstraint(
                condition=~Q(status="active") | Q(certified_until__isnull=False),
                name="agent_active_is_certified",
            ),
        ]

    def __str__(self) -> str:
        return self.slug

    @property
    def involved(self) -> list[int]:
        """Owner, sponsor, and everybody who was one in the last 90 days: they do
        not approve what it asks.
        """
        since = timezone.now() - FORMER_FOR
        former = {one.person_id for one in self.former_people.all() if one.until >= since}
        return sorted({self.owner_id, self.sponsor_id, *former})


class FormerPerson(models.Model):
    """A former owner or sponsor of an agent, and until when. Naming a successor must not give them
    the right to approve what the agent requests.
    """

    agent = models.ForeignKey(Agent, on_delete=models.CASCADE, related_name="former_people")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    until = models.DateTimeField()

    class Meta:
        ordering = ["-until"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["agent", "person"], name="former_person_once"),
        ]

    def __str__(self) -> str:
        return f"{self.person}, formerly of {self.agent}"


class AgentIdentity(models.Model):
    """An agent in exactly one environment. Nothing is shared between two identities."""

    class Status(models.TextChoices):
        PENDING = "pending", "waiting for approval"
        ACTIVE = "active", "active"
        SUSPENDED = "suspended", "suspended"

    TOKEN_SECONDS = 300

    agent = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="identities")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    client_id = models.CharField(max_length=100, unique=True, editable=False)
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ACTIVE)
    epoch = models.PositiveIntegerField(
        default=1,
        help_text="Tokens of an earlier epoch are invalid; each suspension increments it.",
    )
    dpop_required = models.BooleanField(
        default=False,
        help_text="Its tokens are bound to a key, which proves itself with every request.",
    )
    token_seconds = models.PositiveSmallIntegerField(
        default=300, help_text="How long its tokens live; shorter while something is looked into."
    )
    replicas = models.PositiveSmallIntegerField(
        default=1, help_text="How many runtimes use it at a time, each with tokens of its own."
    )
    hours = models.CharField(
        max_length=40, blank=True, help_text="When it is used, in UTC: mon-fri 8-18. Empty: always."
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["agent__slug", "environment__position"]
        verbose_name_plural = "agent identities"
        constraints = [
            models.UniqueConstraint(
                fields=["agent", "environment"], name="identity_once_per_environment"
            ),
            models.CheckConstraint(condition=Q(epoch__gt=0), name="identity_epoch_is_positive"),
            models.CheckConstraint(
                condition=Q(token_seconds__gte=60, token_seconds__lte=300),
                name="identity_tokens_are_short",
            ),
            models.CheckConstraint(condition=Q(replicas__gt=0), name="identity_has_a_runtime"),
        ]

    def __str__(self) -> str:
        return self.client_id


class AgentKey(models.Model):
    """A public key of one identity. The private key never reaches the portal."""

    class Status(models.TextChoices):
        ACTIVE = "active", "active"
        RETIRING = "retiring", "replaced, still accepted"
        SUPERSEDED = "superseded", "superseded"
        REVOKED = "revoked", "revoked"

    ACCEPTED = frozenset({Status.ACTIVE, Status.RETIRING})

    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="keys")
    thumbprint = models.CharField(
        max_length=64, unique=True, help_text="RFC 7638; unique over all agents and all time."
    )
    algorithm = models.CharField(max_length=16)
    public_jwk = models.JSONField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ACTIVE)
    enrolled_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)
    retires_at = models.DateTimeField(
        null=True, help_text="Once it was replaced: accepted until then, and a sign of theft after."
    )

    class Meta:
        ordering = ["-enrolled_at"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status__in=["retiring", "superseded"]) | Q(retires_at__isnull=False),
                name="agent_key_retires_at_a_time",
            ),
        ]

    def __str__(self) -> str:
        return self.thumbprint[:12]

    def is_superseded(self, now: datetime) -> bool:
        """Whether its time is over, be it written down yet or not."""
        is_over = self.retires_at is not None and self.retires_at <= now
        return self.status == self.Status.SUPERSEDED or (
            self.status == self.Status.RETIRING and is_over
        )


class FederatedCredentialQuerySet(models.QuerySet["FederatedCredential"]):
    def in_force(self) -> "FederatedCredentialQuerySet":
        return self.filter(withdrawn_at=None)


class FederatedCredential(models.Model):
    """Another issuer, such as a CI service or a cluster, that says who one identity is.

    Its keys are pinned, or fetched from `jwks_uri` and kept; an issuer that replaces its keys is
    followed by a person's command, or by the next look at the address.
    """

    identity = models.ForeignKey(
        AgentIdentity, on_delete=models.PROTECT, related_name="federated_credentials"
    )
    issuer = models.CharField(max_length=300)
    subject = models.CharField(max_length=300)
    jwks = models.JSONField(help_text="The issuer's public keys, as JWKs.")
    jwks_uri = models.CharField(
        "address of its keys",
        max_length=500,
        blank=True,
        help_text="https; empty: keys are pinned.",
    )
    fetched_at = models.DateTimeField("keys fetched at", null=True)
    trouble = models.CharField(
        max_length=200, blank=True, help_text="Why its keys could not be fetched last time."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    objects = FederatedCredentialQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["issuer", "subject"], name="federated_subject_is_one_identity"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subject} of {self.issuer}"


class EnrolmentCode(models.Model):
    """A code that lets one key enrol for one identity, once. Only its HMAC is kept."""

    identity = models.ForeignKey(AgentIdentity, on_delete=models.PROTECT, related_name="codes")
    code_hmac = models.CharField(max_length=64, unique=True)
    issued_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+"
    )
    issued_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-issued_at"]

    def __str__(self) -> str:
        return f"code for {self.identity}"

    def is_usable(self, now: datetime) -> bool:
        return self.used_at is None and now < self.expires_at


class SigningKey(models.Model):
    """The key that signs one environment's access tokens. The private part is sealed."""

    class Status(models.TextChoices):
        NEXT = "next", "published, not used yet"
        ACTIVE = "active", "active"
        RETIRING = "retiring", "retiring"
        REVOKED = "revoked", "revoked"

    kid = models.CharField(max_length=64, unique=True)
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    public_jwk = models.JSONField()
    sealed_private = models.BinaryField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ACTIVE)
    created_at = models.DateTimeField(
        auto_now_add=True, help_text="Published from then on: verifiers know it before it is used."
    )
    activated_at = models.DateTimeField(null=True)
    retired_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["environment", "-created_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(status="next"),
                name="signing_key_one_next_per_environment",
            ),
            models.UniqueConstraint(
                fields=["environment"],
                condition=Q(status="active"),
                name="signing_key_one_active_per_environment",
            ),
        ]

    def __str__(self) -> str:
        return self.kid


class DelegationRuleQuerySet(models.QuerySet["DelegationRule"]):
    def in_force(self) -> "DelegationRuleQuerySet":
        return self.filter(ended_at=None)


class DelegationRule(models.Model):
    """One agent may act for another: it may exchange the other's token for one of its own."""

    subject = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="delegates_to")
    actor = models.ForeignKey(Agent, on_delete=models.PROTECT, related_name="acts_for")
    scope = models.CharField(max_length=2000, help_text="Maximum scope, in token syntax.")
    max_depth = models.PositiveSmallIntegerField(
        default=1,
        help_text="Maximum number of exchanges from the original subject; 1 is the first.",
    )
    reason = models.TextField()
    made_by = models.CharField(max_length=200)
    made_at = models.DateTimeField(auto_now_add=True)
    ended_at = models.DateTimeField(null=True)

    objects = DelegationRuleQuerySet.as_manager()

    class Meta:
        ordering = ["subject__slug", "actor__slug", "-made_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["subject", "actor"],
                condition=Q(ended_at=None),
                name="delegation_one_in_force_per_pair",
            ),
            models.CheckConstraint(
                condition=~Q(subject=models.F("actor")), name="delegation_is_to_another"
            ),
            models.CheckConstraint(
                condition=Q(max_depth__gte=1, max_depth__lte=3), name="delegation_depth_is_bounded"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="delegation_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.actor} for {self.subject}"


class RevokedToken(models.Model):
    """A token that its holder gave back before its time; kept until it would have expired."""

    jti = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.jti


class AssertionReplay(models.Model):
    """A client assertion that was used; the primary key is the memory of all processes."""

    digest = models.CharField(primary_key=True, max_length=64)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.digest
