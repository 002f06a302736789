"""The sealer: puts events in their order, hashes them into the tree and signs what there is.

One at a time (an advisory lock; on SQLite every transaction is alone), and nothing is signed that
is not the continuation of what was signed last. The signing key is in this process alone.
"""

import hmac
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

from django.conf import settings
from django.db import connection, transaction

from audit import events
from audit.errors import LogInconsistent, LogSigningKeyMissing, SealingKeyUsedBefore
from audit.leaf_encoding import mac_of_bytes
from audit.merkle import ProofInvalid, check_consistency, consistency_proof, leaf_hash, root
from audit.models import Checkpoint, Event, Leaf, LogKey, Quarantine, SealerMark, Tile
from audit.proofs import stated_handover
from audit.services.access_log import LOG
from audit.services.recorder import mac_keys, record
from audit.signed_notes import Handover, Note, Signer
from audit.signed_notes import LogCheckpoint as Statement
from audit.tree import WIDTH, StoredTree, tile_of
from common.actors import SYSTEM
from common.clock import database_now
from common.encryption import decoded_key

# Any fixed 63-bit number; this one names the sealer's lock in pg_locks.
LOCK = 0x6368616E7365616C
BATCH = 20_000
SETTLE = timedelta(seconds=5)
HEARTBEAT_EVERY = timedelta(hours=1)


# Identifier, leaf, its authentication code and the key's name: a tuple each, as they are many.
_Unsealed = tuple[int, str, bytes, str]


class _Seen(NamedTuple):
    """The state of the log before unsealed events were looked for.

    `top`: the highest identifier that was visible. `oldest`: the oldest transaction that was not
    over; `following`: the number of the next one.
    """

    top: int
    oldest: int
    following: int


def seal(*, limit: int = BATCH) -> int:
    """Seal what is not sealed yet; how many events. 0 also if another sealer is at it.

    Raises SealingKeyMissing, and LogInconsistent if the stored log is not the one that was signed.
    """
    signing = signers()
    with transaction.atomic():
        if not _alone():
            return 0
        last = Checkpoint.objects.order_by("-size").first()
        size = last.size if last is not None else 0
        if size != _leaves_count():
            message = f"There is not one leaf for each of the {size} events that were signed."
            raise LogInconsistent(message)
        _announce(last, signing)
        mark, seen = SealerMark.objects.get_or_create(pk=1)[0], _seen()
        found = _following(mark.low, limit) or _unsealed(mark.low, limit)
        number = _append(size, found)
        if number:
            _sign(last, size + number, signing)
        if number < limit:
            _advance(mark, seen)
        _beat(size + number)
    return number


def signers() -> Sequence[Signer]:
    """The key in use first; then one that is being followed by it. Raises SealingKeyMissing."""
    if not settings.LOG_SIGNING_KEY:
        raise LogSigningKeyMissing
    seeds = [decoded_key(part.strip()) for part in settings.LOG_SIGNING_KEY.split(",")]
    return [Signer.from_seed(settings.LOG_ORIGIN, seed) for seed in seeds]


def _alone() -> bool:
    if connection.vendor != "postgresql":
        return True
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
        return bool(cursor.fetchone()[0])


def _leaves_count() -> int:
    last = Leaf.objects.order_by("-seq").values_list("seq", flat=True).first()
    return 0 if last is None else last + 1


def _following(low: int, limit: int) -> list[_Unsealed]:
    """A whole batch after the event that was sealed last, if so many wait: then what was committed
    late, with a lower identifier, waits until they are sealed, and is not looked for each time.
    """
    last = Leaf.objects.order_by("-seq").values_list("event_id", flat=True).first()
    if last is None or last <= low:
        return []
    found = _unsealed(last, limit)
    return found if len(found) == limit else []


