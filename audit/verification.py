"""Everything the log says, checked against everything else it says.

Nothing here trusts the database: leaves against the tree, the tree against what was signed, every
column and every value against its leaf, and what is numbered against its numbers. What only an
outsider can know, that the log is not another one altogether, needs a checkpoint or a key that was
kept elsewhere (`checkpoints`, `trusted`).
"""

import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Exists, OuterRef

from audit.errors import LeafInvalid
from audit.events import ERASING
from audit.leaf_encoding import decode_disclosure, digest_of, mac_of, moment, parsed_leaf
from audit.merkle import EMPTY_ROOT, Growing, leaf_hash, root_of
from audit.models import Checkpoint, Event, EventPayload, Leaf, LogKey, Quarantine, SealerMark, Tile
from audit.proofs import handover_of
from audit.services.recorder import mac_keys
from audit.signed_notes import (
    NoteInvalid,
    Verifier,
    parse_note,
    parsed_checkpoint,
    verify_checkpoint,
)
from audit.tree import WIDTH, split_hashes

CHUNK = 2_000
MAX_PROBLEMS = 200
_COLUMNS = (
    "place__seq", "uid", "recorded_at", "type", "actor_kind", "actor_id", "subject_kind",
    "subject_id", "run_id", "request_id", "writer", "writer_number", "leaf", "mac", "mac_key",
    "payload__pk", "payload__actor_label", "payload__subject_label", "payload__disclosures",
    "payload__erased",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class VerificationProblem:
    """`place`: the number of the event in the log, where there is one."""

    code: str
    sentence: str
    place: int | None = None

    def __str__(self) -> str:
        where = "" if self.place is None else f" (event {self.place:,})"
        return f"{self.code}: {self.sentence}{where}"


@dataclass
class Report:
    """`problems` are the first of them; `found` is how many there are."""

    size: int = 0
    root: bytes = EMPTY_ROOT
    checkpoints: int = 0
    values: int = 0
    erased: int = 0
    waiting: int = 0
    keys: list[str] = field(default_factory=list)
    problems: list[VerificationProblem] = field(default_factory=list)
    found: int = 0

    @property
    def is_sound(self) -> bool:
        return self.found == 0

    def add(self, code: str, sentence: str, place: int | None = None) -> None:
        self.found += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(VerificationProblem(code, sentence, place))


def verify(
    *,
    trusted: Sequence[Verifier] = (),
    checkpoints: Sequence[str] = (),
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Report:
    """Check the whole log.

    `trusted`: keys of the log from outside the database. `checkpoints`: checkpoints that
    somebody else kept, as text. `progress` is told how many events of how many are done.
    """
    report = Report()
    verifiers = _verified_keys(report, trusted)
    signed = _Signed(report, verifiers, checkpoints)
    walk = _Walk(report, signed)
    last = Leaf.objects.order_by("-seq").values_list("seq", flat=True).first()
    total = 0 if last is None else last + 1
    for start in range(0, total, CHUNK):
        walk.chunk(start, min(start + CHUNK, total))
        progress(min(start + CHUNK, total), total)
    walk.end()
    signed.end(walk.tree)
    _outside_the_log(report)
    return report


def _verified_keys(report: Report, trusted: Sequence[Verifier]) -> dict[int, Verifier]:
    """The keys of the log by their rows, each handed over by the one before it."""
    found: dict[int, Verifier] = {}
    before: LogKey | None = None
    for row in LogKey.objects.order_by("pk"):
        try:
            found[row.pk] = Verifier.from_text(row.vkey)
        except NoteInvalid as error:
            report.add("key", f"A key of the log is not one: {error}")
            continue
        report.keys.append(row.vkey)
        if before is not None:
            _ensure_handed_over(report, before, row)
        before = row
    if trusted and found and not set(trusted) & set(found.values()):
        report.add("key", "The log is not signed with a key that is trusted.")
    return found


def _ensure_handed_over(report: Report, before: LogKey, key: LogKey) -> None:
    """The event itself, and the checkpoint that covers it, are compared with the tree later."""
    try:
        handover_of(before, key)
    except NoteInvalid as error:
        report.add("key", f"The log changed its key, and the one before did not say so: {error}")


class _Signed:
    """Signed statements about the log, by the size at which the tree must have that root."""

    def __init__(
        self, report: Report, verifiers: dict[int, Verifier], checkpoints: Sequence[str]
    ) -> None:
        self._report, self._verifiers = report, verifiers
        self._stored = self._checkpoints()
        self._next: Checkpoint | None = next(self._stored, None)
        self._kept = sorted(self._from_outside(checkpoints))

    def _checkpoints(self) -> Iterator[Checkpoint]:
        return Checkpoint.objects.order_by("size").iterator(chunk_size=CHUNK)

    def _from_outside(self, checkpoints: Sequence[str]) -> Iterator[tuple[int, bytes]]:
        for text in checkpoints:
            try:
                note = parse_note(text)
                statement = parsed_checkpoint(note)
                by = [one for one in self._verifiers.values() if one.name == statement.origin]
                self._ensure_signed_by_one(note, by)
            except NoteInvalid as error:
                self._report.add(
                    "checkpoint", f"A checkpoint from outside is not of this log: {error}"
                )
            else:
                yield statement.size, statement.root

    def _ensure_signed_by_one(self, note: Any, verifiers: Sequence[Verifier]) -> None:
        for one in verifiers:
            if any(s.key_hash == one.key_hash for s in note.signatures):
                one.ensure_signed(note)
                return
        message = "no key of the log has signed it."
        raise NoteInvalid(message)

    def reached(self, tree: Growing) -> None:
        """The tree has grown by a leaf."""
        while self._next is not None and self._next.size <= tree.size:
            if self._next.size == tree.size:
                self._check(self._next, tree)
            else:
                self._report.add("checkpoint", "A checkpoint speaks of an empty log.")
            self._next = next(self._stored, None)
        while self._kept and self._kept[0][0] <= tree.size:
            size, root = self._kept.pop(0)
            if size == tree.size and root != tree.root():
                message = f"The first {size:,} events are not those that were shown outside."
                self._report.add("checkpoint", message)

    def _check(self, row: Checkpoint, tree: Growing) -> None:
        self._report.checkpoints += 1
        root = tree.root()
        try:
            statement = verify_checkpoint(row.note, self._verifiers[row.key_id])
        except KeyError:
            self._report.add("checkpoint", f"The key of the checkpoint of {row.size:,} is unknown.")
            return
        except NoteInvalid as error:
            self._report.add("checkpoint", f"The checkpoint of {row.size:,} events: {error}")
            return
        if (statement.size, statement.root, bytes(row.root)) != (row.size, root, root):
            message = f"The first {row.size:,} events are not those that were signed."
            self._report.add("checkpoint", message)

    def end(self, tree: Growing) -> None:
        report = self._report
        if self._next is not None:
            report.add("shorter", f"The log ends at {tree.size:,}; more was signed.")
        for size, _ in self._kept:
            report.add("shorter", f"The log ends at {tree.size:,}; {size:,} were shown outside.")
        last = Checkpoint.objects.order_by("-size").values_list("size", flat=True).first() or 0
        if tree.size > last:
            report.add("unsigned", f"{tree.size - last:,} events at the end are not signed.")
        report.size, report.root = tree.size, tree.root()


class _Walk:
    """Every leaf in its order, with its event and what lies beside it."""

    def __init__(self, report: Report, signed: _Signed) -> None:
        self.tree = Growing()
        self._report, self._signed = report, signed
        self._keys = mac_keys()
        self._writers: dict[str, int] = {}
        self._named: dict[str, tuple[int, int]] = {}
        self._runs: dict[str, int] = {}
        self._rows: list[list[bytes]] = []
        self._said: tuple[str, dict[str, Any]] | None = None

    def chunk(self, start: int, end: int) -> None:
        places = {"place__seq__gte": start, "place__seq__lt": end}
        rows = Event.objects.filter(**places).values_list(*_COLUMNS)
        found = {row[0]: dict(zip(_COLUMNS, row, strict=True)) for row in rows}
        leaves = Leaf.objects.filter(seq__gte=start, seq__lt=end)
        hashes = dict(leaves.values_list("seq", "hash"))
        for seq in range(start, end):
            kept = bytes(hashes.get(seq, b""))
            event = found.get(seq)
            if event is None or not kept:
                self._report.add("missing", "An event of the log is not there.", seq)
            elif leaf_hash(event["leaf"].encode()) != kept:
                self._report.add("leaf", "An event is not the one that was sealed.", seq)
            else:
                self._event(seq, event)
            self._grow(kept)

    def _grow(self, hashed: bytes) -> None:
        self.tree.add(hashed)
        self._tile(0, hashed)
        self._signed.reached(self.tree)

    def _tile(self, level: int, hashed: bytes) -> None:
        """One more hash in this row of the tree; a tile that is full by it was stored."""
        if level == len(self._rows):
            self._rows.append([])
        row = self._rows[level]
        row.append(hashed)
        if len(row) < WIDTH:
            return
        index = self.tree.size // WIDTH ** (level + 1) - 1
        stored = Tile.objects.filter(level=level, index=index).first()
        above = root_of(row)
        if stored is None or _said(stored) != (row, above):
            self._report.add("tile", f"Tile {level}/{index} does not hold the hashes below it.")
        self._rows[level] = []
        self._tile(level + 1, above)

    def _event(self, seq: int, event: dict[str, Any]) -> None:
        try:
            leaf = parsed_leaf(event["leaf"])
        except LeafInvalid as error:
            self._report.add("leaf", str(error), seq)
            return
        if not self._is_ours(event["leaf"], bytes(event["mac"]), event["mac_key"]):
            self._report.add("mac", "The portal did not write this event.", seq)
        for name in _unlike(leaf, event):
            self._report.add("column", f"{name} is not what the event says.", seq)
        self._values(seq, leaf, event)
        self._numbers(seq, leaf)

    def _is_ours(self, leaf: str, mac: bytes, mac_key: str) -> bool:
        """Whether the portal wrote it; of what was written under a key that is gone, nobody can
        say, and then the tree alone vouches for it.
        """
        key = self._keys.get(mac_key)
        return key is None or hmac.compare_digest(mac_of(leaf, key), mac)

    def _values(self, seq: int, leaf: dict[str, Any], event: dict[str, Any]) -> None:
        report = self._report
        if event["payload__pk"] is None:
            report.add("value", "What lies beside the event is not there.", seq)
            return
        disclosed, erased = event["payload__disclosures"], event["payload__erased"]
        report.values += len(disclosed)
        report.erased += len(erased)
        for name, digest in leaf["sd"].items():
            if name in erased:
                self._erased(seq, name, (event, erased[name]), is_kept=name in disclosed)
            elif name not in disclosed:
                report.add("value", f"{name} was taken out, and nobody says so.", seq)
            elif digest_of(disclosed[name]) != digest or _name_in(disclosed[name]) != name:
                report.add("value", f"{name} is not the value that was recorded.", seq)
        for name in sorted({*disclosed, *erased} - set(leaf["sd"])):
            report.add("value", f"{name} was not recorded with this event.", seq)
        self._labels(seq, event, disclosed)

    def _labels(self, seq: int, event: dict[str, Any], disclosed: dict[str, str]) -> None:
        for label in ("actor", "subject"):
            text = disclosed.get(f"{label}.label")
            if event[f"payload__{label}_label"] != (_value_in(text) if text else ""):
                self._report.add("column", f"The {label}'s label is not what was recorded.", seq)

    def _erased(
        self, seq: int, name: str, by: tuple[dict[str, Any], str], *, is_kept: bool
    ) -> None:
        """An erasure is an event of its own, which names the event and the field."""
        event, uid = by
        said = self._erasure(uid)
        if str(event["uid"]) not in said.get("erased", []) or name not in said.get("fields", []):
            self._report.add("erasure", f"{name} is said to be erased; no event says so.", seq)
        if is_kept:
            self._report.add("erasure", f"{name} was erased, and is still there.", seq)

    def _erasure(self, uid: str) -> dict[str, Any]:
        """Return the details of the event named as an erasure; batches follow each other."""
        if self._said is None or self._said[0] != uid:
            found = Event.objects.filter(uid=uid, type__in=ERASING).first()
            is_ours = found is not None and self._is_ours(
                found.leaf, bytes(found.mac), found.mac_key
            )
            self._said = uid, found.plain() if found is not None and is_ours else {}
        return self._said[1]

    def _numbers(self, seq: int, leaf: dict[str, Any]) -> None:
        """Each writer counts its events, and says how many the writer before it had."""
        writer, number = leaf["w"][:2]
        if number != (expected := self._writers.get(writer, 0) + 1):
            message = f"Writer {writer} wrote {number - expected} events that are not in the log."
            self._report.add("gap", message, seq)
        self._writers[writer] = number
        if len(leaf["w"]) > 2:
            before, count = leaf["w"][2:]
            self._named[before] = (count, seq)
        run = leaf.get("run")
        if run is None:
            return
        if leaf["type"] == "run.closed":
            self._closed(seq, leaf, run)
        self._runs[run] = self._runs.get(run, 0) + 1

    def _closed(self, seq: int, leaf: dict[str, Any], run: str) -> None:
        said = leaf.get("details", {}).get("events", 0)
        if self._runs.get(run, 0) < said:
            message = f"The run had {said} events when it closed; here are fewer."
            self._report.add("gap", message, seq)

    def end(self) -> None:
        for writer, (count, seq) in self._named.items():
            if self._writers.get(writer, 0) < count:
                message = f"Writer {writer} wrote {count} events; here are fewer."
                self._report.add("gap", message, seq)


def _said(tile: Tile) -> tuple[list[bytes], bytes]:
    return split_hashes(bytes(tile.hashes)), bytes(tile.root)


def _unlike(leaf: dict[str, Any], event: dict[str, Any]) -> Iterator[str]:
    """Columns that do not say what the leaf says."""
    told = {
        "uid": leaf["uid"],
        "recorded_at": leaf["at"],
        "type": leaf["type"],
        "actor_kind": leaf["actor"]["kind"],
        "actor_id": leaf["actor"]["id"],
        "subject_kind": leaf["subject"]["kind"],
        "subject_id": leaf["subject"]["id"],
        "run_id": leaf.get("run"),
        "request_id": leaf.get("request", ""),
        "writer": leaf["w"][0],
        "writer_number": leaf["w"][1],
    }
    kept = {
        **event,
        "uid": str(event["uid"]),
        "recorded_at": moment(event["recorded_at"]),
        "run_id": str(event["run_id"]) if event["run_id"] else None,
    }
    return (name for name, value in told.items() if kept[name] != value)


def _name_in(disclosed: str) -> str | None:
    try:
        return decode_disclosure(disclosed)[0]
    except LeafInvalid:
        return None


def _value_in(disclosed: str) -> Any:
    try:
        return decode_disclosure(disclosed)[1]
    except LeafInvalid:
        return None


def _outside_the_log(report: Report) -> None:
    """Report the rows that are in the tables and not in the log."""
    kept_out = Quarantine.objects.count()
    if kept_out:
        report.add("quarantine", f"{kept_out:,} events that the portal did not write.")
    unsealed = Event.objects.filter(place__isnull=True, quarantine__isnull=True)
    mark = SealerMark.objects.values_list("low", flat=True).first() or 0
    late = unsealed.filter(pk__lte=mark).count()
    if late:
        report.add("unsealed", f"{late:,} events stand before the sealed ones, unsealed.")
    report.waiting = unsealed.count() - late
    of_it = Event.objects.filter(uid=OuterRef("pk"))
    if EventPayload.objects.filter(~Exists(of_it)).exists():
        report.add("value", "There are values without an event.")
