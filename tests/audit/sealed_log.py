"""A log with events in it, and ways to look at what was sealed."""

from uuid import UUID

from django.db import transaction

from agents import events as agent_events
from audit.merkle import leaf_hash, root_of
from audit.models import Checkpoint, Event, Leaf, LogKey, Quarantine
from audit.services.recorder import Subject, record
from audit.services.sealer import seal
from audit.signed_notes import Verifier, verify_checkpoint
from common.actors import Actor

ROSE = Actor("human", "1", "rose")
THING = Subject("tests.thing", "1", "thing 1")


def said(*reasons: str, run: UUID | None = None) -> None:
    with transaction.atomic():
        for reason in reasons:
            record(
                agent_events.AGENT_SUSPENDED, actor=ROSE, subject=THING, run_id=run, reason=reason
            )


def many(number: int, *, of: str = "x") -> None:
    said(*(f"{of} {n}" for n in range(number)))


def sealed_all(*, limit: int = 20_000) -> int:
    total = 0
    while found := seal(limit=limit):
        total += found
    return total


def ensure_sound() -> None:
    """Every event is in the log once, in the places 0 to n, and what is signed is its root."""
    kept_out = Quarantine.objects.values("event_id")
    unsealed = Event.objects.exclude(pk__in=kept_out).exclude(place__isnull=False)
    assert not unsealed.exists(), f"{unsealed.count()} events are not sealed"
    leaves = list(Leaf.objects.order_by("seq").values_list("seq", "hash", "event__leaf"))
    assert [seq for seq, _, _ in leaves] == list(range(len(leaves)))
    assert all(bytes(hashed) == leaf_hash(text.encode()) for _, hashed, text in leaves)
    hashes = [bytes(hashed) for _, hashed, _ in leaves]
    keys = {key.pk: Verifier.from_text(key.vkey) for key in LogKey.objects.all()}
    for one in Checkpoint.objects.all():
        said = verify_checkpoint(one.note, keys[one.key_id])
        assert (said.size, said.root) == (one.size, bytes(one.root))
        assert said.root == root_of(hashes[: one.size])