def _unsealed(low: int, limit: int) -> list[_Unsealed]:
    """In the order of their identifiers; those that were kept out are not looked at again."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, leaf, mac, mac_key FROM audit_event AS e WHERE id > %s "
            "AND NOT EXISTS (SELECT 1 FROM audit_leaf AS l WHERE l.event_id = e.id) "
            "AND NOT EXISTS (SELECT 1 FROM audit_quarantine AS q WHERE q.event_id = e.id) "
            "ORDER BY id LIMIT %s",
            [low, limit],
        )
        rows: list[_Unsealed] = cursor.fetchall()
        return rows


def _append(size: int, found: Sequence[_Unsealed]) -> int:
    """Put in the log what a process of the portal wrote, and keep the rest out; how many."""
    hashes: list[bytes] = []
    refused: list[int] = []
    _write_leaves(size, _accepted(found, hashes, refused))
    for event_id in refused:
        _keep_out(event_id)
    if hashes:
        _complete_tiles(size, hashes)
    return len(hashes)


def _accepted(
    found: Sequence[_Unsealed], hashes: list[bytes], refused: list[int]
) -> Iterator[tuple[int, bytes]]:
    """Identifier and leaf hash, as they are asked for: PostgreSQL writes some while others are
    hashed.
    """
    keys = mac_keys()
    for event_id, leaf, mac, key_id in found:
        key, text = keys.get(key_id), leaf.encode()
        if key is None or not hmac.compare_digest(mac_of_bytes(text, key), bytes(mac)):
            refused.append(event_id)
            continue
        hashed = leaf_hash(text)
        hashes.append(hashed)
        yield event_id, hashed


def _keep_out(event_id: int) -> None:
    reason = "Its authentication code is not one of this portal's keys."
    Quarantine.objects.create(event_id=event_id, reason=reason, found_at=database_now())
    record(events.EVENT_QUARANTINED, actor=SYSTEM, subject=LOG, event=event_id)


def _write_leaves(size: int, sealed: Iterator[tuple[int, bytes]]) -> None:
    if connection.vendor == "postgresql":
        with (
            connection.cursor() as cursor,
            cursor.copy("COPY audit_leaf (seq, event_id, hash) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            copy.set_types(["int8", "int8", "bytea"])
            for seq, (event_id, hashed) in enumerate(sealed, start=size):
                copy.write_row((seq, event_id, hashed))
    else:
        Leaf.objects.bulk_create(
            [Leaf(seq=n, event_id=pk, hash=h) for n, (pk, h) in enumerate(sealed, start=size)],
            batch_size=300,
        )


def _complete_tiles(size: int, hashes: Sequence[bytes]) -> None:
    """Write each tile that has become full, from the leaves upwards."""
    first = size - size % WIDTH
    begun = Leaf.objects.filter(seq__gte=first, seq__lt=size).order_by("seq")
    row = [bytes(one) for one in begun.values_list("hash", flat=True)] + list(hashes)
    tiles = [
        tile_of(0, (first + at) // WIDTH, row[at : at + WIDTH])
        for at in range(0, len(row) - WIDTH + 1, WIDTH)
    ]
    Tile.objects.bulk_create(tiles, batch_size=200)
    tree, level, below = StoredTree(size + len(hashes)), 1, WIDTH * WIDTH
    while tree.size // below > size // below:
        for index in range(size // below, tree.size // below):
            tile_of(level, index, tree.tile(level, index)).save(force_insert=True)
        level, below = level + 1, below * WIDTH


def _sign(last: Checkpoint | None, size: int, signers: Sequence[Signer]) -> None:
    tree = StoredTree(size)
    found = root(tree, size)
    if last is not None:
        _ensure_continues(tree, last, found)
    statement = Statement(signers[0].name, size, found)
    key, signing = _key(signers, last)
    note = Note(statement.text, tuple(one.sign(statement.text) for one in signing))
    Checkpoint.objects.create(
        size=size, root=found, note=str(note), signed_at=database_now(), key=key
    )


def _ensure_continues(tree: StoredTree, last: Checkpoint, found: bytes) -> None:
    proof = consistency_proof(tree, last.size, tree.size)
    try:
        check_consistency(last.size, tree.size, bytes(last.root), found, proof=proof)
    except ProofInvalid as error:
        message = f"The log is not the continuation of what was signed at {last.size} events."
        raise LogInconsistent(message) from error


def _announce(last: Checkpoint | None, signers: Sequence[Signer]) -> None:
    """Record, before the first checkpoint of a new key, the old key's statement that names it.

    Only this process can sign it: an event that another one writes hands nothing over.
    """
    before = LogKey.objects.order_by("-pk").first()
    vkey = str(signers[0].verifier)
    if last is None or before is None or before.vkey == vkey:
        return
    if before.vkey not in [str(one.verifier) for one in signers[1:2]]:
        message = "The key that signed last must be given after the new one, to hand over."
        raise LogSigningKeyMissing(message)
    if stated_handover(signers[1].verifier, signers[0].verifier) is None:
        statement = Handover(signers[0].name, before.vkey, vkey, last.size, bytes(last.root))
        record(events.LOG_KEY_ROTATED, actor=SYSTEM, subject=LOG, **statement.details(signers[1]))


def _key(signers: Sequence[Signer], last: Checkpoint | None) -> tuple[LogKey, Sequence[Signer]]:
    """The row of the key that signs, and who signs with it.

    A new key begins with the checkpoint that covers the statement of the one before it; both sign
    that checkpoint, so that everybody who trusts the old key learns the new one from the log.
    """
    new = signers[0].verifier
    before = LogKey.objects.order_by("-pk").first()
    if before is not None and before.vkey == str(new):
        return before, signers[:1]
    if LogKey.objects.filter(vkey=str(new)).exists():
        raise SealingKeyUsedBefore
    if before is not None:
        announced = stated_handover(signers[1].verifier, new)
        if not Leaf.objects.filter(event=announced).exists():
            return before, signers[1:2]
    now, from_size = database_now(), last.size if last is not None else 0
    key = LogKey.objects.create(vkey=str(new), from_size=from_size, first_used_at=now)
    if before is None:
        record(events.LOG_KEY_ROTATED, actor=SYSTEM, subject=LOG, key=str(new), previous="")
    return key, signers[:2] if before is not None else signers[:1]


def _seen() -> _Seen:
    top = Event.objects.order_by("-id").values_list("id", flat=True).first() or 0
    if connection.vendor != "postgresql":
        return _Seen(top, 0, 0)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint "
            "FROM pg_current_snapshot() AS s"
        )
        return _Seen(top, *cursor.fetchone())


def _advance(mark: SealerMark, seen: _Seen) -> None:
    if connection.vendor != "postgresql":
        SealerMark.objects.filter(pk=mark.pk).update(low=seen.top)
        return
    now = database_now()
    if mark.seen_at is None:
        mark.candidate, mark.seen_at = seen.top, now
    elif mark.horizon is None and now - mark.seen_at > SETTLE:
        mark.horizon = seen.following
    elif mark.horizon is not None and seen.oldest >= mark.horizon:
        mark.low, mark.candidate, mark.seen_at, mark.horizon = mark.candidate, seen.top, now, None
    else:
        return
    mark.save()


def _beat(size: int) -> None:
    """An event now and then, so that silence is not mistaken for peace."""
    since = database_now() - HEARTBEAT_EVERY
    beats = Event.objects.filter(type=events.HEARTBEAT.name, recorded_at__gte=since)
    if size and not beats.exists():
        record(events.HEARTBEAT, actor=SYSTEM, subject=LOG, size=size)
