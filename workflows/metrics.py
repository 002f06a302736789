"""Recent figures of workflows, tools and endpoints: bounded reads, by keys that grow."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone

from actions.models import Attempt
from common.ids import first_key_at
from tools.models import Breaker
from workflows.models import StepRun, Workflow, WorkflowRun

PERIOD = timedelta(days=1)
MAX_READ = 5_000


@dataclass(frozen=True)
class ToolFigures:
    """One tool in one environment."""

    tool: str
    environment: str
    calls: int
    failed: int
    unknown: int
    again: int
    p50_ms: float
    p95_ms: float
    breaker: str


@dataclass(frozen=True)
class WorkflowFigures:
    """One workflow: its runs of the period, the latest MAX_READ of them."""

    workflow: str
    runs: int
    ended: int
    succeeded: int
    good: int
    judged: int
    partial: int
    p50_s: float
    p95_s: float
    waited_p50_s: float


def quantiles(values: list[float]) -> tuple[float, float]:
    """The middle and the 95th percentile; zeros of nothing."""
    if len(values) < 2:
        return (values[0], values[0]) if values else (0.0, 0.0)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[94]


def of_tools(now: datetime | None = None) -> list[ToolFigures]:
    """Every tool that was called in the period, by its latest MAX_READ attempts together."""
    since = first_key_at((now or timezone.now()) - PERIOD)
    rows = (
        Attempt.objects.filter(pk__gte=since)
        .order_by("-pk")
        .values_list(
            "action__tool",
            "action__environment",
            "status",
            "number",
            "started_at",
            "ended_at",
        )[:MAX_READ]
    )
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for tool, environment, *rest in rows:
        found[tool, environment].append(rest)
    states = {
        (one.system, one.environment): one.get_state_display() for one in Breaker.objects.all()
    }
    return [
        _of_tool(tool, environment, attempts, states)
        for (tool, environment), attempts in sorted(found.items())
    ]


def _of_tool(
    tool: str, environment: str, attempts: list[Any], states: dict[tuple[str, str], str]
) -> ToolFigures:
    counts = Counter(status for status, *_ in attempts)
    times = [
        (ended - started).total_seconds() * 1000
        for status, _, started, ended in attempts
        if ended is not None and status == Attempt.Status.SUCCEEDED
    ]
    middle, high = quantiles(times)
    return ToolFigures(
        tool,
        environment,
        calls=len(attempts),
        failed=counts[Attempt.Status.FAILED],
        unknown=counts[Attempt.Status.UNKNOWN] + counts[Attempt.Status.LATE],
        again=sum(1 for _, number, *_ in attempts if number > 1),
        p50_ms=middle,
        p95_ms=high,
        breaker=states.get((tool.split(".", 1)[0], environment), "closed: calls go through"),
    )


def of_workflows(
    workflows: Iterable[Workflow], now: datetime | None = None
) -> list[WorkflowFigures]:
    since = first_key_at((now or timezone.now()) - PERIOD)
    return [_of_workflow(workflow, since) for workflow in workflows]


def _of_workflow(workflow: Workflow, since: Any) -> WorkflowFigures:
    runs = list(
        WorkflowRun.objects.filter(workflow=workflow, pk__gte=since)
        .order_by("-pk")
        .only("status", "success_condition_met", "is_partial", "started_at", "ended_at")[:MAX_READ]
    )
    lengths = [
        (run.ended_at - run.started_at).total_seconds() for run in runs if run.ended_at is not None
    ]
    middle, high = quantiles(lengths)
    judged = [run for run in runs if run.success_condition_met is not None]
    waits = (
        StepRun.objects.filter(run__workflow=workflow, pk__gte=since, ended_at__isnull=False)
        .filter(kind__in=("approval", "wait"))
        .order_by("-pk")
        .values_list("started_at", "ended_at")[:MAX_READ]
    )
    waited, _ = quantiles(
        [(ended - began).total_seconds() for began, ended in waits if ended is not None]
    )
    return WorkflowFigures(
        workflow.slug,
        runs=len(runs),
        ended=len(lengths),
        succeeded=sum(run.status == WorkflowRun.Status.SUCCEEDED for run in runs),
        good=sum(bool(run.success_condition_met) for run in judged),
        judged=len(judged),
        partial=sum(run.is_partial for run in runs),
        p50_s=middle,
        p95_s=high,
        waited_p50_s=waited,
    )
