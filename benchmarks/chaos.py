"""Kill -9 workers at random, and count what was lost and what was done twice.

    python -m benchmarks.chaos [--kills 1000] [--workers 4] [--seed 7] [--json FILE]

A batch of runs calls an idempotent tool, one that tells by key what it did, and one that can
neither be repeated nor asked. Workers of the real engine on a real PostgreSQL are killed without
warning, one after the other, until so many have died; the accounting service, which is never
killed, counts every call and every effect by key. Then each run must have ended or wait for a
person, no call may have been made without a committed attempt, and no letter sent twice.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import site

LEASE = 2.0
SWEEP = 0.5
AT_ONCE = 60  # runs kept under way
REST_SECONDS = 90.0

WORKFLOW = """\
workflow: chaos
title: Chaos
schema: 1
roles: [bench]
inputs: {type: object, required: [n], properties: {n: {type: string}}}
steps:
  refund:
    tool: accounting.refund
    with: {reservation: "${ inputs.n }", customer: c, amount: 1}
    retry: {max_attempts: 20, backoff: 50ms, factor: 2, max_backoff: 1s}
  entry:
    needs: [refund]
    tool: accounting.post_entry
    with: {text: "${ steps.refund.output.refund }"}
    retry: {max_attempts: 20, backoff: 50ms, factor: 2, max_backoff: 1s}
  letter:
    needs: [refund]
    tool: accounting.send_letter
    with: {to: "${ inputs.n }"}
    retry: {max_attempts: 20, backoff: 50ms, factor: 2, max_backoff: 1s}
