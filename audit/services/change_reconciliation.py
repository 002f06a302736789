"""Comparison of captured changes with the change log: the rest was made outside the portal.

An entry of the change log and the change that it is of are in one transaction, and so is the event
that anchors the entry: an entry without one says nothing. Each change needs an entry for itself;
changes of who belongs to what are said by one entry about that of the record they belong to, or by
that of its deletion.

PostgreSQL names transactions, and they are compared whole. SQLite has no name for one: there an
entry is of a change when both are of one record and no further apart than a transaction lasts.
"""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from auditlog.models import LogEntry
from django.db import connection, transaction
from django.db.models import QuerySet

from audit import events
from audit.change_capture import ENTRIES, is_related, related_owners, spoken
from audit.models import DbChange, Event
from audit.services.recorder import Subject, record
from common.actors import SYSTEM
from common.clock import database_now

BATCH = 5_000
# Longer than a transaction may take: then all that it wrote can be seen.
SETTLE = timedelta(seconds=30)
_SAID = {
    str(LogEntry.Action.CREATE): "insert",
    str(LogEntry.Action.UPDATE): "update",
    str(LogEntry.Action.DELETE): "delete",
}
# Of an entry that says who belongs to what.
RELATED = "related"
ANCHORS = [
    one.name
    for one in (
        events.RECORD_CREATED,
        events.RECORD_UPDATED,
        events.RECORD_DELETED,
        events.RECORD_RELATED_CHANGED,
    )
]
_PART = 500
_CLOCKS_APART = timedelta(minutes=10)
Key = tuple[str, str, str, str]


@transaction.atomic
def reconcile(*, settle: timedelta = SETTLE, limit: int = BATCH) -> int:
    """Compare and forget what was noticed a while ago; how many changes had no entry.

    Each of them is an event. One at a time, by the locks on the rows. `limit` changes, and the
    rest of their transactions.
    """
    due = _due(settle, limit)
    entries, said = _entries_beside(due), _Said(due)
    owners = related_owners()
    passed = [
        row
        for row in due
        if not (
            said.explains(row)
            if row.table in said.tables
            else entries.say(row)
            if row.table in owners
            else entries.taken_by(row)
        )
    ]
    for row in passed:
        _report(row)
    done = {row.pk for row in due} | entries.taken
    DbChange.objects.filter(pk__in=done).delete()
    _forget_entries()
    return len(passed)


def _changes() -> QuerySet[DbChange]:
    return DbChange.objects.exclude(table=ENTRIES).order_by("id")


def _due(settle: timedelta, limit: int) -> list[DbChange]:
    locked = _changes().select_for_update()
    rows = list(locked.filter(at__lt=database_now() - settle)[:limit])
    names = {row.transaction for row in rows if row.transaction}
    return list(locked.filter(transaction__in=names)) if names else rows


@dataclass
class _Entries:
    """Entries of the change log by what they say. Each is of one change and no other."""

    by_key: dict[Key, list[DbChange]] = field(default_factory=lambda: defaultdict(list))
    taken: set[int] = field(default_factory=set)

    def taken_by(self, row: DbChange) -> bool:
        key = (row.transaction, row.table, _plain(row.row), row.operation)
        free = [one for one in self._near(row, key) if one.pk not in self.taken]
        if free:
            self.taken.add(min(free, key=lambda one: abs(one.pk - row.pk)).pk)
        return bool(free)

    def say(self, row: DbChange) -> bool:
        """Any number of rows of a relation are one entry about the record they belong to."""
        owner, number = related_owners()[row.table], _plain(row.row)
        keys = ((row.transaction, owner, number, said) for said in (RELATED, "delete"))
        return any(self._near(row, key) for key in keys)

    def _near(self, row: DbChange, key: Key) -> list[DbChange]:
        found = self.by_key.get(key, [])
        return found if row.transaction else [e for e in found if abs(e.at - row.at) <= SETTLE]


