from django.db import models
from django.db.models import Q

from accounts.models import Environment


class System(models.Model):
    """Something that agents act on."""

    class Kind(models.TextChoices):
        HTTP = "http", "HTTP"
        IN_PROCESS = "in_process", "in this process"

    slug = models.SlugField(unique=True, max_length=64)
    title = models.CharField(max_length=100)
    description = models.TextField(blank=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)

    class Meta:
        ordering = ["slug"]
        permissions = [
            ("call_read", "Call reading tools"),
            ("call_write", "Call writing tools"),
            ("call_execute", "Call executing tools"),
        ]

    def __str__(self) -> str:
        return self.slug


class Endpoint(models.Model):
    """The address of a system in one environment."""

    system = models.ForeignKey(System, on_delete=models.PROTECT, related_name="endpoints")
    environment = models.ForeignKey(Environment, on_delete=models.PROTECT, related_name="+")
    base_url = models.CharField(
        max_length=300, blank=True, help_text="For HTTP systems: the only origin ever called."
    )
    allow_private = models.BooleanField(
        default=False, help_text="Whether private and loopback addresses may be called."
    )
    max_response_bytes = models.PositiveIntegerField(default=1_000_000)

    class Meta:
        ordering = ["system__slug", "environment__position"]
        constraints = [
            models.UniqueConstraint(
                fields=["system", "environment"], name="endpoint_once_per_environment"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.system} in {self.environment_id}"


class Breaker(models.Model):
    """Whether calls to an endpoint are let through, kept where every process sees it.

    A success writes nothing while it is closed. Written by the engine under its own row's lock.
    """

    class State(models.TextChoices):
        CLOSED = "closed", "closed: calls go through"
        OPEN = "open", "open: calls wait"

    system = models.CharField(max_length=64)
    environment = models.CharField(max_length=32)
    state = models.CharField(max_length=16, choices=State.choices, default=State.CLOSED)
    failures = models.PositiveIntegerField(default=0)
    window_from = models.DateTimeField(null=True)
    opened_times = models.PositiveSmallIntegerField(
        default=0, help_text="In a row, without a success between: the wait doubles each time."
    )
    open_until = models.DateTimeField(null=True)
    probe_until = models.DateTimeField(null=True)

    class Meta:
        ordering = ["system", "environment"]
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(
                fields=["system", "environment"], name="breaker_once_per_endpoint"
            ),
            models.CheckConstraint(
                condition=Q(state="closed", open_until=None, probe_until=None)
                | Q(state="open", open_until__isnull=False),
                name="breaker_open_until_matches_state",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.system} in {self.environment}"


class ToolQuerySet(models.QuerySet["Tool"]):
    def callable_by_agents(self) -> "ToolQuerySet":
        return self.filter(serves_facts_only=False)


class Tool(models.Model):
    """One callable operation of a system."""

    class Access(models.TextChoices):
        READ = "read", "read"
        WRITE = "write", "write"
        EXECUTE = "execute", "execute"

    class Status(models.TextChoices):
        ACTIVE = "active", "active"
        WITHDRAWN = "withdrawn", "withdrawn"

    system = models.ForeignKey(System, on_delete=models.PROTECT, related_name="tools")
    name = models.SlugField(max_length=100)
    title = models.CharField(max_length=200)
    description = models.TextField(blank=True)
    path = models.CharField(
        max_length=200, blank=True, help_text="Below the endpoint's base URL; the name if empty."
    )
    input_schema = models.JSONField()
    output_schema = models.JSONField(null=True, blank=True)
    access = models.CharField(max_length=16, choices=Access.choices)
    idempotent = models.BooleanField(
        default=False, help_text="Whether the same idempotency key has one effect."
    )
    timeout_seconds = models.FloatField(default=10)
    labels = models.JSONField(
        default=list, blank=True, help_text="Labels that a result puts on the run."
    )
    sources = models.JSONField(
        default=list, blank=True, help_text="Read tools called to learn facts before deciding."
    )
    facts = models.JSONField(
        default=list, blank=True, help_text="Named CEL expressions that policies may use."
    )
    claims = models.JSONField(
        default=list, blank=True, help_text="What the runtime declares, recorded as its word."
    )
    amount = models.TextField(
        blank=True, help_text="CEL over the arguments: what a call counts against a budget."
    )
    probe = models.SlugField(
        max_length=100,
        blank=True,
        help_text="A read tool of the same system that tells, by idempotency key, whether a call "
        "took effect: {key} gives {found, result}.",
    )
    exclusive_by = models.SlugField(
        max_length=100,
        blank=True,
        help_text="An argument. Calls of the system's tools with the same value of it are made one "
        "at a time, whichever runs they belong to, so that facts hold until the call is made.",
    )
    serves_facts_only = models.BooleanField(
        default=False, help_text="Called by the portal for facts; never granted to an agent."
    )
    status = models.CharField(max_length=16, choices=Status.choices, default=Status.ACTIVE)
    definition_digest = models.CharField(max_length=64, editable=False)

    objects = ToolQuerySet.as_manager()

    class Meta:
        ordering = ["system__slug", "name"]
        permissions = [
            ("call_read", "Call it while it reads"),
            ("call_write", "Call it while it writes"),
            ("call_execute", "Call it while it executes"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["system", "name"], name="tool_once_per_system"),
            models.CheckConstraint(
                condition=Q(timeout_seconds__gt=0, timeout_seconds__lte=300),
                name="tool_timeout_in_bounds",
            ),
            models.CheckConstraint(
                condition=Q(serves_facts_only=False) | Q(access="read"),
                name="tool_for_facts_only_reads",
            ),
        ]

    def __str__(self) -> str:
        return self.full_name

    @classmethod
    def is_known(cls, full_name: str) -> bool:
        system, _, name = full_name.partition(".")
        return cls.objects.filter(system__slug=system, name=name).exists()

    @property
    def full_name(self) -> str:
        return f"{self.system.slug}.{self.name}"
