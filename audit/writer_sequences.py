"""Writers of events: each connection to the database numbers its own, without a gap.

An event that was taken out before it was sealed leaves no trace in the tree. It does leave a gap
in the numbers of its writer, which the writer's next event shows. Numbering costs no lock and no
query: a connection has one transaction at a time, and Django's own list of what is to be done at
commit says which numbers have been used up. What is rolled back gives its numbers back.
"""

import os
import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from audit.errors import RecordOutsideTransaction


@dataclass
class _Writer:
    """One physical connection of one process; `before`: the writer before it in its thread."""

    raw: Any
    process: int
    before: tuple[str, int] | None
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    committed: int = 0


@dataclass
class _Taken:
    """Numbers that are used up once the transaction is committed."""

    writer: _Writer
    count: int

    def __call__(self) -> None:
        self.writer.committed += self.count
        self.count = 0


class _Local(threading.local):
    def __init__(self) -> None:
        self.writers: dict[str, _Writer] = {}


_local = _Local()


def next_numbers(connection: BaseDatabaseWrapper, count: int) -> list[list[Any]]:
    """For each of so many events who writes it, and which of the writer's it is.

    The first of a writer also names the writer before it, with how many that had written.
    Raises RecordOutsideTransaction outside a transaction.
    """
    if not connection.in_atomic_block:
        message = "Events are recorded in the transaction of their change."
        raise RecordOutsideTransaction(message)
    writer = _writer_of(connection)
    begun = [
        one[1]
        for one in connection.run_on_commit
        if isinstance(one[1], _Taken) and one[1].writer is writer
    ]
    last = writer.committed + sum(one.count for one in begun)
    transaction.on_commit(_Taken(writer, count), using=connection.alias)
    # First of what is done at commit: a hook that fails takes those after it with it.
    connection.run_on_commit.insert(0, connection.run_on_commit.pop())
    found: list[list[Any]] = [[writer.name, last + n] for n in range(1, count + 1)]
    if last == 0 and writer.before is not None:
        found[0] += writer.before
    return found


def forget_writers() -> None:
    """Begin anew in this thread, as after a change of database under a living process."""
    _local.writers.clear()


def _writer_of(connection: BaseDatabaseWrapper) -> _Writer:
    known = _local.writers.get(connection.alias)
    raw, process = connection.connection, os.getpid()
    # A connection that was lost may have lost its last commit or not; a forked process is another.
    if known is not None and known.raw is raw and known.process == process:
        return known
    before = None
    if known is not None:
        before = (known.name, known.committed) if known.committed else known.before
    writer = _Writer(raw, process, before)
    _local.writers[connection.alias] = writer
    return writer
