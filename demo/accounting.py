"""A small accounting service: a program of its own, over HTTP, that the portal governs.

    python -m demo.accounting --port 8800 --db accounting.sqlite3 [--faults 0.3] [--slow-ms 5]

POST /{operation} with a JSON object; standard library only. `refund`, `void_refund` and `certify`
honour the Idempotency-Key header: the same key has one effect and the same answer. `post_entry`
does not, but `find` tells by key whether it took effect. `send_letter` can neither be repeated nor
asked about. With `--faults`, a part of the calls fails as real systems do: unavailable before the
effect, or cut off after it. The service counts calls and effects by key, so that what a client did
can be checked against what it says it did.
"""

import argparse
import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_SCHEMA = """
CREATE TABLE IF NOT EXISTS calls (key TEXT, operation TEXT);
CREATE TABLE IF NOT EXISTS effects (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, operation TEXT, arguments TEXT, answer TEXT
);
CREATE INDEX IF NOT EXISTS calls_by_key ON calls (key);
CREATE INDEX IF NOT EXISTS effects_by_key ON effects (key);
CREATE TABLE IF NOT EXISTS certificates (
    id TEXT PRIMARY KEY, holder TEXT, amount REAL, certified_on TEXT
);
"""
CERTIFICATES = tuple(
    (f"GW-{number:03}", f"customer {number}", 50.0 + 25 * (number % 5), "2024-01-15")
    for number in range(1, 9)
)
IDEMPOTENT = frozenset({"refund", "void_refund", "certify"})
READS = frozenset({"find", "list_certificates", "totals"})
EFFECTS = IDEMPOTENT | {"post_entry", "send_letter"}

Answer = dict[str, Any]


class InvoiceRefused(Exception):
    """The request is understood and cannot be carried out."""


class Books:
    """The books in one SQLite file; one writer at a time."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_SCHEMA)
        self._db.executemany("INSERT OR IGNORE INTO certificates VALUES (?, ?, ?, ?)", CERTIFICATES)

    def called(self, key: str, operation: str) -> int:
        """Note a call; how many there have been with this key."""
        with self._lock:
            self._db.execute("INSERT INTO calls VALUES (?, ?)", (key, operation))
            found = self._db.execute("SELECT count(*) FROM calls WHERE key = ?", (key,)).fetchone()
        return int(found[0])

    def read(self, operation: str, arguments: Mapping[str, Any]) -> Answer:
        with self._lock, closing(self._db.cursor()) as cursor:
            return _READS[operation](cursor, arguments)

    def write(self, operation: str, arguments: Mapping[str, Any], key: str) -> Answer:
        """Carry it out. An idempotent operation gives the answer of the first time again."""
        with self._lock, closing(self._db.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            try:
                answer = self._written(cursor, operation, arguments, key)
            except BaseException:
                cursor.execute("ROLLBACK")
                raise
            cursor.execute("COMMIT")
        return answer

    def _written(
        self, cursor: sqlite3.Cursor, operation: str, arguments: Mapping[str, Any], key: str
    ) -> Answer:
        if operation in IDEMPOTENT:
            done = cursor.execute(
                "SELECT operation, arguments, answer FROM effects WHERE key = ?", (key,)
            ).fetchone()
            if done is not None:
                if done[:2] != (operation, json.dumps(arguments, sort_keys=True)):
                    message = "this key was used for another request"
                    raise InvoiceRefused(message)
                answer: Answer = json.loads(done[2])
                return answer
        answer = _WRITES[operation](cursor, arguments)
        cursor.execute(
            "INSERT INTO effects (key, operation, arguments, answer) VALUES (?, ?, ?, ?)",
            (key, operation, json.dumps(arguments, sort_keys=True), json.dumps(answer)),
        )
        return answer


def _next(cursor: sqlite3.Cursor) -> int:
    found = cursor.execute("SELECT coalesce(max(id), 0) + 1 FROM effects").fetchone()
    return int(found[0])


def _refund(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    if arguments["amount"] <= 0:
        message = "an amount must be positive"
        raise InvoiceRefused(message)
    return {"refund": f"R{_next(cursor):06}", "status": "booked", "amount": arguments["amount"]}


def _void_refund(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    return {"refund": arguments["refund"], "status": "void"}


def _certify(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    found = cursor.execute(
        "UPDATE certificates SET certified_on = ? WHERE id = ?",
        (arguments["on"], arguments["certificate"]),
    )
    if found.rowcount == 0:
        message = "there is no such certificate"
        raise InvoiceRefused(message)
    return {"certificate": arguments["certificate"], "certified_on": arguments["on"]}


def _noted(kind: str) -> Callable[[sqlite3.Cursor, Mapping[str, Any]], Answer]:
    def note(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
        return {kind: f"{kind[0].upper()}{_next(cursor):06}"}

    return note


def _find(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    found = cursor.execute(
        "SELECT answer FROM effects WHERE key = ? ORDER BY id LIMIT 1", (arguments["key"],)
    ).fetchone()
    return {"found": found is not None, "result": json.loads(found[0]) if found else None}


def _list_certificates(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    rows = cursor.execute(
        "SELECT id, holder, amount, certified_on FROM certificates "
        "WHERE certified_on < ? ORDER BY id",
        (arguments["before"],),
    ).fetchall()
    names = ("id", "holder", "amount", "certified_on")
    return {"certificates": [dict(zip(names, row, strict=True)) for row in rows]}


def _totals(cursor: sqlite3.Cursor, arguments: Mapping[str, Any]) -> Answer:
    """Effects and keys by operation: more effects than keys means something was done twice."""
    rows = cursor.execute(
        "SELECT operation, count(*), count(DISTINCT key) FROM effects GROUP BY operation"
    ).fetchall()
    return {name: {"effects": effects, "keys": keys} for name, effects, keys in rows}


_WRITES: Mapping[str, Callable[[sqlite3.Cursor, Mapping[str, Any]], Answer]] = {
    "refund": _refund,
    "void_refund": _void_refund,
    "certify": _certify,
    "post_entry": _noted("entry"),
    "send_letter": _noted("letter"),
}
_READS: Mapping[str, Callable[[sqlite3.Cursor, Mapping[str, Any]], Answer]] = {
    "find": _find,
    "list_certificates": _list_certificates,
    "totals": _totals,
}


class Service(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, books: Books, *, faults: float = 0.0, slow: float = 0.0) -> None:
        self.books, self.faults, self.slow = books, faults, slow
        super().__init__(("127.0.0.1", port), _Request)

    def fault(self, key: str, times: int) -> str:
        """Return the fault of this call, the same at each run: none, `before` or `after`."""
        if times > 2:
            return ""  # every call succeeds in the end
        chance = int(hashlib.sha256(f"{key}:{times}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        if chance >= self.faults:
            return ""
        return "before" if chance < self.faults / 2 else "after"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed leaves a broken pipe: expected here."""


