"""The bundle: what an auditor takes away, as a zip archive that is written while it is sent.

Every event of a contiguous range of the log is in it: those that were asked for as they are, the
others as their hash alone. With the proof of the range the auditor knows that none is missing.
"""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.db.models import Max, Min

from audit.auditor_scope import scope_of
from audit.errors import NothingToExport, NotSealed
from audit.event_types import EventType
from audit.events import ERASING, EXPORT_ASKED, EXPORT_DECIDED
from audit.leaf_encoding import decode_disclosure
from audit.models import Checkpoint, Event, EventQuerySet, Export, Leaf, LogKey
from audit.proofs import as_text, continuation, handover_of, latest, range_of
from audit.retention import SENSITIVE_FIELD
from audit.signed_notes import parse_note, parsed_checkpoint

FORMAT = "chancery-evidence/2"
CHUNK = 1_000
_HERE = Path(__file__).parent
_FIELDS = ("place__seq", "leaf", "payload__disclosures", "payload__erased")

Progress = Callable[[int, int], None]


def wanted(export: Export) -> EventQuerySet:
    """The events that were asked for; all if no run, agent or time was named.

    Of somebody with a pass, none that the pass does not show: what is of its agents is told by the
    index, which follows the log in its order, so the range ends where that has got to.
    """
    found, scope = Event.objects.all(), scope_of(export.asked_by)
    if scope is not None:
        found = scope.of(found)
    if export.since is not None:
        found = found.filter(recorded_at__gte=export.since)
    if export.until is not None:
        found = found.filter(recorded_at__lt=export.until)
    if not export.runs and not export.agents:
        return found
    chosen = Event.objects.none()
    for client_id in export.agents:
        chosen = chosen | found.of_agent(client_id)
    return (chosen | found.filter(run_id__in=export.runs)) if export.runs else chosen


@dataclass(frozen=True)
class Range:
    """Places `start` to `end` of the log as the checkpoint signs it."""

    start: int
    end: int
    checkpoint: Checkpoint


def range_for(export: Export) -> Range:
    """The smallest range in which all sealed events lie that were asked for, under the last
    checkpoint that covers them; one that witnesses have signed, if it does.

    Raises NothingToExport and NotSealed.
    """
    found = wanted(export).aggregate(start=Min("place__seq"), last=Max("place__seq"))
    if found["start"] is None:
        raise NothingToExport
    end = found["last"] + 1
    earlier = export.previous_checkpoint
    kept = parsed_checkpoint(parse_note(earlier)).size if earlier else 0
    decided = _place_of(_event_about(export, EXPORT_DECIDED)) + 1
    return Range(found["start"], end, latest(at_least=max(end, kept, decided, _erased_up_to())))


def _event_about(export: Export, kind: EventType) -> Event:
    """The event that says that this evidence was asked for, or decided on. Raises NotSealed."""
    about = Event.objects.filter(type=kind.name, subject_id=str(export.pk))
    event = about.filter(place__isnull=False).select_related("payload").first()
    if event is None:
        raise NotSealed
    return event


def _place_of(event: Event) -> int:
    return int(Leaf.objects.values_list("seq", flat=True).get(event=event))


def _erased_up_to() -> int:
    """The size at which every erasure is in the log: it has to be shown with what it erased."""
    said = Event.objects.filter(type__in=ERASING)
    if said.filter(place__isnull=True, quarantine__isnull=True).exists():
        raise NotSealed
    return (said.aggregate(last=Max("place__seq"))["last"] or 0) + 1


@dataclass
class _BundleStream:
    shown: int = 0
    withheld: int = 0
    erased_by: set[str] = field(default_factory=set)


