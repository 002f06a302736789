"""Run a command with DATABASE_URL on a PostgreSQL that lives as long as the command.

python -m tests.on_postgresql pytest -n 2
"""

import os
import subprocess
import sys

from tests.databases import as_url, start_postgresql


def main() -> int:
    server = start_postgresql()
    try:
        environment = os.environ | {"DATABASE_URL": as_url(server, "postgres")}
        return subprocess.run(sys.argv[1:], env=environment, check=False).returncode
    finally:
        server.cleanup()


if __name__ == "__main__":
    sys.exit(main())
