"""Make the secrets of an installation once: `python -m common.local_env FILE [LOG_KEY_FILE]`.

With a second file the log's signing key is written there alone: in production the sealer's process
gets both files, and every other one only the first.

Standard library only: it runs before anything else is configured.
"""

import base64
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path


def write_if_missing(path: Path, log_key: Path | None = None) -> bool:
    """Write the secrets, readable by their owner only, unless they are there already."""
    shared = [
        f"CHANCERY_SECRET_KEY={secrets.token_urlsafe(48)}",
        f"CHANCERY_ENCRYPTION_KEYS={base64.b64encode(secrets.token_bytes(32)).decode()}",
    ]
    of_the_log = [f"CHANCERY_LOG_SIGNING_KEY={base64.b64encode(secrets.token_bytes(32)).decode()}"]
    if log_key is None:
        return _written(path, [*shared, *of_the_log])
    return _written(path, shared) and _written(log_key, of_the_log)


def _written(path: Path, lines: Sequence[str]) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    return True


if __name__ == "__main__":
    write_if_missing(*map(Path, sys.argv[1:3]))
