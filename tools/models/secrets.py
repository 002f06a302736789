"""Credentials for systems: encrypted in the database, never seen by an agent."""

from django.db import models
from django.db.models import Q

from common.ids import uuid7
from tools.models.systems import Endpoint


class SecretQuerySet(models.QuerySet["Secret"]):
    def in_force(self) -> "SecretQuerySet":
        return self.filter(withdrawn_at=None)


class Secret(models.Model):
    """A credential for one endpoint, usable towards the origin it was given for and no other."""

    class Placement(models.TextChoices):
        HEADER = "header", "a header"
        BASIC = "basic", "user name and password (RFC 7617)"
        QUERY = "query", "a parameter of the address"

    endpoint = models.ForeignKey(Endpoint, on_delete=models.PROTECT, related_name="secrets")
    name = models.SlugField(max_length=64)
    placement = models.CharField(max_length=16, choices=Placement.choices)
    parameter = models.CharField(
        max_length=100, blank=True, help_text="Name of the header or the parameter."
    )
    prefix = models.CharField(
        max_length=32, blank=True, help_text="What a header's value begins with, such as Bearer."
    )
    username = models.CharField(max_length=200, blank=True)
    origin = models.CharField(
        max_length=300,
        editable=False,
        help_text="Sent to this origin only, wherever the endpoint is.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    objects = SecretQuerySet.as_manager()

    class Meta:
        ordering = ["endpoint__system__slug", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["endpoint", "name"],
                condition=Q(withdrawn_at=None),
                name="secret_name_once_per_endpoint",
            ),
            models.UniqueConstraint(
                fields=["endpoint", "placement", "parameter"],
                condition=Q(withdrawn_at=None),
                name="secret_place_once_per_endpoint",
            ),
            models.CheckConstraint(
                condition=Q(placement="basic", parameter="")
                | (~Q(placement="basic") & ~Q(parameter="")),
                name="secret_names_its_place",
            ),
            models.CheckConstraint(condition=~Q(origin=""), name="secret_has_an_origin"),
        ]

    def __str__(self) -> str:
        return f"{self.name} of {self.endpoint}"


class SecretVersion(models.Model):
    """One value of a secret: sealed with a data key of its own, which the key ring wraps."""

    class Status(models.TextChoices):
        CURRENT = "current", "in use"
        DESTROYED = "destroyed", "destroyed"

    secret = models.ForeignKey(Secret, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.CURRENT)
    key_id = models.CharField(
        max_length=16, db_index=True, help_text="Which key of the ring wraps its data key."
    )
    wrapped_key = models.TextField(editable=False, blank=True)
    ciphertext = models.TextField(editable=False, blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["secret", "-number"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["secret", "number"], name="secret_version_once"),
            models.UniqueConstraint(
                fields=["secret"],
                condition=Q(status="current"),
                name="secret_one_current_version",
            ),
            models.CheckConstraint(
                condition=(Q(status="destroyed", wrapped_key="", ciphertext=""))
                | (~Q(status="destroyed") & ~Q(wrapped_key="") & ~Q(ciphertext="")),
                name="secret_version_destroyed_is_empty",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.secret} version {self.number}"


class SecretLease(models.Model):
    """A record, written before, that a secret is decrypted for one call."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    version = models.ForeignKey(SecretVersion, on_delete=models.PROTECT, related_name="leases")
    run_id = models.UUIDField(null=True)
    tool = models.CharField(max_length=200)
    call = models.CharField(
        max_length=64, blank=True, help_text="The action it was opened for; empty for a fact."
    )
    opened_at = models.DateTimeField()
    ends_at = models.DateTimeField(help_text="The call's time limit: the value serves no longer.")

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.tool} {self.opened_at:%Y-%m-%d %H:%M:%S}"
