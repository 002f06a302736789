"""The sealed log: its leaves in order, the tree over them, and what was signed."""

from typing import Any

from django.db import models

from audit.errors import AppendOnly
from audit.models.events import AppendOnlyQuerySet, Event


class _Written(models.Model):
    """Rows that are written once: the database refuses every change (see the migrations)."""

    class Meta:
        abstract = True

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnly


class LogKey(_Written):
    """A key that the log has been signed with, from which size on."""

    vkey = models.CharField(max_length=200, unique=True)
    from_size = models.BigIntegerField()
    first_used_at = models.DateTimeField()

    objects: models.Manager["LogKey"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.vkey


class Leaf(_Written):
    """The place of an event in the log, from 0 on, and the RFC 6962 hash of its leaf."""

    seq = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, on_delete=models.PROTECT, related_name="place")
    hash = models.BinaryField()

    objects: models.Manager["Leaf"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.seq)


class Term(models.Model):
    """A term that an event is found by (`audit.blind_index`)."""

    pk = models.CompositePrimaryKey("term", "event_number")
    term = models.BigIntegerField()
    event_number = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.term} {self.event_number}"


class IndexMark(models.Model):
    """Up to which place of the log events are found by terms."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    next_seq = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="index_mark_is_one_row"),
        ]

    def __str__(self) -> str:
        return str(self.next_seq)


class Tile(_Written):
    """256 hashes of a row of the tree, complete and so final (C2SP tlog-tiles, height 8).

    `root`: the hash of the row above that they make together, so that a row which is not complete
    yet is read at once.
    """

    level = models.PositiveSmallIntegerField()
    index = models.BigIntegerField()
    hashes = models.BinaryField()
    root = models.BinaryField()

    objects: models.Manager["Tile"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["level", "index"], name="tile_once"),
        ]

    def __str__(self) -> str:
        return f"{self.level}/{self.index}"


class Checkpoint(_Written):
    """The log of this size, signed: `note` is what is given to the outside."""

    size = models.BigIntegerField(primary_key=True)
    root = models.BinaryField()
    note = models.TextField()
    signed_at = models.DateTimeField()
    key = models.ForeignKey(LogKey, on_delete=models.PROTECT, related_name="+")

    objects: models.Manager["Checkpoint"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-size"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"checkpoint of {self.size:,} events"


class Cosignature(_Written):
    """A witness's line under a checkpoint: it has seen the log grow to it, and only grow."""

    checkpoint = models.ForeignKey(
        Checkpoint, on_delete=models.PROTECT, related_name="cosignatures"
    )
    witness = models.CharField(max_length=200)
    line = models.TextField()
    witnessed_at = models.DateTimeField()

    objects: models.Manager["Cosignature"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["checkpoint", "witness"], name="cosigned_once"),
        ]

    def __str__(self) -> str:
        return f"{self.witness} on {self.checkpoint_id}"


class WitnessState(models.Model):
    """The state of a witness: what it signed last, or its fault and since when."""

    name = models.CharField(max_length=200, unique=True)
    size = models.BigIntegerField(default=0)
    signed_at = models.DateTimeField(null=True)
    trouble = models.CharField(max_length=32, blank=True)
    since = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]
        verbose_name, verbose_name_plural = "witness", "witnesses"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name


class SinkState(models.Model):
    """The position of a sink in the log, or its fault and since when."""

    name = models.CharField(max_length=200, unique=True)
    next_seq = models.BigIntegerField(default=0)
    # A batch that was begun and not noted as delivered comes again as the same one.
    end_seq = models.BigIntegerField(null=True)
    # Who delivers now: nobody else does until then.
    leased_until = models.DateTimeField(null=True)
    lease = models.UUIDField(null=True)
    delivered_at = models.DateTimeField(null=True)
    trouble = models.CharField(max_length=32, blank=True)
    since = models.DateTimeField(null=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "sink"
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.name


class Quarantine(_Written):
    """An event that no process of the portal wrote: it does not come into the log."""

    event = models.OneToOneField(Event, on_delete=models.PROTECT, related_name="quarantine")
    reason = models.CharField(max_length=200)
    found_at = models.DateTimeField()

    objects: models.Manager["Quarantine"] = AppendOnlyQuerySet.as_manager()

    class Meta:
        ordering = ["-found_at"]
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"event {self.event_id}: {self.reason}"


class SealerMark(models.Model):
    """Up to which event everything is sealed, so that each look need not read the whole log.

    PostgreSQL gives out identifiers before their transactions commit, so an event may appear below
    one that is sealed. `low` moves to `candidate` only once every transaction that could hold an
    identifier up to it is over: those that had begun by `horizon`, which is taken a while later.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    low = models.BigIntegerField(default=0)
    candidate = models.BigIntegerField(default=0)
    seen_at = models.DateTimeField(null=True)
    horizon = models.BigIntegerField(null=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(condition=models.Q(id=1), name="sealer_mark_is_one_row"),
        ]

    def __str__(self) -> str:
        return str(self.low)
