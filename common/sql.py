"""Set-based writing for the governed path: many rows of several tables in one statement.

PostgreSQL takes every batch as one JSON parameter (`jsonb_to_recordset`) inside a single
statement, so the number of round trips does not grow with rows or tables. SQLite, where a round
trip is a function call, takes one `executemany` per table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from typing import Any, Protocol
from uuid import UUID

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Insert:
    """Rows to insert into one table. Columns map names to PostgreSQL types."""

    table: str
    columns: Mapping[str, str]

    def postgresql(self, at_most: int | None) -> str:
        names = ", ".join(self.columns)
        given = _recordset(self.columns)
        return f"INSERT INTO {self.table} ({names}) SELECT {names} FROM {given}"  # noqa: S608

    @cached_property
    def sqlite(self) -> str:
        marks = ", ".join("%s" for _ in self.columns)
        return f"INSERT INTO {self.table} ({', '.join(self.columns)}) VALUES ({marks})"  # noqa: S608 - names are ours

    def parameters(self) -> list[str]:
        return list(self.columns)


@dataclass(frozen=True, eq=False)
class Update:
    """Rows to update in one table by the column named `key`."""

    table: str
    key: str
    columns: Mapping[str, str]

    def postgresql(self, at_most: int | None) -> str:
        sets = ", ".join(f"{name} = r.{name}" for name in self._changed())
        given = _recordset(self.columns)
        if at_most is not None:
            # PostgreSQL guesses a hundred rows of a record set, and would read a whole small table
            # for them, by a plan that it keeps when the table has grown.
            given = f"(SELECT * FROM {given} LIMIT {at_most}) AS r"  # noqa: S608 - a number
        return (
            f"UPDATE {self.table} AS t SET {sets} FROM {given} "  # noqa: S608
            f"WHERE t.{self.key} = r.{self.key}"
        )

    @cached_property
    def sqlite(self) -> str:
        sets = ", ".join(f"{name} = %s" for name in self._changed())
        return f"UPDATE {self.table} SET {sets} WHERE {self.key} = %s"  # noqa: S608

    def parameters(self) -> list[str]:
        return [*self._changed(), self.key]

    def _changed(self) -> list[str]:
        return [name for name in self.columns if name != self.key]


Write = Insert | Update


class Expanding(Protocol):
    """A place to write to whose rows become rows of several tables."""

    def expanded(
        self, connection: BaseDatabaseWrapper, rows: Sequence[Row]
    ) -> Sequence[tuple[Write, Sequence[Row]]]: ...


Batches = Sequence[tuple[Write | Expanding, Sequence[Row]]]


def _recordset(columns: Mapping[str, str]) -> str:
    typed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
    return f"jsonb_to_recordset(%s::jsonb) AS r({typed})"


def write(connection: BaseDatabaseWrapper, batches: Batches) -> None:
    """Write every batch; all of it is part of the caller's transaction.

    Raises django.db.IntegrityError if one row breaks a constraint; then nothing was written.
    """
    present = [
        part
        for target, rows in batches
        if rows
        for part in (
            [(target, rows)]
            if isinstance(target, Insert | Update)
            else target.expanded(connection, rows)
        )
    ]
    if not present:
        return
    if connection.vendor != "postgresql":
        _write_in_turn(connection, present)
        return
    shape = tuple((target, _rounded(len(rows))) for target, rows in present)
    with connection.cursor() as cursor:
        cursor.execute(
            _statement(shape), [json.dumps(list(rows), default=_as_json) for _, rows in present]
        )


def _rounded(number: int) -> int | None:
    """A few numbers of rows, so that there are few statements to be planned."""
    return next((few for few in (1, 4, 16) if number <= few), None)


@lru_cache(maxsize=500)
def _statement(shape: tuple[tuple[Write, int | None], ...]) -> str:
    steps = [f"w{n} AS ({target.postgresql(few)})" for n, (target, few) in enumerate(shape)]
    return f"WITH {', '.join(steps)} SELECT 1"


def _write_in_turn(
    connection: BaseDatabaseWrapper, batches: Sequence[tuple[Write, Sequence[Row]]]
) -> None:
    """All or nothing here too: a savepoint does what one statement does on PostgreSQL."""
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        for target, rows in batches:
            cursor.executemany(target.sqlite, [_adapted(connection, target, r) for r in rows])


def together(
    connection: BaseDatabaseWrapper, statements: Sequence[tuple[str, Sequence[Any]]]
) -> list[list[Any]]:
    """The rows of several statements, one after the other, in one round trip on PostgreSQL.

    Each sees what was committed before it began, as if they had been sent singly.
    """
    if connection.vendor != "postgresql":
        return [_rows(connection, text, given) for text, given in statements]
    connection.ensure_connection()
    with connection.wrap_database_errors, connection.connection.pipeline():
        cursors = []
        for text, given in statements:
            cursor = connection.cursor()
            cursor.execute(text, given)
            cursors.append(cursor)
        return [cursor.fetchall() for cursor in cursors]


def _rows(connection: BaseDatabaseWrapper, text: str, given: Sequence[Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(text, given)
        return list(cursor.fetchall())


def _as_json(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    message = f"{type(value).__name__} has no JSON form"
    raise TypeError(message)


def _adapted(connection: BaseDatabaseWrapper, target: Write, row: Row) -> list[Any]:
    return [
        _sqlite_value(connection, target.columns[name], row[name]) for name in target.parameters()
    ]


def _sqlite_value(connection: BaseDatabaseWrapper, kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "jsonb":
        return json.dumps(value)
    if kind == "uuid":
        return value.hex if isinstance(value, UUID) else UUID(str(value)).hex
    if kind == "numeric":
        return str(value)
    if kind == "timestamptz":
        return connection.ops.adapt_datetimefield_value(value)
    return value
