"""A log whose key was replaced in the documented way, as an outside verifier is shown it."""

from dataclasses import dataclass
from typing import Any

from audit.leaf_encoding import parsed_leaf
from audit.merkle import consistency_proof, inclusion_proof
from audit.models import Checkpoint, LogKey
from audit.proofs import handover_of
from audit.signed_notes import Handover, Note, Signature
from audit.tree import StoredTree
from tests.audit.test_forged_evidence import rotated


@dataclass(frozen=True)
class Handed:
    """The statement of the old key as a note of its own, the checkpoint that both keys signed, and
    proofs that the event with the statement is in it and that the last checkpoint continues it.
    """

    old: str
    new: str
    statement: str
    introduced: Checkpoint
    place: int
    leaf: str
    last: Checkpoint

    def inclusion(self) -> list[bytes]:
        size = self.introduced.size
        return list(inclusion_proof(StoredTree(size), self.place, size))

    def continuation(self) -> list[bytes]:
        size = self.last.size
        return list(consistency_proof(StoredTree(size), self.introduced.size, size))


def handed_over(settings: Any) -> Handed:
    old, new = rotated(settings)
    first, second = LogKey.objects.order_by("pk")
    found = handover_of(first, second)
    statement = Handover.from_details(parsed_leaf(found.event.leaf)["details"])
    signed = statement.signature
    note = Note(statement.text, (Signature(statement.origin, signed[:4], signed[4:]),))
    last = Checkpoint.objects.order_by("-size")[0]
    return Handed(old, new, str(note), found.introduced, found.place, found.event.leaf, last)
