"""Real servers beside the tests, and how to reach the database under test."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator

from django.db.backends.base.base import BaseDatabaseWrapper

from portal.broker import server as valkey_server


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def url_of(connection: BaseDatabaseWrapper) -> str:
    """The address of the PostgreSQL database under test, for another process."""
    given = connection.settings_dict
    return f"postgres://{given['USER']}@{given['HOST'].replace('/', '%2F')}/{given['NAME']}"


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