class _Sink(io.RawIOBase):
    """A file-like target of the archive; its new bytes are taken away piece by piece."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def taken(self) -> bytes:
        found = b"".join(self._parts)
        self._parts.clear()
        return found


def bundle(
    export: Export, of: Range, *, progress: Progress = lambda done, total: None
) -> Iterator[bytes]:
    """The archive in pieces, as they come: never more than a few thousand events in memory."""
    sink, written = _Sink(), _BundleStream()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("events.jsonl", "w") as lines:
            for start in range(of.start, of.end, CHUNK):
                end = min(start + CHUNK, of.end)
                lines.write(_lines(export, start, end, written))
                yield sink.taken()
                progress(end - of.start, of.end - of.start)
        texts = {
            "checkpoint": as_text(of.checkpoint),
            "proofs.json": _json(_proofs(export, of, written)),
            "manifest.json": _json(_manifest(export, of)),
            "controls.json": _json(_controls(export)),
            "verify.py": (_HERE / "verify.py").read_text(),
            "README.txt": (_HERE / "README.txt").read_text(),
        }
        for name, text in texts.items():
            archive.writestr(name, text)
            yield sink.taken()
    yield sink.taken()


def _lines(export: Export, start: int, end: int, written: _BundleStream) -> bytes:
    places = {"place__seq__gte": start, "place__seq__lt": end}
    shown = {row[0]: row[1:] for row in wanted(export).filter(**places).values_list(*_FIELDS)}
    hashes = Leaf.objects.filter(seq__gte=start, seq__lt=end).order_by("seq")
    lines = []
    for seq, hashed in hashes.values_list("seq", "hash"):
        if seq not in shown:
            written.withheld += 1
            lines.append(json.dumps({"hash": bytes(hashed).hex()}))
            continue
        leaf, values, erased = shown[seq]
        line: dict[str, Any] = {"leaf": leaf}
        if export.with_values:
            line["values"] = values if export.with_sensitive else _usual(values)
        if erased:
            line["erased"] = erased
            written.erased_by.update(erased.values())
        written.shown += 1
        lines.append(json.dumps(line, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines).encode()


def _usual(values: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != SENSITIVE_FIELD}


def _proofs(export: Export, of: Range, written: _BundleStream) -> dict[str, Any]:
    size = of.checkpoint.size
    since, steps = None, []
    if export.previous_checkpoint:
        since = parsed_checkpoint(parse_note(export.previous_checkpoint)).size
        steps = continuation(since, size)
    return {
        "keys": list(_keys(size)),
        "range": _hex(range_of(of.start, of.end, size)),
        "since": since,
        "continuation": _hex(steps),
        "erasures": list(_erasures(written, size)),
    }


def _keys(size: int) -> Iterator[dict[str, Any]]:
    """The keys that signed the log up to this size; each after the first with its hand-over."""
    previous: LogKey | None = None
    for row in LogKey.objects.filter(from_size__lt=size).order_by("pk"):
        if previous is None:
            yield {"vkey": row.vkey}
        else:
            handover = handover_of(previous, row)
            yield {
                "vkey": row.vkey,
                "introduced": handover.introduced.note,
                "seq": handover.place,
                "leaf": handover.event.leaf,
                "path": _hex(
                    range_of(handover.place, handover.place + 1, handover.introduced.size)
                ),
                "continuation": _hex(continuation(handover.introduced.size, size)),
            }
        previous = row


def _erasures(written: _BundleStream, size: int) -> Iterator[dict[str, Any]]:
    """The events that say who erased what, each with the proof that it is in the log."""
    uids = sorted(written.erased_by)
    for at in range(0, len(uids), CHUNK):
        rows = Event.objects.filter(uid__in=uids[at : at + CHUNK], place__seq__lt=size)
        for seq, leaf in rows.values_list("place__seq", "leaf").order_by("place__seq"):
            yield {"seq": seq, "leaf": leaf, "path": _hex(range_of(seq, seq + 1, size))}


def _manifest(export: Export, of: Range) -> dict[str, Any]:
    """Nothing but the range and events of the log: its words would be the portal's alone."""
    size = of.checkpoint.size
    return {
        "format": FORMAT,
        "start": of.start,
        "end": of.end,
        "size": size,
        "asked": _proved(_event_about(export, EXPORT_ASKED), size),
        "decided": _proved(_event_about(export, EXPORT_DECIDED), size),
    }


def _controls(export: Export) -> Any:
    """As they were when the evidence was asked for: they are recorded with the request."""
    disclosed = _event_about(export, EXPORT_ASKED).payload.disclosures.get("details.controls")
    return decode_disclosure(disclosed)[1] if disclosed else []


def _proved(event: Event, size: int) -> dict[str, Any]:
    """The event with the proof that it is in the log of this size, and the values beside it."""
    place = _place_of(event)
    return {
        "seq": place,
        "leaf": event.leaf,
        "path": _hex(range_of(place, place + 1, size)),
        "values": event.payload.disclosures,
    }


def _hex(hashes: list[bytes]) -> list[str]:
    return [one.hex() for one in hashes]


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
