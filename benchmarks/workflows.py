"""How fast workflows are, beside DBOS on the same PostgreSQL. One run, rounds in turn, ratios.

    python -m benchmarks.workflows [--seconds 4] [--rounds 5] [--out FILE]

1. A chain of three steps that do nothing: steps per second with 1 and 4 processes, ours and DBOS.
2. The same through Celery and a real broker: steps per second, and the time of one run.
3. From a person's decision to the next attempt.
4. A sweep while 100,000 runs wait.

DBOS lives in an environment of its own, var/dbos, made from benchmarks/requirements.txt.
"""

import argparse
import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import fixtures

ROOT = Path(__file__).resolve().parent.parent
DBOS = ROOT / "var" / "dbos"
WAITING = 100_000
CELERY = """\
workflow: thinking
title: Thinking
schema: 1
roles: [bench]
steps:
  one: {tool: airline.think, with: {thought: a}}
  two: {needs: [one], tool: airline.think, with: {thought: b}}
  three: {needs: [two], tool: airline.think, with: {thought: c}}
"""
ASKING = """\
workflow: asking
title: Asking
schema: 1
roles: [bench]
steps:
  one: {tool: airline.calculate, with: {expression: "1 + 1"}}
"""
GATE = (
    '@id("gate") @tier("manager") @reason("x") '
    'forbid(principal, action == Action::"airline.calculate", resource);'
)


def dbos_python() -> str:
    """DBOS's own interpreter, installed if it is not there."""
    found = DBOS / "bin" / "python"
    if not found.exists():
        subprocess.run([sys.executable, "-m", "venv", str(DBOS)], check=True)
        install = [str(found), "-m", "pip", "install", "--quiet", "--require-hashes"]
        subprocess.run([*install, "-r", "benchmarks/requirements.txt"], cwd=ROOT, check=True)
    return str(found)


def together(commands: list[list[str]], env: dict[str, str]) -> float:
    """The sum of what several processes print, which begin at the same moment."""
    started = [
        subprocess.Popen(
            command, cwd=ROOT, env=env, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True
        )
        for command in commands
    ]
    for process in started:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "ready":
            if process.poll() is not None:
                message = "a process ended before it was ready"
                raise SystemExit(message)
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return sum(float(process.communicate()[0]) for process in started)


def chains(seconds: float, rounds: int, dbos_url: str) -> list[str]:
    lines = ["| processes | ours steps/s | DBOS 3.4 steps/s | ratio |", "|---:|---:|---:|---:|"]
    python = dbos_python()
    for processes in (1, 4):
        ours: list[float] = []
        theirs: list[float] = []
        for turn in range(rounds):
            mine = [sys.executable, "-m", "benchmarks.workflow_chancery", str(seconds)]
            ours.append(together([mine] * processes, dict(os.environ)))
            script = [python, "benchmarks/workflow_dbos.py", dbos_url, str(seconds)]
            names = [f"bench-{turn}-{number}" for number in range(processes)]
            theirs.append(together([[*script, name] for name in names], dict(os.environ)))
        us, them = statistics.median(ours), statistics.median(theirs)
        lines.append(f"| {processes} | {us:,.0f} | {them:,.0f} | {us / them:.2f} |")
    return lines


# -- Celery --------------------------------------------------------------------------------------


@contextlib.contextmanager
def worker() -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "-A", "portal", "worker", "--concurrency", "2"]
    process = subprocess.Popen(
        [*command, "--loglevel", "error", "--without-gossip", "--without-mingle"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=30)


def start(caller: Any, slug: str) -> Any:
    from actions.models import Run
    from common.actors import SYSTEM
    from common.ids import uuid7
    from workflows.services import runs

    asked = runs.Start(
        workflow=slug,
        inputs={},
        key=str(uuid7()),
        initiator_kind=Run.Initiator.AGENT,
        initiator="bench",
    )
    return runs.start(caller, asked, actor=SYSTEM)[0].pk


def ended(ids: list[Any], seconds: float = 120) -> list[Any]:
    from workflows.models import WorkflowRun

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = WorkflowRun.objects.filter(pk__in=ids, ended_at__isnull=False)
        if found.count() == len(ids):
            return list(found)
        time.sleep(0.05)
    message = "the runs did not end"
    raise SystemExit(message)


def quantiles(values: list[float]) -> tuple[float, float]:
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]


def through_celery(caller: Any) -> list[str]:
    with worker():
        ended([start(caller, "thinking") for _ in range(20)])
        began = time.perf_counter()
        runs = ended([start(caller, "thinking") for _ in range(300)])
        rate = 3 * len(runs) / (time.perf_counter() - began)
        alone = []
        for _ in range(100):
            [run] = ended([start(caller, "thinking")])
            alone.append((run.ended_at - run.started_at).total_seconds() * 1000)
        decided = from_decision(caller)
    middle, high = quantiles(alone)
    return [
        "| measured | | goal |",
        "|---|---:|---:|",
        f"| steps per second through Celery, two children | {rate:,.0f} | ≥ 150 |",
        f"| a run of three steps, start to end, p50 | {middle:.0f} ms | ≤ 40 ms |",
        f"| a run of three steps, start to end, p95 | {high:.0f} ms | ≤ 80 ms |",
        f"| from a person's decision to the next attempt, p95 | {decided:.0f} ms | ≤ 250 ms |",
    ]


