from typing import Any

from django.db import models

from audit.errors import AppendOnly
from audit.vocabulary import title_of
from common.ids import uuid7


class EventQuerySet(models.QuerySet["Event"]):
    def about(self, kind: str, pk: Any) -> "EventQuerySet":
        return self.filter(subject_kind=kind, subject_id=str(pk))

    def of_run(self, run_id: Any) -> "EventQuerySet":
        return self.filter(run_id=run_id).order_by("id")

    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        raise AppendOnly


class Event(models.Model):
    """One line of the audit log.

    Actor and subject are names, not foreign keys: the log must not change or vanish with what it
    speaks of. Rows are written by `audit.services.record` and by the deciding transaction.
    """

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(unique=True, default=uuid7, editable=False)
    recorded_at = models.DateTimeField()
    type = models.CharField(max_length=64)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=200)
    subject_kind = models.CharField(max_length=64)
    subject_id = models.CharField(max_length=64)
    subject_label = models.CharField(max_length=200)
    run_id = models.UUIDField(null=True)
    request_id = models.CharField(max_length=36, blank=True)
    details = models.JSONField(default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["type", "-id"], name="event_by_type"),
            models.Index(fields=["subject_kind", "subject_id", "-id"], name="event_by_subject"),
            models.Index(fields=["actor_kind", "actor_id", "-id"], name="event_by_actor"),
            models.Index(
                fields=["run_id", "id"],
                name="event_by_run",
                condition=models.Q(run_id__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} #{self.pk}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise AppendOnly

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    @property
    def title(self) -> str:
        return title_of(self.type)


class Generation(models.Model):
    """The state that decisions are made from, as one number.

    It moves with every change to an agent, a tool, a grant, a tier, a policy or a halt. `mark` is
    random: after a restore from a backup numbers repeat, marks do not.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    number = models.BigIntegerField(default=0)
    mark = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="generation_is_one_row"),
        ]

    def __str__(self) -> str:
        return str(self.number)
