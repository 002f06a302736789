import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from django.db import models

from audit.errors import AppendOnly
from audit.event_types import title_of
from audit.leaf_encoding import decode_disclosure
from common.ids import first_key_at, uuid7

ERASED = "(erased)"
# Identifiers are allotted as rows are written, moments a little before: how far they can be apart.
_SLACK = 10_000


M = TypeVar("M", bound=models.Model)


class AppendOnlyQuerySet(models.QuerySet[M]):
    def update(self, **kwargs: Any) -> int:
        raise AppendOnly

    def delete(self) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        raise AppendOnly


class EventQuerySet(AppendOnlyQuerySet["Event"]):
    def about(self, kind: str, pk: Any) -> "EventQuerySet":
        return self.filter(subject_kind=kind, subject_id=str(pk))

    def of_run(self, run_id: Any) -> "EventQuerySet":
        return self.filter(run_id=run_id).order_by("id")

    def of_agent(self, client_id: str) -> "EventQuerySet":
        """Return the events of an agent, and all of the runs in which it acted."""
        own = models.Q(actor_kind="agent", actor_id=client_id)
        runs = Event.objects.filter(own, run_id__isnull=False).values("run_id")
        return self.filter(own | models.Q(run_id__in=runs))

    def within(self, since: datetime | None, until: datetime | None) -> "EventQuerySet":
        """From `since`, before `until`. Identifiers grow with time, and the time is in the UUID
        (RFC 9562): bounds by its index.
        """
        found = self
        if since:
            first = _number_at(since)
            found = found.filter(pk__gte=first - _SLACK) if first is not None else found
            found = found.filter(recorded_at__gte=since)
        if until:
            last = _number_at(until)
            found = found.filter(pk__lte=last + _SLACK) if last is not None else found
            found = found.filter(recorded_at__lt=until)
        return found

    def recorded_of_run(self, run_id: Any) -> int:
        """Count the events of the run in the log; a later count is never less."""
        return self.filter(run_id=run_id).count()

    def with_values(self) -> "EventQuerySet":
        """With what lies beside the leaf, in one query."""
        return self.select_related("payload")


def _number_at(moment: datetime) -> int | None:
    following = Event.objects.filter(uid__gte=first_key_at(moment)).order_by("uid")
    return following.values_list("pk", flat=True).first()


class Event(models.Model):
    """One line of the audit log.

    Actor and subject are names, not foreign keys: the log must not change or vanish with what it
    speaks of. What counts is `leaf`, to the byte; the other columns repeat parts of it, to find
    events by. Rows are written by `audit.services.recorder` and by the deciding transaction.
    """

    id = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(unique=True, default=uuid7, editable=False)
    recorded_at = models.DateTimeField()
    type = models.CharField(max_length=64)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    subject_kind = models.CharField(max_length=64)
    subject_id = models.CharField(max_length=64)
    run_id = models.UUIDField(null=True)
    request_id = models.CharField(max_length=36, blank=True)
    writer = models.CharField(max_length=16)
    writer_number = models.BigIntegerField()
    leaf = models.TextField()
    mac = models.BinaryField()
    mac_key = models.CharField(max_length=8)

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

    @property
    def actor_label(self) -> str:
        return self._label("actor", self.payload.actor_label, self.actor_id)

    @property
    def subject_label(self) -> str:
        return self._label("subject", self.payload.subject_label, self.subject_id)

    def _label(self, of: str, label: str, known: str) -> str:
        """A label that is but the identifier is not kept."""
        return label or (ERASED if f"{of}.label" in self.payload.erased else known)

    @property
    def details(self) -> dict[str, Any]:
        """Return the details in the leaf and beside it, without those that were erased."""
        beside = self.values().items()
        named = {name: value for name, value in beside if name.startswith("details.")}
        return self.plain() | {n.removeprefix("details."): value for n, value in named.items()}

    def plain(self) -> dict[str, Any]:
        """The details that the leaf itself says."""
        return dict(json.loads(self.leaf).get("details", {}))

    def values(self) -> dict[str, Any]:
        """Return the values beside the leaf, by field."""
        return {name: decode_disclosure(text)[1] for name, text in self.payload.disclosures.items()}


class EventPayload(models.Model):
    """The values of an event that are not in its leaf, each as the text that its digest is of.

    The labels are there to show lists by; what counts are the disclosures. That there is an event
    for each row is not the database's to check at every commit: `audit verify` finds the other.
    """

    event = models.OneToOneField(
        Event,
        to_field="uid",
        primary_key=True,
        db_constraint=False,
        on_delete=models.PROTECT,
        related_name="payload",
    )
    actor_label = models.CharField(max_length=200, blank=True)
    subject_label = models.CharField(max_length=200, blank=True)
    disclosures = models.JSONField(default=dict)
    # By field: the identifier of the event that says who erased it, and why.
    erased = models.JSONField(default=dict, db_default={})

    objects: models.Manager["EventPayload"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("see_sensitive", "Can see values that are personal or sensitive")]

    def __str__(self) -> str:
        return f"values of {self.event_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        raise AppendOnly

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly

    def lose(self, fields: Collection[str], *, said_by: UUID) -> None:
        """Without these fields, for good; the event `said_by` says why. The database lets nothing
        else happen to the row.
        """
        self.disclosures = {n: v for n, v in self.disclosures.items() if n not in fields}
        self.erased = {**self.erased, **dict.fromkeys(fields, str(said_by))}
        self.actor_label = "" if "actor.label" in fields else self.actor_label
        self.subject_label = "" if "subject.label" in fields else self.subject_label
        super().save(force_update=True)


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