class _Said:
    """Events that explain changes of tables which the change log is not kept of."""

    def __init__(self, due: Sequence[DbChange]) -> None:
        self.tables = spoken()
        self._free: dict[tuple[str, str], list[datetime]] = defaultdict(list)
        rows = [row for row in due if row.table in self.tables]
        if rows:
            moments = [row.at for row in rows]
            self._read(min(moments) - SETTLE, max(moments) + SETTLE, {row.table for row in rows})

    def _read(self, since: datetime, until: datetime, tables: set[str]) -> None:
        for table in tables:
            expected = self.tables[table]
            events = Event.objects.within(since, until).filter(type__in=expected.types)
            for subject, leaf, at in events.values_list("subject_id", "leaf", "recorded_at"):
                named = _details_of(leaf).get(expected.by) if expected.by else subject
                self._free[table, _plain(str(named))].append(at)

    def explains(self, row: DbChange) -> bool:
        """Each event explains one change, no further from it than a transaction lasts."""
        free = self._free[row.table, _plain(row.row)]
        near = [at for at in free if abs(at - row.at) <= SETTLE]
        if near:
            free.remove(min(near, key=lambda at: abs(at - row.at)))
        return bool(near)


def _entries_beside(due: Sequence[DbChange]) -> _Entries:
    """The entries that can be of these changes."""
    found = _Entries()
    if not due:
        return found
    rows = DbChange.objects.filter(table=ENTRIES).order_by("id")
    if connection.vendor == "postgresql":
        rows = rows.filter(transaction__in={row.transaction for row in due})
    else:
        moments = [row.at for row in due]
        rows = rows.filter(at__gte=min(moments) - SETTLE, at__lte=max(moments) + SETTLE)
    noted = {int(row.columns): row for row in rows if row.columns.isdecimal()}
    for start in range(0, len(noted), _PART):
        part = list(noted)[start : start + _PART]
        for entry in _anchored(LogEntry.objects.filter(pk__in=part)):
            row = noted[entry.pk]
            about = entry.content_type
            label = f"{about.app_label}.{about.model}"
            said = RELATED if is_related(entry) else _SAID.get(str(entry.action), "")
            found.by_key[row.transaction, label, _plain(str(entry.object_pk)), said].append(row)
    return found


def _anchored(entries: QuerySet[LogEntry]) -> list[LogEntry]:
    """Those whose event there is, as the portal writes it with each entry."""
    chosen = list(entries.select_related("content_type"))
    if not chosen:
        return []
    since = min(one.timestamp for one in chosen) - _CLOCKS_APART
    about = {str(one.object_pk)[:64] for one in chosen}
    said = Event.objects.within(since, None).filter(type__in=ANCHORS, subject_id__in=about)
    leaves = said.values_list("leaf", flat=True)
    known = {_details_of(text).get("entry") for text in leaves}
    return [one for one in chosen if one.pk in known]


def _details_of(leaf: str) -> dict[str, Any]:
    """Return the open details of the event; nothing of one that cannot be read."""
    try:
        found = json.loads(leaf)["details"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _forget_entries() -> None:
    """Those of no change that waits: both were seen at once, as they were committed."""
    waiting, entries = _changes(), DbChange.objects.filter(table=ENTRIES)
    if connection.vendor == "postgresql":
        entries = entries.exclude(transaction__in=waiting.order_by().values("transaction"))
    elif oldest := waiting.values_list("at", flat=True).first():
        entries = entries.filter(at__lt=oldest - SETTLE)
    entries.delete()


def _plain(row: str) -> str:
    """SQLite keeps UUIDs without their dashes."""
    return row.replace("-", "")


def _report(row: DbChange) -> None:
    record(
        events.BYPASS_DETECTED,
        actor=SYSTEM,
        subject=Subject(row.table, row.row, f"{row.table} {row.row}"),
        model=row.table,
        pk=row.row,
        kind=row.operation,
        fields=[name for name in row.columns.split(",") if name],
        database_user=row.database_user,
        noticed_at=row.at.isoformat(),
    )
