"""What the database and its driver can do alone: transactions that insert two rows.

    python -m benchmarks.baseline THREADS SECONDS      (DATABASE_URL says where)

One process of those that share the load; prints the transactions it committed.
"""

import json
import os
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable

import dj_database_url
import psycopg

CREATE = (
    "CREATE TABLE IF NOT EXISTS bare_decision (id {uuid} PRIMARY KEY, run {uuid}, tool text, "
    "outcome text, arguments {json})",
    "CREATE TABLE IF NOT EXISTS bare_event (id {uuid} PRIMARY KEY, kind text, details {json})",
)
DETAILS = json.dumps({"tool": "airline.think", "rules": ["permit-reading"], "digest": "0" * 64})


def on_postgresql() -> Callable[[], None]:
    given = dj_database_url.parse(os.environ["DATABASE_URL"])
    connection = psycopg.connect(
        host=given["HOST"], user=given["USER"], dbname=given["NAME"], autocommit=False
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(1)")
        for statement in CREATE:
            cursor.execute(statement.format(uuid="uuid", json="jsonb"))
    connection.commit()

    def insert() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO bare_decision VALUES (%s, %s, %s, %s, %s)",
                (uuid.uuid4(), uuid.uuid4(), "airline.think", "allowed", DETAILS),
            )
            cursor.execute(
                "INSERT INTO bare_event VALUES (%s, %s, %s)",
                (uuid.uuid4(), "decision.made", DETAILS),
            )
        connection.commit()

    return insert


def on_sqlite() -> Callable[[], None]:
    path = os.environ["DATABASE_URL"].removeprefix("sqlite:///")
    connection = sqlite3.connect(path, isolation_level=None, timeout=20, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    for statement in CREATE:
        connection.execute(statement.format(uuid="text", json="text"))

    def insert() -> None:
        connection.execute("BEGIN IMMEDIATE")
        values = (uuid.uuid4().hex, uuid.uuid4().hex, "airline.think", "allowed", DETAILS)
        connection.execute("INSERT INTO bare_decision VALUES (?, ?, ?, ?, ?)", values)
        connection.execute(
            "INSERT INTO bare_event VALUES (?, ?, ?)", (uuid.uuid4().hex, "decision.made", DETAILS)
        )
        connection.execute("COMMIT")

    return insert


def main() -> None:
    threads, seconds = int(sys.argv[1]), float(sys.argv[2])
    connect = on_sqlite if os.environ["DATABASE_URL"].startswith("sqlite") else on_postgresql
    counts = [0] * threads
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        insert = connect()
        while time.monotonic() < end:
            insert()
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(sum(counts) / seconds)


if __name__ == "__main__":
    main()
