import copy
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from demo.airline.refusals import IdempotencyConflict

Row = dict[str, Any]
# A dict, list or str, ready for JSON.
Answer = Any

BUSY_SECONDS = 10
WORLD = Path(__file__).parent / "data" / "world.json"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS changed (
    sandbox TEXT NOT NULL,
    collection TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (sandbox, collection, key)
);
CREATE TABLE IF NOT EXISTS done (
    idempotency_key TEXT PRIMARY KEY,
    sandbox TEXT NOT NULL,
    tool TEXT NOT NULL,
    arguments TEXT NOT NULL,
    answer TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS done_by_sandbox ON done (sandbox);
"""


@cache
def base_world() -> Mapping[str, Any]:
    """The world every sandbox starts from. Nobody may change it."""
    world: Mapping[str, Any] = json.loads(WORLD.read_text(encoding="utf-8"))
    return world


@dataclass(frozen=True)
class Write:
    """A call that changes the airline's data. Without a key it takes effect every time."""

    sandbox: str
    tool: str
    arguments: Mapping[str, Any]
    idempotency_key: str | None = None

    def canonical_arguments(self) -> str:
        return json.dumps(dict(self.arguments), sort_keys=True)


class Sandbox:
    """One sandbox's view of the world, inside one database transaction."""

    def __init__(self, connection: sqlite3.Connection, name: str) -> None:
        self._connection = connection
        self._name = name

    @property
    def now(self) -> str:
        now: str = base_world()["now"]
        return now

    def find(self, collection: str, key: str) -> Row | None:
        """A copy of the row, which the caller may change and put back."""
        found = self._connection.execute(
            "SELECT value FROM changed WHERE sandbox = ? AND collection = ? AND key = ?",
            (self._name, collection, key),
        ).fetchone()
        if found is not None:
            changed: Row = json.loads(found[0])
            return changed
        base: Row | None = base_world()[collection].get(key)
        return copy.deepcopy(base)

    def every(self, collection: str) -> Mapping[str, Row]:
        """All rows by key, not copied: only for reading."""
        changed = self._connection.execute(
            "SELECT key, value FROM changed WHERE sandbox = ? AND collection = ? ORDER BY key",
            (self._name, collection),
        )
        base: dict[str, Row] = base_world()[collection]
        return base | {key: json.loads(value) for key, value in changed}

    def put(self, collection: str, key: str, row: Row) -> None:
        self._connection.execute(
            "INSERT INTO changed (sandbox, collection, key, value) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (sandbox, collection, key) DO UPDATE SET value = excluded.value",
            (self._name, collection, key, json.dumps(row)),
        )


class Store:
    """The airline's database file; safe for several threads and processes."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with self._connection() as connection:
            _switch_to_wal(connection)
            connection.executescript(_SCHEMA)

    def read(self, sandbox: str, tool: Callable[[Sandbox], Answer]) -> Answer:
        with self._connection() as connection:
            connection.execute("PRAGMA query_only = ON")
            connection.execute("BEGIN")
            return tool(Sandbox(connection, sandbox))

    def write(self, write: Write, tool: Callable[[Sandbox], Answer]) -> Answer:
        """Carries the write out, or returns its stored answer if its key was done before.

        Raises IdempotencyConflict if another call used the key. Whatever the tool raises leaves
        the data unchanged and the key unused.
        """
        with self._connection() as connection, _transaction(connection):
            stored = _stored_answer(connection, write)
            if stored is not None:
                return json.loads(stored)
            answer = json.dumps(tool(Sandbox(connection, write.sandbox)))
            connection.execute(
                "INSERT INTO done (idempotency_key, sandbox, tool, arguments, answer)"
                " VALUES (?, ?, ?, ?, ?)",
                (
                    write.idempotency_key,
                    write.sandbox,
                    write.tool,
                    write.canonical_arguments(),
                    answer,
                ),
            )
        return json.loads(answer)

    def executions(self, sandbox: str) -> list[tuple[str, Row, str | None]]:
        """Every write that took effect, oldest first: tool, arguments, idempotency key."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT tool, arguments, idempotency_key FROM done"
                " WHERE sandbox = ? ORDER BY rowid",
                (sandbox,),
            ).fetchall()
        return [(tool, json.loads(arguments), key) for tool, arguments, key in rows]

    def snapshot(self, sandbox: str) -> dict[str, dict[str, Row]]:
        """Every row that differs from the base world, by collection and key."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT collection, key, value FROM changed WHERE sandbox = ?"
                " ORDER BY collection, key",
                (sandbox,),
            ).fetchall()
        changed: dict[str, dict[str, Row]] = {}
        for collection, key, value in rows:
            changed.setdefault(collection, {})[key] = json.loads(value)
        return changed

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        opened = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        with closing(opened) as connection:
            yield connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _stored_answer(connection: sqlite3.Connection, write: Write) -> str | None:
    """Raises IdempotencyConflict if the key belongs to another call."""
    if write.idempotency_key is None:
        return None
    found = connection.execute(
        "SELECT sandbox, tool, arguments, answer FROM done WHERE idempotency_key = ?",
        (write.idempotency_key,),
    ).fetchone()
    if found is None:
        return None
    *call, answer = found
    if call != [write.sandbox, write.tool, write.canonical_arguments()]:
        raise IdempotencyConflict(write.idempotency_key)
    return str(answer)


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    # SQLite does not wait for the lock when two processes switch a new file at the same moment.
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return
