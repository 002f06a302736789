"""An agent runtime: enrols its key, gets tokens, opens runs and replays a recorded trace.

A program of its own. It talks to the portal over HTTP only and imports nothing of it.

    python -m demo.agent --url http://localhost:8000 --code-file CODE --identity FOLDER
"""

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from chancery_client import Chancery
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from demo.batch import run_batch

TRACE = Path(__file__).resolve().parent / "airline" / "data" / "trace.jsonl"
OUTCOMES = ("allowed", "needs_approval", "denied", "halted")
SYSTEM = "airline"
# A denial by these rules alone means: ask the customer first, then propose it again.
CONFIRMING = {"ask-the-customer-first", "ask-before-cancelling", "ask-before-changing-flights"}


class Runtime:
    """The agent's side of the portal, by the client that any agent would use."""

    def __init__(self, url: str, identity: Path) -> None:
        # What is on this machine needs no proxy, whatever the environment says.
        self._agent = Chancery(url, identity, transport=httpx.HTTPTransport())

    def close(self) -> None:
        self._agent.close()

    def enrol(self, code: str) -> str:
        """Make a key and hand over its public part against the one-time code; the client id."""
        return self._agent.enrol(code)

    @property
    def token(self) -> str:
        """The token of the last request."""
        return self._agent.token

    def tools(self) -> dict[str, Any]:
        return {tool["tool"]: tool for tool in self._agent.tools()}

    def open_run(self, reference: str) -> str:
        run = self._agent.run(
            f"Serve a customer (recorded conversation {reference})",
            initiator="customer on chat",
            reference=reference,
        )
        return run.id

    def propose(self, run: str, tool: str, arguments: Any, claims: Any) -> httpx.Response:
        """The answer itself, with what the portal says of the time that it took."""
        body = {"run": run, "tool": tool, "arguments": arguments, "claims": claims}
        headers = {"Idempotency-Key": str(uuid4())}
        return self._agent.request("POST", "/api/v1/actions", json=body, headers=headers)

    def start(self, workflow: str, inputs: Any, reference: str) -> str:
        """Start a run of a workflow; its identifier."""
        body = {
            "inputs": inputs,
            "initiator_kind": "user",
            "initiator": "customer on chat",
            "reference": reference,
        }
        headers = {"Idempotency-Key": reference}
        path = f"/api/v1/workflows/{workflow}/runs"
        answer = self._agent.request("POST", path, json=body, headers=headers)
        return str(answer.raise_for_status().json()["id"])

    def run(self, run_id: str) -> Any:
        return self._agent.request("GET", f"/api/v1/runs/{run_id}").raise_for_status().json()


@dataclass(frozen=True)
class Replayed:
    """One call of the trace and what the portal said."""

    run: str
    seq: int
    tool: str
    expected: str
    labels: tuple[str, ...]
    outcome: str
    tier: str | None
    rules: tuple[str, ...]
    reason: str
    decision_ms: float
    round_trip_ms: float

    @property
    def asks_customer(self) -> bool:
        return self.outcome == "denied" and set(self.rules) <= CONFIRMING

    @property
    def agrees(self) -> bool:
        if self.expected == "confirm":
            return self.asks_customer
        if self.expected == "deny":
            return self.outcome in {"denied", "halted"} and not self.asks_customer
        wanted = {"allow": "allowed", "approval": "needs_approval"}.get(self.expected)
        return wanted is None or self.outcome == wanted


@dataclass
class Replay:
    calls: list[Replayed] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        members = ("run", "seq", "tool", "outcome", "tier")
        return {
            "calls": [
                {**{name: getattr(call, name) for name in members}, "rules": list(call.rules)}
                for call in self.calls
            ]
        }


def replay(runtime: Runtime, runs: list[dict[str, Any]], console: Console) -> Replay:
    """Every call of every run, in order, through the public API."""
    tools = runtime.tools()
    result = Replay()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("replaying calls", total=sum(len(r["calls"]) for r in runs))
        for run in runs:
            run_id = runtime.open_run(run["run"])
            for call in run["calls"]:
                result.calls.append(_replayed(runtime, tools, run["run"], run_id, call=call))
                progress.advance(bar)
    return result


def _replayed(
    runtime: Runtime, tools: dict[str, Any], run: str, run_id: str, *, call: dict[str, Any]
) -> Replayed:
    tool = f"{SYSTEM}.{call['tool']}"
    declared = {claim["name"] for claim in tools.get(tool, {}).get("claims", ())}
    claims = {"user_confirmed": call.get("user_confirmed", False)}
    began = time.perf_counter()
    response = runtime.propose(
        run_id,
        tool,
        call["arguments"],
        {name: value for name, value in claims.items() if name in declared},
    )
    round_trip = (time.perf_counter() - began) * 1000
    decision = _decision(response)
    return Replayed(
        run=run,
        seq=call["seq"],
        tool=call["tool"],
        expected=call.get("expected", ""),
        labels=tuple(call.get("rules", ())),
        decision_ms=_decide_ms(response),
        round_trip_ms=round_trip,
        **decision,
    )