output: {refund: "${ steps.refund.output.refund }"}
"""


@dataclass
class Report:
    kills: int = 0
    runs: int = 0
    succeeded: int = 0
    waiting_for_a_person: int = 0
    lost: int = 0
    attempts: int = 0
    unknown_attempts: int = 0
    late_answers: int = 0
    unrecorded_calls: int = 0
    refunds_twice: int = 0
    entries_twice: int = 0
    letters_twice: int = 0
    out_of_order: int = 0
    worst_recovery_s: float = 0.0
    allowed_recovery_s: float = LEASE + 2 * SWEEP
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def wrong(self) -> int:
        return (
            self.lost
            + self.unrecorded_calls
            + self.refunds_twice
            + self.entries_twice
            + self.letters_twice
            + self.out_of_order
        )


def forked(work: Callable[[], None]) -> int:
    """A child that does the work with connections of its own; its process id."""
    from django.db import connections

    connections.close_all()
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def worker() -> None:
    """Drive what is due until killed."""
    from django.db import DatabaseError, connection

    from workflows.services import driving, sweeping

    chance = random.Random(os.getpid())
    while True:
        try:
            due = sweeping.to_drive(limit=50)
            chance.shuffle(due)
            calls = sum(driving.drive(run_id) for run_id in due[:10])
        except DatabaseError:
            connection.close()
            calls = 0
        if not calls:
            time.sleep(0.02)


def sweeper() -> None:
    from django.db import DatabaseError, connection

    from actions.services import settling

    while True:
        try:
            settling.settle_abandoned()
        except DatabaseError:
            connection.close()
        time.sleep(SWEEP)


class Feeder:
    """Keeps a number of runs under way."""

    def __init__(self, caller: Any) -> None:
        self._caller = caller
        self.started = 0

    def top_up(self) -> None:
        from workflows.models import WorkflowRun

        open_ones = WorkflowRun.objects.filter(status__in=["running", "waiting"], unknown_count=0)
        for _ in range(AT_ONCE - open_ones.count()):
            self.start()

    def start(self) -> None:
        from actions.models import Run
        from common.actors import SYSTEM
        from workflows.services import starting

        self.started += 1
        asked = starting.Start(
            workflow="chaos",
            inputs={"n": str(self.started)},
            key=str(self.started),
            initiator_kind=Run.Initiator.AGENT,
            initiator="bench",
        )
        starting.start(self._caller, asked, actor=SYSTEM)


def storm(options: argparse.Namespace, caller: Any, report: Report) -> None:
    """Kill until it is enough, then let the survivors bring everything to rest."""
    chance = random.Random(options.seed)
    feeder = Feeder(caller)
    feeder.top_up()
    workers = [forked(worker) for _ in range(options.workers)]
    sweepers = [forked(sweeper) for _ in range(2)]
    try:
        while report.kills < options.kills:
            time.sleep(chance.uniform(0.01, options.pause))
            place = chance.randrange(len(workers))
            os.kill(workers[place], signal.SIGKILL)
            os.waitpid(workers[place], 0)
            report.kills += 1
            workers[place] = forked(worker)
            if report.kills % 10 == 0:
                feeder.top_up()
                _say(f"\r{report.kills} of {options.kills} kills, {feeder.started} runs started")
        _say("\nletting the survivors finish\n")
        _until_rest()
    finally:
        for pid in (*workers, *sweepers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    report.runs = feeder.started


def _say(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _until_rest() -> None:
    """Until every run has ended or waits for a person alone, or it has been too long."""
    from workflows.models import StepRun, WorkflowRun

    deadline = time.monotonic() + REST_SECONDS
    moving = StepRun.objects.filter(status__in=["running", "retry", "waiting"]).values("run_id")
    unknown = StepRun.objects.filter(status="unknown", due_at=None).values("run_id")
    while time.monotonic() < deadline:
        unfinished = WorkflowRun.objects.unfinished()
        resting = unfinished.filter(pk__in=unknown).exclude(pk__in=moving)
        if not unfinished.exclude(pk__in=resting.values("pk")).exists():
            return
        time.sleep(0.3)


def judge(books: Path, report: Report) -> None:
    """Hold the portal's record against the service's count."""
    import sqlite3

    from actions.models import Attempt
    from workflows.models import StepRun, WorkflowRun

    runs = WorkflowRun.objects.all()
    report.succeeded = runs.filter(status="succeeded").count()
    report.waiting_for_a_person = runs.unfinished().filter(unknown_count__gt=0).count()
    report.lost = report.runs - report.succeeded - report.waiting_for_a_person
    attempts: dict[str, int] = {}
    for action_id, status, lease_until, ended in Attempt.objects.values_list(
        "action_id", "status", "lease_until", "ended_at"
    ):
        attempts[str(action_id)] = attempts.get(str(action_id), 0) + 1
        report.attempts += 1
        if status in {"unknown", "late"}:
            report.unknown_attempts += 1
            report.late_answers += status == "late"
            if ended is None:
                continue
            late = (ended - lease_until).total_seconds() + LEASE
            report.worst_recovery_s = max(report.worst_recovery_s, round(late, 2))
    with sqlite3.connect(f"file:{books}?mode=ro", uri=True) as db:
        for key, calls in db.execute("SELECT key, count(*) FROM calls GROUP BY key"):
            if calls > attempts.get(key, 0):
                report.unrecorded_calls += 1
                report.problems.append(f"{key}: {calls} calls, {attempts.get(key, 0)} attempts")
        for operation, effects, keys in db.execute(
            "SELECT operation, count(*), count(DISTINCT key) FROM effects GROUP BY operation"
        ):
            name = {"refund": "refunds", "post_entry": "entries", "send_letter": "letters"}
            setattr(report, f"{name[operation]}_twice", effects - keys)
    for run_id, finished in _finished().items():
        wrong = finished.get("refund", 0) > min(finished.get("entry", 1e9), finished["letter"])
        if wrong and runs.filter(pk=run_id, status="succeeded").exists():
            report.out_of_order += 1
    whole = StepRun.objects.filter(run__status="succeeded").exclude(status="succeeded")
    report.out_of_order += whole.count()


def _finished() -> dict[Any, dict[str, float]]:
    from workflows.models import StepRun

    found: dict[Any, dict[str, float]] = {}
    for run_id, path, seq in StepRun.objects.values_list("run_id", "path", "finished_seq"):
        found.setdefault(run_id, {"letter": 1e9})[path] = seq if seq is not None else 1e9
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.15, help="longest time between kills")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--faults", default="0.1", help="part of calls that fail by themselves")
    parser.add_argument("--database", help="a migrated and empty PostgreSQL; else one of its own")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    began = time.monotonic()
    report = Report()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chancery-chaos-")))
        url = options.database or stack.enter_context(site.postgresql())
        books = stack.enter_context(
            site.accounting(folder, "--slow-ms", "8", "--faults", options.faults)
        )
        site.configure(url, lease=LEASE, accounting=books)
        from django.core.management import call_command

        if not options.database:
            call_command("migrate", verbosity=0)
        caller = site.furnish(books, WORKFLOW)
        storm(options, caller, report)
        judge(folder / "books.sqlite3", report)
        from django.db import connections

        connections.close_all()
    report.seconds = round(time.monotonic() - began, 1)
    print(json.dumps(asdict(report), indent=1))
    if options.json:
        options.json.write_text(json.dumps(asdict(report)))
    too_slow = report.worst_recovery_s > report.allowed_recovery_s
    return 1 if report.wrong() or too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
