"""Make the secrets of a local installation once: `python -m common.local_env FILE`.

Standard library only: it runs before anything else is configured.
"""

import base64
import os
import secrets
import sys
from pathlib import Path


def written(path: Path) -> bool:
    """Write the file, readable by its owner only, unless it is there already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (
        f"CHANCERY_SECRET_KEY={secrets.token_urlsafe(48)}",
        f"CHANCERY_SEALING_KEY={base64.b64encode(secrets.token_bytes(32)).decode()}",
        f"CHANCERY_LOG_SIGNING_KEY={base64.b64encode(secrets.token_bytes(32)).decode()}",
    )
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
    return True


if __name__ == "__main__":
    written(Path(sys.argv[1]))
