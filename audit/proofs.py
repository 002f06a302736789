"""Proofs from the stored log, for whoever does not trust it."""

from dataclasses import dataclass

from audit.errors import LeafInvalid, NotSealed
from audit.events import LOG_KEY_ROTATED
from audit.leaf_encoding import parsed_leaf
from audit.merkle import consistency_proof, inclusion_proof, range_proof
from audit.models import Checkpoint, Event, Leaf, LogKey
from audit.signed_notes import Handover, NoteInvalid, Proof, Verifier, verify_checkpoint
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
    """Return the proof that the event is in the log, as a C2SP tlog-proof with the event's leaf.

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


@dataclass(frozen=True)
class KeyHandover:
    """A hand-over from one key of the log to the next.

    `event` holds the old key's statement that names the new one; its `place` is below the size of
    `introduced`, the first checkpoint of the new key, which the old one has signed too.
    """

    event: Event
    place: int
    introduced: Checkpoint


def stated_handover(previous: Verifier, key: Verifier) -> Event | None:
    """The first event with a statement of the previous key that this one follows it, sealed or not.

    The first one: the statement is public, and a copy of it that somebody records later says
    nothing.
    """
    announced = Event.objects.filter(type=LOG_KEY_ROTATED.name, quarantine__isnull=True)
    for event in announced.order_by("id"):
        try:
            details = parsed_leaf(event.leaf).get("details", {})
            Handover.from_details(details).ensure_signed(previous, key)
        except (LeafInvalid, NoteInvalid):
            continue
        return event
    return None


def handover_of(previous: LogKey, key: LogKey) -> KeyHandover:
    """Raises NoteInvalid if the previous key did not hand over to this one, in this log."""
    old, new = Verifier.from_text(previous.vkey), Verifier.from_text(key.vkey)
    introduced = Checkpoint.objects.filter(key=key).order_by("size").first()
    event = stated_handover(old, new)
    place = Leaf.objects.filter(event=event).values_list("seq", flat=True).first()
    if introduced is None or event is None or place is None or place >= introduced.size:
        message = "no statement of it names this one in what both have signed."
        raise NoteInvalid(message)
    for verifier in (old, new):
        verify_checkpoint(introduced.note, verifier)
    return KeyHandover(event, place, introduced)
