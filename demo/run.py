"""`make demo`: set the portal up with the airline, start it, and let an agent loose on it.

Everything it makes lives in var/demo and is made anew each time. Ctrl-C ends all it started.
"""

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from common.local_env import write_if_missing

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "var" / "demo"
START_SECONDS = 60
FAULTS = "0.35"  # of the calls to accounting


def free_port(preferred: int) -> int:
    for port in (preferred, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return int(listener.getsockname()[1])
    message = "no free port"
    raise SystemExit(message)


def environment() -> dict[str, str]:
    """A small real set-up: SQLite, a broker beside it, secrets made for this run."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_if_missing(FOLDER / "local.env")
    lines = (FOLDER / "local.env").read_text().splitlines()
    port = free_port(int(os.environ.get("WEB_PORT", "8000")))
    broker = free_port(6399)
    accounting = free_port(8800)
    return {
        **os.environ,
        **dict(line.split("=", 1) for line in lines),
        "CHANCERY_DEMO": "1",
        "CHANCERY_DEMO_AIRLINE_DB": str(FOLDER / "airline.sqlite3"),
        "CHANCERY_DEMO_ACCOUNTING_URL": f"http://127.0.0.1:{accounting}",
        "CHANCERY_WORKFLOW_LEASE_SECONDS": "5",
        "CHANCERY_URL": f"http://localhost:{port}",
        "CHANCERY_AGENT_REQUESTS_PER_MINUTE": "100000",
        "DATABASE_URL": f"sqlite:///{FOLDER / 'chancery.sqlite3'}",
        "REDIS_URL": f"redis://127.0.0.1:{broker}/0",
        "BROKER_PORT": str(broker),
        "WEB_PORT": str(port),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
    }


def step(title: str, *command: str, env: dict[str, str]) -> str:
    """Run one step of the set-up, saying what it is and how long it took; its output."""
    print(f"  {title} …", end="", flush=True)  # noqa: T201
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "manage.py", *command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print()  # noqa: T201
        raise SystemExit(done.stdout + done.stderr)
    print(f" {time.monotonic() - began:.1f} s")  # noqa: T201
    return done.stdout


@contextlib.contextmanager
def accounting(env: dict[str, str]) -> Iterator[None]:
    """The accounting service, failing as real systems do, while the block runs."""
    port = env["CHANCERY_DEMO_ACCOUNTING_URL"].rpartition(":")[2]
    command = ("--port", port, "--db", str(FOLDER / "accounting.sqlite3"), "--faults", FAULTS)
    process = subprocess.Popen([sys.executable, "-m", "demo.accounting", *command], cwd=ROOT)
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextlib.contextmanager
def portal(env: dict[str, str]) -> Iterator[None]:
    """Broker, web, worker and beat, as the Procfile says, while the block runs."""
    log = (FOLDER / "processes.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "honcho", "start"],
        cwd=ROOT,
        env=env,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        wait_until_up(env["CHANCERY_URL"], process)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def wait_until_up(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(f"{url}/oauth/jwks.json", timeout=2).close()
            return
        time.sleep(0.2)
    raise SystemExit((FOLDER / "processes.log").read_text()[-4000:])


def run_agent(env: dict[str, str], options: argparse.Namespace) -> int:
    arguments = ["--url", env["CHANCERY_URL"], "--code-file", str(FOLDER / "enrolment-code")]
    arguments += ["--identity", str(FOLDER / "agent")]
    arguments += ["--accounting", env["CHANCERY_DEMO_ACCOUNTING_URL"]]
    if options.trace:
        arguments += ["--trace", str(options.trace)]
    if options.json:
        arguments += ["--json", str(options.json)]
    if options.strict:
        arguments.append("--strict")
    # The agent's program knows the client package and nothing of the portal.
    env = {**env, "PYTHONPATH": str(ROOT / "clients" / "python")}
    done = subprocess.run(
        [sys.executable, "-m", "demo.agent", *arguments], cwd=ROOT, env=env, check=False
    )
    return done.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trace", type=lambda text: Path(text).resolve())
    parser.add_argument("--json", type=lambda text: Path(text).resolve())
    parser.add_argument("--exit", action="store_true", help="end when the trace is replayed")
    parser.add_argument("--strict", action="store_true", help="fail on a breach of the labels")
    options = parser.parse_args()
    # Being told to stop ends what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    env = environment()
    step("making the database", "migrate", "-v0", env=env)
    step("collecting static files", "collectstatic", "--noinput", "-v0", env=env)
    said = step("environments, tiers, groups, administrator", "bootstrap", env=env)
    code_file = str(FOLDER / "enrolment-code")
    step("the airline and its policy", "demo_setup", "--code-file", code_file, env=env)
    password = re.search(r"Password \(shown once\): (\S+)", said)
    with accounting(env), portal(env):
        status = run_agent(env, options)
        if options.exit:
            return status
        print_invitation(env["CHANCERY_URL"], password.group(1) if password else "(unknown)")
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    print("\nEnded.")  # noqa: T201
    return status


def print_invitation(url: str, password: str) -> None:
    print(  # noqa: T201
        f"""
The portal is running at {url}/admin/
  user      admin
  password  {password}

Four things to try:
  1. Open Approvals, read why a cancellation was parked, approve it, and watch it being executed.
  2. Open Workflow runs, take one that waits, follow its graph, and answer what it asks.
  3. Open Runs, take any, and follow its timeline from decision to outcome.
  4. Open Agents, halt airline-assistant, and see the halt on the home page.

Ctrl-C ends everything that was started here."""
    )


if __name__ == "__main__":
    sys.exit(main())
