"""The proof of an event, checked in place: what an outsider would do with its receipt."""

from dataclasses import dataclass, field
from typing import Any

from audit import proofs
from audit.errors import NotSealed
from audit.merkle import ProofInvalid, check_inclusion, leaf_hash
from audit.models import Checkpoint, Event, LogKey, Quarantine
from audit.services.witness_client import verifiers
from audit.signed_notes import NoteInvalid, Verifier, parse_note, verify_checkpoint


@dataclass(frozen=True)
class ProofStatus:
    """`state`: holds, waits, broken or kept_out; `steps`: each with what it was hashed with."""

    state: str
    says: str
    seq: int | None = None
    size: int | None = None
    root: str = ""
    leaf: str = ""
    steps: list[str] = field(default_factory=list)
    key: str = ""
    witnesses: list[str] = field(default_factory=list)


def shield_of(event: Event) -> ProofStatus:
    """The receipt of the event, made and checked now."""
    if Quarantine.objects.filter(event=event).exists():
        return ProofStatus(
            "kept_out", "No process of the portal wrote this: it is kept out of the log."
        )
    try:
        receipt = proofs.receipt(event)
    except NotSealed:
        return ProofStatus("waits", "It is not in the signed log yet. That takes a second or so.")
    hashed = leaf_hash(event.leaf.encode())
    note = parse_note(receipt.checkpoint)
    size = int(note.text.split("\n")[1])
    key = _key(size)
    shown: dict[str, Any] = {
        "seq": receipt.index,
        "size": size,
        "leaf": hashed.hex(),
        "steps": [one.hex() for one in receipt.path],
        "key": key,
    }
    try:
        said = verify_checkpoint(receipt.checkpoint, Verifier.from_text(key))
        check_inclusion(hashed, receipt.index, said.size, said.root, proof=receipt.path)
    except (NoteInvalid, ProofInvalid) as error:
        return ProofStatus("broken", f"The proof does not hold: {error}", **shown)
    names = [one.name for one in verifiers() if one.has_signed(note)]
    says = f"Event {receipt.index:,} of the {said.size:,} that were signed."
    return ProofStatus("holds", says, root=said.root.hex(), witnesses=names, **shown)


def _key(size: int) -> str:
    signed = Checkpoint.objects.filter(size=size).values_list("key__vkey", flat=True).first()
    return signed or LogKey.objects.order_by("-pk").values_list("vkey", flat=True)[0]