def _decision(response: httpx.Response) -> dict[str, Any]:
    """Return the decision. A call that the API refuses as malformed is not executed: denied."""
    body = response.json()
    if response.status_code not in {200, 201}:
        if response.status_code >= 500 or response.status_code == 429:
            response.raise_for_status()
        return {
            "outcome": "denied",
            "tier": None,
            "rules": (body["code"],),
            "reason": body["detail"],
        }
    decision = body["decision"]
    return {
        "outcome": decision["outcome"],
        "tier": decision["tier"],
        "rules": tuple(reason["rule"] for reason in decision["reasons"]),
        "reason": " ".join(reason["reason"] for reason in decision["reasons"]),
    }


def _decide_ms(response: httpx.Response) -> float:
    timing = response.headers.get("Server-Timing", "decide;dur=0")
    return float(timing.rpartition("dur=")[2])


def outcome_table(calls: list[Replayed]) -> Table:
    table = Table(title="Calls by label and outcome", title_justify="left")
    table.add_column("label")
    for name in ("calls", "allowed", "approval", "denied", "ask first", "halted", "agree"):
        table.add_column(name, justify="right")
    known = ["allow", "confirm", "approval", "deny"]
    labels = known + sorted({call.expected for call in calls} - set(known))
    for label in labels:
        of_label = [call for call in calls if call.expected == label]
        counts = Counter(_column(call) for call in of_label)
        table.add_row(
            label or "(none)",
            str(len(of_label)),
            *(str(counts[name]) for name in (*OUTCOMES[:3], "ask", "halted")),
            str(sum(call.agrees for call in of_label)),
        )
    return table


def _column(call: Replayed) -> str:
    return "ask" if call.asks_customer else call.outcome


def timing_table(calls: list[Replayed]) -> Table:
    table = Table(title="Time of a decision", title_justify="left")
    table.add_column("measured")
    table.add_column("p50 ms", justify="right")
    table.add_column("p95 ms", justify="right")
    for title, values in (
        ("decided and committed, in the portal", [call.decision_ms for call in calls]),
        ("round trip with execution, seen by the agent", [call.round_trip_ms for call in calls]),
    ):
        table.add_row(title, *(f"{value:.1f}" for value in _quantiles(values)))
    return table


def _quantiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (values[0], values[0]) if values else (0.0, 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]


def disagreements(calls: list[Replayed]) -> Iterator[str]:
    for call in calls:
        if not call.agrees:
            yield (
                f"{call.run} #{call.seq} {call.tool}: labelled {call.expected} "
                f"{list(call.labels)}, {call.outcome} by {list(call.rules)}: {call.reason}"
            )


def breaches(calls: list[Replayed]) -> list[Replayed]:
    """Return the cases that must not be: a labelled denial let through, or an allowance refused."""
    return [
        call
        for call in calls
        if (call.expected == "deny" and (call.outcome == "allowed" or call.asks_customer))
        or (call.expected == "allow" and call.outcome != "allowed")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--code-file", type=Path, required=True)
    parser.add_argument("--identity", type=Path, required=True, help="a folder for its key")
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path, help="where to write every call's outcome")
    parser.add_argument("--accounting", help="the accounting service, to run workflows on")
    parser.add_argument("--strict", action="store_true", help="fail on a breach of the labels")
    options = parser.parse_args()
    console = Console()
    runs = [json.loads(line) for line in options.trace.read_text().splitlines() if line.strip()]
    runtime = Runtime(options.url, options.identity)
    client_id = runtime.enrol(options.code_file.read_text().strip())
    console.print(f"Enrolled as [bold]{client_id}[/bold]; {len(runs)} recorded conversations.")
    calls = replay(runtime, runs, console).calls
    console.print(outcome_table(calls))
    console.print(timing_table(calls))
    for line in disagreements(calls):
        console.print(line, highlight=False, markup=False)
    if options.json:
        options.json.write_text(json.dumps(Replay(calls).plain(), indent=1))
    broken = breaches(calls)
    console.print(f"Breaches of the labels: {len(broken)}")
    wrong = len(broken)
    if options.accounting:
        wrong += run_batch(runtime, options.accounting, console)
    return 1 if wrong and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
