"""What the database noticed against what the change log says: the rest went round the portal.

An entry of the change log and the change that it is of are in one transaction. Each change needs
an entry for itself; changes of who belongs to what are said by one entry of the record they
belong to.

PostgreSQL names transactions, and they are compared whole. SQLite has no name for one: there an
entry is of a change when both are of one record and no further apart than a transaction lasts.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import QuerySet

from audit import events
from audit.models import DbChange
from audit.noticed import ENTRIES, related_owners
from audit.services.recording import Subject, record
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
Key = tuple[str, str, str, str]


@transaction.atomic
def reconcile(*, settle: timedelta = SETTLE, limit: int = BATCH) -> int:
    """Compare and forget what was noticed a while ago; how many changes had no entry.

    Each of them is an event. One at a time, by the locks on the rows. `limit` changes, and the
    rest of their transactions.
    """
    due = _due(settle, limit)
    entries = _entries_beside(due)
    owners = related_owners()
    # What needs an entry for itself takes it first: what is left says who belongs to what.
    own = [row for row in due if row.table not in owners and not entries.taken_by(row)]
    related = [row for row in due if row.table in owners and not entries.say(row)]
    for row in sorted([*own, *related], key=lambda one: one.pk):
        _report(row)
    done = {row.pk for row in due} | entries.taken
    DbChange.objects.filter(pk__in=done).delete()
    _forget_entries()
    return len(own) + len(related)


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
        keys = ((row.transaction, owner, number, said) for said in _SAID.values())
        return any(one.pk not in self.taken for key in keys for one in self._near(row, key))

    def _near(self, row: DbChange, key: Key) -> list[DbChange]:
        found = self.by_key.get(key, [])
        return found if row.transaction else [e for e in found if abs(e.at - row.at) <= SETTLE]


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
    labels = {str(one.pk): f"{one.app_label}.{one.model}" for one in ContentType.objects.all()}
    for row in rows:
        said, label = _SAID.get(row.operation, ""), labels.get(row.columns, "")
        found.by_key[row.transaction, label, _plain(row.row), said].append(row)
    return found


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
