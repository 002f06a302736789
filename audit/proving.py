"""Proofs from the stored log, for whoever does not trust it."""

from audit.errors import NotSealed
from audit.merkle import consistency_proof, inclusion_proof, range_proof
from audit.models import Checkpoint, Event, Leaf
from audit.notes import Proof
from audit.tree import StoredTree


def latest(*, at_least: int = 1) -> Checkpoint:
    """The last checkpoint; of those that witnesses have signed too, if one is large enough.

    Raises NotSealed.
    """
    found = Checkpoint.objects.filter(size__gte=at_least).order_by("-size")
    checkpoint = found.filter(cosignatures__isnull=False).first() or found.first()
    if checkpoint is None:
        raise NotSealed
    return checkpoint


def as_text(checkpoint: Checkpoint) -> str:
    """The checkpoint as a signed note, with what witnesses have signed."""
    lines = checkpoint.cosignatures.order_by("witness").values_list("line", flat=True)
    return checkpoint.note + "".join(lines)


def receipt(event: Event) -> Proof:
    """That the event is in the log, as a C2SP tlog-proof which carries the event's leaf.

    Raises NotSealed for one that is not sealed yet, or was kept out.
    """
    place = Leaf.objects.filter(event=event).values_list("seq", flat=True).first()
    if place is None:
        raise NotSealed
    checkpoint = latest(at_least=place + 1)
    path = inclusion_proof(StoredTree(checkpoint.size), place, checkpoint.size)
    return Proof(place, tuple(path), as_text(checkpoint), event.leaf.encode())


def range_of(start: int, end: int, size: int) -> list[bytes]:
    """See `audit.merkle.range_proof`; places `start` to `end` of the log of this size."""
    return range_proof(StoredTree(size), start, end, size)


def continuation(old: int, size: int) -> list[bytes]:
    """See `audit.merkle.consistency_proof`."""
    return consistency_proof(StoredTree(size), old, size)
