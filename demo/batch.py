"""A batch of workflow runs through the public API, on systems that fail now and then.

Part of the agent's program: it knows the portal over HTTP only.
"""

import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

SECONDS = 120
RESTING = frozenset(
    {"succeeded", "failed", "halted", "compensated", "compensation_failed", "cancelled"}
)
# Reservations of the recorded conversations, and how their cancellation must end.
MAY_BE_CANCELLED = ("GV1N64", "MZDDS4", "K1NW8N", "FDZ0T5")
A_PERSON_MUST_ATTEST = ("MSJ4OA", "9HBUV8")
MAY_NOT_BE_CANCELLED = ("M20IZO", "NQNU5R")
REPEATED = 5


class Starter(Protocol):
    def start(self, workflow: str, inputs: Any, reference: str) -> str: ...
    def run(self, run_id: str) -> Any: ...


@dataclass(frozen=True)
class Case:
    reservation: str
    expected: str  # succeeds, waits for people, or is halted


def cases() -> list[Case]:
    return [
        *(Case(one, "succeeds") for one in MAY_BE_CANCELLED * REPEATED),
        *(Case(one, "waits") for one in A_PERSON_MUST_ATTEST),
        *(Case(one, "halted") for one in MAY_NOT_BE_CANCELLED),
    ]


def run_batch(runtime: Starter, accounting: str, console: Console) -> int:
    """Start the batch, follow it to rest, print what became of it; how much went wrong."""
    stamp = int(time.time())
    started = {
        runtime.start(
            "cancel-and-refund",
            {"reservation_id": case.reservation, "user_confirmed": True},
            f"batch-{stamp}-{number}",
        ): case
        for number, case in enumerate(cases())
    }
    runtime.start("recertify-certificates", {}, f"recertify-{stamp}")
    bodies = _followed(runtime, list(started), console)
    console.print(_outcomes(started, bodies))
    console.print(_calls(bodies))
    twice = _done_twice(accounting)
    console.print(f"Refunds and postings made twice, by the accounting service's count: {twice}")
    wrong = [run for run, case in started.items() if not _is_as_expected(case, bodies[run])]
    console.print(f"Workflow runs that did not end as they must: {len(wrong)}")
    return len(wrong) + twice


def _followed(runtime: Starter, runs: list[str], console: Console) -> dict[str, Any]:
    """Every run's body once it rests or waits for people."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    bodies: dict[str, Any] = {}
    deadline = time.monotonic() + SECONDS
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("workflow runs, with failures injected", total=len(runs))
        while len(bodies) < len(runs) and time.monotonic() < deadline:
            for run in runs:
                body = None if run in bodies else runtime.run(run)["workflow"]
                if body is not None and _is_at_rest(body):
                    bodies[run] = body
                    progress.advance(bar)
            time.sleep(0.3)
    return {run: bodies.get(run) or runtime.run(run)["workflow"] for run in runs}


def _is_at_rest(body: dict[str, Any]) -> bool:
    return body["status"] in RESTING or any(
        step["waiting_for"] == "approval" for step in body["steps"]
    )


def _is_as_expected(case: Case, body: dict[str, Any]) -> bool:
    asked = any(step["waiting_for"] == "approval" for step in body["steps"])
    if case.expected == "succeeds":
        # A large refund waits for two managers, which is as it must be.
        return (body["status"] == "succeeded" and body["success_condition_met"]) or asked
    if case.expected == "waits":
        return asked
    return bool(body["status"] == "halted")


def _outcomes(started: dict[str, Case], bodies: dict[str, Any]) -> Table:
    table = Table(title="Cancel and refund: runs by what must become of them", title_justify="left")
    table.add_column("must")
    names = ("runs", "succeeded", "wait for people", "halted", "other")
    for name in names:
        table.add_column(name, justify="right")
    for expected in ("succeeds", "waits", "halted"):
        counts: Counter[str] = Counter()
        for run, case in started.items():
            if case.expected == expected:
                counts["runs"] += 1
                counts[_column(bodies[run])] += 1
        table.add_row(expected, *(str(counts[name]) for name in names))
    return table


def _column(body: dict[str, Any]) -> str:
    if any(step["waiting_for"] == "approval" for step in body["steps"]):
        return "wait for people"
    return body["status"] if body["status"] in {"succeeded", "halted"} else "other"


def _calls(bodies: dict[str, Any]) -> Table:
    """Print the calls that failed on the way, and how each ended."""
    table = Table(title="Steps that call accounting", title_justify="left")
    for name in ("step", "runs", "tried again", "attempts in all", "succeeded"):
        table.add_column(name, justify="left" if name == "step" else "right")
    for path in ("refund", "letter"):
        steps = [step for body in bodies.values() for step in body["steps"] if step["path"] == path]
        table.add_row(
            path,
            str(len(steps)),
            str(sum(step["attempts"] > 1 for step in steps)),
            str(sum(step["attempts"] for step in steps)),
            str(sum(step["status"] == "succeeded" for step in steps)),
        )
    return table


def _done_twice(accounting: str) -> int:
    totals = httpx.post(f"{accounting}/totals", json={}, trust_env=False).raise_for_status().json()
    return sum(int(row["effects"]) - int(row["keys"]) for row in totals.values())
