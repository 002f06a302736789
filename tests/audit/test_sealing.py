"""The sealer: everything once, in order, signed, and only as a continuation."""

import base64
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from audit import merkle
from audit.errors import LogInconsistent, LogSigningKeyMissing
from audit.events import HEARTBEAT
from audit.leaf_encoding import parsed_leaf
from audit.models import Checkpoint, Event, Leaf, LogKey, Quarantine, SealerMark, Tile
from audit.services.sealer import seal
from audit.signed_notes import NoteInvalid, Verifier, parse_note, verify_checkpoint
from audit.tree import StoredTree
from common import triggers
from common.ids import uuid7
from tests.audit.sealed_log import ensure_sound, many, said, sealed_all

pytestmark = pytest.mark.django_db


def last() -> Checkpoint:
    return Checkpoint.objects.order_by("-size")[0]


def test_what_was_recorded_is_sealed_once() -> None:
    said("a", "b")
    assert seal() == 2
    assert last().size == 2
    assert sealed_all() == 2  # the key's first use and the first heartbeat are events too
    assert seal() == 0
    ensure_sound()


def test_an_empty_log_is_not_signed() -> None:
    assert seal() == 0
    assert not Checkpoint.objects.exists()
    assert not Event.objects.exists()


@pytest.mark.parametrize("number", [1, 255, 256, 257, 700])
def test_the_stored_tree_is_the_tree(number: int) -> None:
    many(number)
    sealed_all(limit=100)
    size = last().size
    tree = StoredTree(size)
    assert merkle.root(tree, size) == bytes(last().root)
    assert Tile.objects.filter(level=0).count() == size // 256
    ensure_sound()
    for index in {0, size // 2, size - 1}:
        leaf = bytes(Leaf.objects.get(seq=index).hash)
        proof = merkle.inclusion_proof(tree, index, size)
        merkle.check_inclusion(leaf, index, size, bytes(last().root), proof=proof)
    for old in Checkpoint.objects.exclude(size=size):
        proof = merkle.consistency_proof(tree, old.size, size)
        roots = bytes(old.root), bytes(last().root)
        merkle.check_consistency(old.size, size, *roots, proof=proof)


def test_tiles_of_the_second_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tiles of four, so that there are three rows of them."""
    monkeypatch.setattr("audit.tree.HEIGHT", 2)
    monkeypatch.setattr("audit.tree.WIDTH", 4)
    monkeypatch.setattr("audit.services.sealer.WIDTH", 4)
    for number in (3, 14, 40, 8, 70):
        many(number)
        sealed_all()
    ensure_sound()
    levels = list(Tile.objects.order_by("level").values_list("level", flat=True).distinct())
    assert levels == [0, 1, 2]
    size = last().size
    assert merkle.root(StoredTree(size), size) == bytes(last().root)


def test_without_its_key_nothing_is_sealed(settings: Any) -> None:
    settings.LOG_SIGNING_KEY = ""
    said("a")
    with pytest.raises(LogSigningKeyMissing):
        seal()
    assert not Leaf.objects.exists()


def test_a_key_hands_over_to_the_next(settings: Any) -> None:
    said("a")
    sealed_all()
    old = settings.LOG_SIGNING_KEY
    new = base64.b64encode(b"n" * 32).decode()
    settings.LOG_SIGNING_KEY = new
    said("b")
    with pytest.raises(LogSigningKeyMissing):
        seal()
    settings.LOG_SIGNING_KEY = f"{new},{old}"
    sealed_all()
    first, second = (Verifier.from_text(key.vkey) for key in LogKey.objects.order_by("pk"))
    crossing = Checkpoint.objects.filter(key__vkey=str(second)).order_by("size")[0]
    assert len(parse_note(crossing.note).signatures) == 2
    assert verify_checkpoint(crossing.note, first) == verify_checkpoint(crossing.note, second)
    settings.LOG_SIGNING_KEY = new
    said("c")
    sealed_all()
    with pytest.raises(NoteInvalid):
        verify_checkpoint(last().note, first)
    changed = Event.objects.filter(type="audit.key_rotated").latest("id")
    named = {name: changed.details[name] for name in ("key", "previous")}
    assert named == {"key": str(second), "previous": str(first)}
    ensure_sound()


def unprotected(*statements: tuple[str, list[Any]], tables: tuple[str, ...]) -> None:
    """What whoever owns the database can do."""
    for table in tables:
        triggers.run(connection, triggers.removal(table))
    with connection.cursor() as cursor:
        for statement, parameters in statements:
            cursor.execute(statement, parameters)


def test_a_log_that_was_changed_is_not_signed_again() -> None:
    many(10)
    sealed_all()
    before = Checkpoint.objects.count()
    unprotected(
        ("UPDATE audit_leaf SET hash = %s WHERE seq = 3", [b"x" * 32]), tables=("audit_leaf",)
    )
    said("more")
    with pytest.raises(LogInconsistent):
        seal()
    assert Checkpoint.objects.count() == before


def test_a_log_that_lost_its_tail_is_not_signed_again() -> None:
    many(10)
    sealed_all()
    unprotected(("DELETE FROM audit_leaf WHERE seq > 8", []), tables=("audit_leaf",))
    with pytest.raises(LogInconsistent):
        seal()


def test_an_event_that_no_process_of_ours_wrote_is_kept_out() -> None:
    said("a")
    forged = Event.objects.get()
    values = {field.attname: getattr(forged, field.attname) for field in Event._meta.fields}
    text = forged.leaf.replace(str(forged.uid), str(uid := uuid7()))
    Event.objects.bulk_create(
        [Event(**values | {"id": None, "uid": uid, "leaf": text, "mac": b"m" * 32})]
    )
    Event.objects.bulk_create(
        [Event(**values | {"id": None, "uid": uuid7(), "mac_key": "ffffffff"})]
    )
    sealed_all()
    assert Quarantine.objects.count() == 2
    assert Event.objects.filter(type="audit.event_quarantined").count() == 2
    assert not Leaf.objects.filter(event__quarantine__isnull=False).exists()
    assert seal() == 0
    ensure_sound()


def test_silence_is_broken_every_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    said("a")
    sealed_all()
    beats = Event.objects.filter(type=HEARTBEAT.name)
    assert [beat.details for beat in beats] == [{"size": 1}]
    later = timezone.now() + timedelta(minutes=61)
    monkeypatch.setattr("audit.services.sealer.database_now", lambda: later)
    sealed_all()
    assert beats.all().count() == 2


def test_the_key_is_in_no_event_and_no_table(settings: Any) -> None:
    said("a")
    sealed_all()
    seed = base64.b64decode(settings.LOG_SIGNING_KEY)
    stored = [*LogKey.objects.values(), *Checkpoint.objects.values(), *Event.objects.values()]
    for form in (settings.LOG_SIGNING_KEY, seed.hex(), repr(seed)):
        assert form not in repr(stored)


def test_a_leaf_tells_its_writer_and_its_number() -> None:
    said("a", "b")
    first, second = (parsed_leaf(event.leaf)["w"] for event in Event.objects.order_by("id"))
    assert (first[1], second[1]) == (1, 2)


@pytest.mark.postgresql
def test_what_commits_late_is_sealed_all_the_same() -> None:
    """The mark moves only when nothing can appear below it any more."""
    said("a")
    sealed_all()
    with transaction.atomic():
        SealerMark.objects.update(seen_at=timezone.now() - timedelta(minutes=1))
        seal()
    mark = SealerMark.objects.get()
    assert mark.horizon is not None
    assert mark.low == 0
