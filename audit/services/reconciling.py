"""What the database noticed against what the change log says: the rest went round the portal.

An entry of the change log and the change that it is of are in one transaction. Each change needs
an entry for itself; changes of who belongs to what are said by one entry of the record they
belong to.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import timedelta

from auditlog.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

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

    Each of them is an event. One at a time, by the locks on the rows.
    """
    chosen = DbChange.objects.select_for_update().order_by("id")
    rows = list(chosen.filter(at__lt=database_now() - settle)[:limit])
    if not rows:
        return 0
    entries = _entries(row for row in rows if row.table == ENTRIES)
    passed = [row for row in rows if row.table != ENTRIES and not _is_said(row, entries)]
    for row in passed:
        _report(row)
    DbChange.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(passed)


def _entries(rows: Iterable[DbChange]) -> Counter[Key]:
    """How many entries there are of each kind about each record, by transaction."""
    found: Counter[Key] = Counter()
    for row in rows:
        about = ContentType.objects.get_for_id(int(row.columns))
        label = f"{about.app_label}.{about.model}"
        found[row.transaction, label, _plain(row.row), _SAID.get(row.operation, "")] += 1
    return found


def _is_said(row: DbChange, entries: Counter[Key]) -> bool:
    owner = related_owners().get(row.table)
    if owner is not None:
        # Any number of rows of a relation are one entry about the record they belong to.
        return any(
            entries[row.transaction, owner, _plain(row.row), said] > 0
            for said in ("update", "insert", "delete")
        )
    key = (row.transaction, row.table, _plain(row.row), row.operation)
    if entries[key] > 0:
        entries[key] -= 1
        return True
    return False


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