class _Request(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        operation = self.path.strip("/")
        key = self.headers.get("Idempotency-Key", "")
        try:
            arguments = json.loads(self.rfile.read(int(self.headers.get("Content-Length", "0"))))
            if operation in READS:
                self._say(200, self.server.books.read(operation, arguments))
            elif operation in EFFECTS and key:
                self._write(operation, arguments, key)
            else:
                self._say(404, {"error": "no such operation, or no Idempotency-Key"})
        except InvoiceRefused as refusal:
            self._say(422, {"error": str(refusal)})
        except (KeyError, TypeError, ValueError):
            self._say(400, {"error": "the request is not understood"})

    def _write(self, operation: str, arguments: Mapping[str, Any], key: str) -> None:
        times = self.server.books.called(key, operation)
        fault = self.server.fault(key, times)
        time.sleep(self.server.slow / 2)
        if fault == "before":
            self._say(429, {"error": "too busy"}, {"Retry-After": "1"})
            return
        answer = self.server.books.write(operation, arguments, key)
        time.sleep(self.server.slow / 2)
        if fault == "after":
            self.close_connection = True  # done, and nobody is told
            return
        self._say(200, answer)

    def _say(self, status: int, body: Answer, headers: Mapping[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        with suppress(OSError):  # the caller may have gone
            self.send_response(status)
            for name, value in {"Content-Length": str(len(text)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, *args: Any) -> None:
        """Quiet."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--faults", type=float, default=0.0, help="part of calls that fail")
    parser.add_argument("--slow-ms", type=float, default=0.0, help="time that a write takes")
    options = parser.parse_args()
    options.db.parent.mkdir(parents=True, exist_ok=True)
    books = Books(str(options.db))
    Service(options.port, books, faults=options.faults, slow=options.slow_ms / 1000).serve_forever()


if __name__ == "__main__":
    main()
