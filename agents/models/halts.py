"""The kill switch, and what it covers."""

from collections.abc import Iterable
from typing import Any
from uuid import uuid4

from django.db import models
from django.db.models import Q


def covering(
    *, agent: Any, environment: Any = "", system: Any = "", tool: Any = ""
) -> tuple[tuple[str, Any], ...]:
    """Return (kind, target) of every halt that covers such a call, the widest first."""
    pairs = (("environment", environment), ("system", system), ("tool", tool), ("agent", agent))
    return (("global", ""), *((kind, target) for kind, target in pairs if target != ""))


def _of(pairs: Iterable[tuple[str, Any]]) -> Q:
    found = Q()
    for kind, target in pairs:
        found |= Q(kind=kind, target=target)
    return found


class HaltQuerySet(models.QuerySet["Halt"]):
    def in_force(self) -> "HaltQuerySet":
        return self.filter(lifted_at=None)

    def over(self, *, agent: str, environment: str = "") -> "HaltQuerySet":
        """Return those in force that cover whatever this agent calls, in this environment."""
        return self.in_force().filter(_of(covering(agent=agent, environment=environment)))


def halted(*, agent: str, environment: str = "") -> models.Exists:
    """Return whether a halt in force covers a row; the arguments name the row's columns."""
    columns = {"agent": agent} | ({"environment": environment} if environment else {})
    outer = {name: models.OuterRef(column) for name, column in columns.items()}
    return models.Exists(Halt.objects.in_force().filter(_of(covering(**outer))))


class Halt(models.Model):
    """The kill switch. While it is in force, nothing it covers is decided as allowed."""

    class Kind(models.TextChoices):
        GLOBAL = "global", "everything"
        ENVIRONMENT = "environment", "an environment"
        SYSTEM = "system", "a system"
        TOOL = "tool", "a tool"
        AGENT = "agent", "an agent"

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    target = models.CharField(
        max_length=200, blank=True, help_text="Slug or full name; empty for everything."
    )
    reason = models.TextField()
    placed_by = models.CharField(max_length=200)
    placed_at = models.DateTimeField(auto_now_add=True)
    lifted_by = models.CharField(max_length=200, blank=True)
    lifted_at = models.DateTimeField(null=True)

    objects = HaltQuerySet.as_manager()

    class Meta:
        ordering = ["-placed_at"]
        constraints = [
            models.UniqueConstraint(
                fields=["kind", "target"],
                condition=Q(lifted_at=None),
                name="halt_one_in_force_per_target",
            ),
            models.CheckConstraint(
                condition=Q(kind="global", target="") | (~Q(kind="global") & ~Q(target="")),
                name="halt_names_its_target",
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="halt_has_a_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.target}" if self.target else self.get_kind_display()
