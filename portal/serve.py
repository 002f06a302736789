"""`make run`: the portal alone on this machine, with SQLite and a broker beside it."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    lines = (ROOT / "var" / "local.env").read_text().splitlines()
    broker_port = os.environ.get("BROKER_PORT", "6399")
    port = os.environ.get("WEB_PORT", "8000")
    env = {
        "CHANCERY_URL": f"http://localhost:{port}",
        "REDIS_URL": f"redis://127.0.0.1:{broker_port}/0",
        "BROKER_PORT": broker_port,
        "WEB_PORT": port,
        **dict(line.split("=", 1) for line in lines if "=" in line),
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    for command in (["migrate", "-v0"], ["collectstatic", "--noinput", "-v0"], ["bootstrap"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True)
    print(f"The portal runs at {env['CHANCERY_URL']}/admin/. Ctrl-C ends it.", flush=True)  # noqa: T201
    honcho = [sys.executable, "-m", "honcho", "start"]
    try:
        return subprocess.run(honcho, cwd=ROOT, env=env, check=False).returncode
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