def from_decision(caller: Any) -> float:
    """The 95th percentile in milliseconds, from the vote's commit to the attempt's start."""
    from django.contrib.auth.models import Group

    from accounts.models import Groups, User
    from actions.models import Attempt
    from approvals.models import ApprovalRequest, Vote
    from approvals.services import cast_vote
    from common.actors import Actor

    person = User.objects.create_user("bench-manager", is_active=True)
    person.groups.add(Group.objects.get(name=Groups.MANAGERS))
    ids = [start(caller, "asking") for _ in range(60)]
    while ApprovalRequest.objects.pending().count() < len(ids):
        time.sleep(0.05)
    times = []
    for request in ApprovalRequest.objects.pending():
        cast_vote(
            request.pk, actor=Actor.from_user(person), answer=Vote.Answer.APPROVE, reason="Yes."
        )
        voted = time.time()
        found = None
        while found is None:
            found = Attempt.objects.filter(action_id=request.subject_id).first()
            time.sleep(0.002)
        times.append((found.started_at.timestamp() - voted) * 1000)
    ended(ids)
    return quantiles(times)[1]


# -- the sweep -----------------------------------------------------------------------------------


def sweeping(caller: Any) -> list[str]:
    from django.db import connection

    from workflows.services import sweeper as service

    one = start(caller, "asking")
    with connection.cursor() as cursor:
        for table, key in (("actions_run", "id"), ("workflows_workflowrun", "run_id")):
            cursor.execute(f"SELECT * FROM {table} LIMIT 0")
            names = [column.name for column in cursor.description]
            given = {
                key: "md5('bench' || n)::uuid",
                "idempotency_key": "'bench' || n",
                "next_wake_at": "now() + interval '9 days'",
                "last_hint_at": "NULL",
            }
            picked = ", ".join(given.get(name, name) for name in names)
            cursor.execute(
                f"INSERT INTO {table} ({', '.join(names)}) SELECT {picked} FROM {table}, "
                f"generate_series(1, {WAITING}) AS n WHERE {table}.{key} = %s",
                [one],
            )
        cursor.execute("ANALYZE")
    times = []
    for _ in range(200):
        began = time.perf_counter()
        service.sweep()
        times.append((time.perf_counter() - began) * 1000)
    middle, high = quantiles(times)
    return [
        f"| a sweep while {WAITING:,} runs wait, p50 | {middle:.1f} ms | ≤ 5 ms |",
        f"| the same, p95 | {high:.1f} ms | |",
    ]


# -- the whole -----------------------------------------------------------------------------------


def furnished(url: str) -> Any:
    """The benchmark's agent with tools that do nothing, in this process and in the worker's."""
    from django.core.management import call_command

    from accounts.models import Environment
    from benchmarks.workflow_chancery import WORKFLOW
    from common.actors import SYSTEM
    from demo.catalogue import definitions
    from policies.models import Role
    from policies.services import grants, releases
    from tools.models import System, Tool
    from tools.services.registration import define_tool, register_system, set_endpoint
    from workflows.services import versions

    call_command("migrate", verbosity=0)
    call_command("bootstrap", verbosity=0, stdout=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    caller = fixtures.furnish("http://127.0.0.1:9")
    role, prod = Role.objects.get(slug="bench"), Environment.objects.get(slug="prod")
    schema = {"type": "object", "properties": {"value": {"type": "integer"}}}
    result = {"type": "object", "required": ["value"], "properties": schema["properties"]}
    add = {"title": "Add", "access": "write", "idempotent": True}
    for slug, tools in (
        ("noop", [("add", {**add, "input_schema": schema, "output_schema": result})]),
        ("airline", [one for one in definitions() if one[0] in {"think", "calculate"}]),
    ):
        system = register_system(slug, actor=SYSTEM, title=slug, kind=System.Kind.IN_PROCESS)
        set_endpoint(system, prod, actor=SYSTEM)
        for name, attributes in tools:
            define_tool(system, name, actor=SYSTEM, **attributes)
        for access in Tool.Access:
            grants.grant(role, system, access, actor=SYSTEM)
    releases.save_policy("gate", GATE, actor=SYSTEM)
    releases.publish(releases.draft_release(actor=SYSTEM).pk, actor=SYSTEM)
    for text in (WORKFLOW, CELERY, ASKING):
        versions.publish(versions.draft_version(text, actor=SYSTEM).pk, actor=SYSTEM)
    return caller


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        "# Workflow benchmark",
        "",
        f"Written by `python -m benchmarks.workflows` on {platform.machine()} with "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, PostgreSQL beside it with "
        "its usual durability. Rounds in turn, medians. Read the ratios.",
        "",
        "## A chain of three steps that do nothing",
        "",
    ]
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(fixtures.postgresql()).url
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        broker = stack.enter_context(fixtures.broker())
        os.environ |= {
            "CHANCERY_DEMO": "1",
            "CHANCERY_DEMO_AIRLINE_DB": f"{folder}/airline.sqlite3",
            "DJANGO_SETTINGS_MODULE": "portal.settings",
        }
        fixtures.configure(url, lease=30, accounting="http://127.0.0.1:9", broker=broker)
        caller = furnished(url)
        dbos_url = fixtures.second_database(url)
        lines += chains(options.seconds, options.rounds, dbos_url)
        lines += ["", "## Through Celery", "", *through_celery(caller), *sweeping(caller)]
        from django.db import connections

        connections.close_all()
    lines += ["", *NOTES]
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


NOTES = (
    "Ours decides each step by policy, commits its attempt before the call, and records decision, "
    "call and answer; DBOS writes one row after each step and no intent. Goals: 1.2 times DBOS at "
    "one process, 1.5 times at four.",
)


if __name__ == "__main__":
    main()
