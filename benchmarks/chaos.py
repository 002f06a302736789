"""Kill -9 workers at random, and count what was lost and what was done twice.

    python -m benchmarks.chaos [--kills 1000] [--stops 0] [--restarts 0] [--seed 7] [--json FILE]

A batch of runs calls an idempotent tool, one that tells by key what it did, and one that can
neither be repeated nor asked. Workers of the real engine on a real PostgreSQL are killed without
warning, one after the other, until so many have died; the accounting service, which is never
killed, counts every call and every effect by key. Workers can also be stopped for longer than
their lease and let go on (--stops), and PostgreSQL restarted as by a power cut (--restarts). Then
each run must have ended or wait for a person, no call may have been made without a committed
attempt, and no letter sent twice.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import fixtures

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
    stops: int = 0
    restarts: int = 0
    runs: int = 0
    succeeded: int = 0
    waiting_for_a_person: int = 0
    failed_as_poisoned: int = 0
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
    from django.db import DatabaseError, InterfaceError, connection

    from workflows.services import sweeper, worker

    chance = random.Random(os.getpid())
    while True:
        try:
            due = sweeper.to_drive(limit=50)
            chance.shuffle(due)
            calls = sum(worker.run_until_idle(run_id) for run_id in due[:10])
        except (DatabaseError, InterfaceError):
            connection.close()
            calls = 0
        if not calls:
            time.sleep(0.02)


def sweeper() -> None:
    from django.db import DatabaseError, InterfaceError, connection

    from actions.services import recovery

    while True:
        began = time.monotonic()
        try:
            recovery.reap_abandoned()
        except (DatabaseError, InterfaceError):
            connection.close()
        time.sleep(max(0.0, SWEEP - (time.monotonic() - began)))


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
        from workflows.services import runs

        asked = runs.Start(
            workflow="chaos",
            inputs={"n": str(self.started + 1)},
            key=str(self.started + 1),
            initiator_kind=Run.Initiator.AGENT,
            initiator="bench",
        )
        runs.start(self._caller, asked, actor=SYSTEM)
        self.started += 1


@dataclass
class Storm:
    """The processes, and what is done to them."""

    options: argparse.Namespace
    report: Report
    feeder: Feeder
    database: fixtures.Database | None
    chance: random.Random
    workers: list[int] = field(default_factory=list)
    sweepers: list[int] = field(default_factory=list)

    def rage(self) -> None:
        """Do harm until it is enough, then let the survivors bring everything to rest."""
        kinds = {"kill": self.options.kills, "stop": self.options.stops}
        harm = [kind for kind, number in kinds.items() for _ in range(number)]
        self.chance.shuffle(harm)
        for place in range(self.options.restarts):
            harm.insert((place + 1) * len(harm) // (self.options.restarts + 1), "restart")
        _patiently(self.feeder.top_up)
        self.workers = [forked(worker) for _ in range(self.options.workers)]
        self.sweepers = [forked(sweeper) for _ in range(2)]
        try:
            for number, kind in enumerate(harm, start=1):
                time.sleep(self.chance.uniform(0.01, self.options.pause))
                getattr(self, kind)()
                if number % 10 == 0:
                    _patiently(self.feeder.top_up)
                    _say(f"\r{number} of {len(harm)} done, {self.feeder.started} runs started")
            _say("\nletting the survivors finish\n")
            _patiently(_until_rest)
        finally:
            self._end()
        self.report.runs = self.feeder.started

    def kill(self) -> None:
        place = self.chance.randrange(len(self.workers))
        os.kill(self.workers[place], signal.SIGKILL)
        os.waitpid(self.workers[place], 0)
        self.report.kills += 1
        self.workers[place] = forked(worker)

    def stop(self) -> None:
        """A worker that is not scheduled for longer than its lease, and then goes on."""
        pid = self.workers[self.chance.randrange(len(self.workers))]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(LEASE + 3 * SWEEP)
        os.kill(pid, signal.SIGCONT)
        self.report.stops += 1

    def restart(self) -> None:
        if self.database is not None:
            self.database.restart_at_once()
            self.report.restarts += 1

    def _end(self) -> None:
        for pid in (*self.workers, *self.sweepers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _patiently(work: Callable[[], None]) -> None:
    """The harm done may reach this process too."""
    from django.db import DatabaseError, InterfaceError, connection

    for _ in range(20):
        try:
            work()
        except (DatabaseError, InterfaceError):
            connection.close()
            time.sleep(0.5)
        else:
            return


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
    from workflows.models import StepRun, WorkflowRun

    runs = WorkflowRun.objects.all()
    report.succeeded = runs.filter(status="succeeded").count()
    report.waiting_for_a_person = runs.unfinished().filter(unknown_count__gt=0).count()
    _look_at_the_rest(report)
    _count_calls(books, report, _count_attempts(report))
    whole = StepRun.objects.filter(run__status="succeeded")
    report.out_of_order = whole.exclude(status="succeeded").count()
    succeeded = set(runs.filter(status="succeeded").values_list("pk", flat=True))
    for run_id, finished in _finished().items():
        first = min(finished.get("entry", 1e9), finished.get("letter", 1e9))
        if run_id in succeeded and finished.get("refund", 0) > first:
            report.out_of_order += 1


def _look_at_the_rest(report: Report) -> None:
    """What became of the others: failed by the law of poison, or lost.

    A step during which a worker died three times fails with ``poison``, so that it cannot take
    down one worker after the other; among a thousand kills by chance this meets some innocent.
    """
    from workflows.models import StepRun, WorkflowRun

    runs = WorkflowRun.objects.all()
    poisoned = StepRun.objects.filter(status="failed", error_code="poison").values("run_id")
    report.failed_as_poisoned = runs.filter(status="failed", pk__in=poisoned).count()
    known = report.succeeded + report.waiting_for_a_person + report.failed_as_poisoned
    report.lost = report.runs - known
    others = runs.exclude(status="succeeded").exclude(pk__in=poisoned).filter(unknown_count=0)
    for run in others:
        steps = run.steps.values_list("path", "status", "error_code", "due_at", "crashes")
        report.problems.append(f"run {run.pk} {run.status} due {run.next_wake_at}: {list(steps)}")


def _count_attempts(report: Report) -> dict[str, int]:
    """How many attempts each action has; how long those that were given up stayed open."""
    from actions.models import Attempt

    attempts: dict[str, int] = {}
    for action_id, status, lease_until, ended, code in Attempt.objects.values_list(
        "action_id", "status", "lease_until", "ended_at", "error_code"
    ):
        attempts[str(action_id)] = attempts.get(str(action_id), 0) + 1
        report.attempts += 1
        report.unknown_attempts += status in {"unknown", "late"}
        report.late_answers += status == "late"
        if code == "abandoned" and ended is not None:
            late = (ended - lease_until).total_seconds() + LEASE
            report.worst_recovery_s = max(report.worst_recovery_s, round(late, 2))
    return attempts


def _count_calls(books: Path, report: Report, attempts: dict[str, int]) -> None:
    """What the service was asked for and did, by key."""
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


def _finished() -> dict[Any, dict[str, float]]:
    from workflows.models import StepRun

    found: dict[Any, dict[str, float]] = {}
    for run_id, path, seq in StepRun.objects.values_list("run_id", "path", "finished_seq"):
        found.setdefault(run_id, {})[path] = seq if seq is not None else 1e9
    return found


def options_given() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--stops", type=int, default=0, help="workers stopped for a while")
    parser.add_argument("--restarts", type=int, default=0, help="of PostgreSQL, immediately")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--pause", type=float, default=0.15, help="longest time between harms")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--faults", default="0.1", help="part of calls that fail by themselves")
    parser.add_argument("--database", help="address of an empty one; else a PostgreSQL of its own")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> int:
    options, report = options_given(), Report()
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chancery-chaos-")))
        database = None if options.database else stack.enter_context(fixtures.postgresql())
        books = stack.enter_context(
            fixtures.accounting(folder, "--slow-ms", "8", "--faults", options.faults)
        )
        url = options.database or (database.url if database else "")
        fixtures.configure(url, lease=LEASE, accounting=books)
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        feeder = Feeder(fixtures.furnish(books, WORKFLOW))
        Storm(options, report, feeder, database, random.Random(options.seed)).rage()
        judge(folder / "books.sqlite3", report)
        connections.close_all()
    report.seconds = round(time.monotonic() - began, 1)
    print(json.dumps(asdict(report), indent=1))
    if options.json:
        options.json.write_text(json.dumps(asdict(report)))
    too_slow = report.worst_recovery_s > report.allowed_recovery_s
    return 1 if report.wrong() or too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
