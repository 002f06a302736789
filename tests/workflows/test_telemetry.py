"""How tools and workflows have done of late, told from made-up attempts, runs and steps."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st

from actions.models import Action, Attempt, Run
from agents.models import AgentIdentity
from common.ids import first_key_at
from tools.models import Breaker
from workflows import metrics
from workflows.metrics import ToolFigures, WorkflowFigures, quantiles
from workflows.models import StepRun, Workflow, WorkflowRun, WorkflowVersion

NOW = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = metrics.PERIOD
SECOND = timedelta(seconds=1)
_noise = random.Random(7)


def key_at(moment: datetime) -> UUID:
    """A key as it is made at that moment."""
    return UUID(int=first_key_at(moment).int | _noise.getrandbits(62))


@pytest.fixture
def version(db: Any) -> WorkflowVersion:
    return version_of("work")


def version_of(slug: str) -> WorkflowVersion:
    return WorkflowVersion.objects.create(
        workflow=Workflow.objects.create(slug=slug, title=slug),
        number=1,
        text="",
        spec={},
        world={},
        digest="d",
        drafted_by="olga",
        drafted_by_id="1",
    )


def run_at(identity: AgentIdentity, moment: datetime) -> Run:
    return Run.objects.create(
        id=key_at(moment),
        identity=identity,
        agent="tilda",
        environment="prod",
        initiator_kind="user",
        initiator="somebody",
        purpose="testing",
        opened_at=moment,
    )


def action_at(run: Run, moment: datetime, tool: str, environment: str) -> Action:
    return Action.objects.create(
        run=run,
        idempotency_key=str(uuid4()),
        request_digest="d",
        agent="tilda",
        environment=environment,
        tool=tool,
        tool_digest="d",
        arguments={},
        arguments_digest="d",
        outcome="allowed",
        release=1,
        status="ready",
        decided_at=moment,
        changed_at=moment,
    )


@pytest.fixture
def tried(identity: AgentIdentity) -> Callable[..., Attempt]:
    """Makes an attempt at calling a tool, so many milliseconds long."""
    run = run_at(identity, NOW - 2 * DAY)

    def made(
        status: str = "succeeded",
        length: int = 100,
        *,
        ago: timedelta = SECOND,
        tool: str = "crm.get",
        environment: str = "prod",
        number: int = 1,
    ) -> Attempt:
        began = NOW - ago
        return Attempt.objects.create(
            id=key_at(began),
            action=action_at(run, began, tool, environment),
            number=number,
            status=status,
            started_at=began,
            lease_until=began,
            ended_at=None if status == "started" else began + timedelta(milliseconds=length),
        )

    return made


@pytest.fixture
def ran(identity: AgentIdentity, version: WorkflowVersion) -> Callable[..., WorkflowRun]:
    """Makes a run of the workflow, so many seconds long."""

    def made(
        status: str = "succeeded", length: float = 10, *, ago: timedelta = SECOND, **more: Any
    ) -> WorkflowRun:
        began = NOW - ago
        over = status in WorkflowRun.ENDED
        chosen = more.pop("version", version)
        return WorkflowRun.objects.create(
            run=run_at(identity, began),
            workflow=chosen.workflow,
            version=chosen,
            status=status,
            inputs_digest="d",
            idempotency_key=str(uuid4()),
            deadline_at=NOW + DAY,
            started_at=began,
            ended_at=began + length * SECOND if over else None,
            **more,
        )

    return made


def waited(
    run: WorkflowRun, length: float | None, *, kind: str = "wait", ago: timedelta = SECOND
) -> StepRun:
    """A step of the run that has waited so many seconds; without any, it still waits."""
    began = NOW - ago
    return StepRun.objects.create(
        id=key_at(began),
        run=run,
        path=str(uuid4()),
        kind=kind,
        status="waiting" if length is None else "succeeded",
        started_at=began,
        ended_at=None if length is None else began + length * SECOND,
    )


def of_workflow(version: WorkflowVersion) -> WorkflowFigures:
    [found] = metrics.of_workflows([version.workflow], NOW)
    return found


def of_tools() -> dict[tuple[str, str], ToolFigures]:
    return {(one.tool, one.environment): one for one in metrics.of_tools(NOW)}


# -- percentiles ---------------------------------------------------------------------------------


def test_the_middle_and_the_95th_percentile() -> None:
    assert quantiles([]) == (0.0, 0.0)
    assert quantiles([7.0]) == (7.0, 7.0)
    assert quantiles([1.0, 3.0]) == pytest.approx((2.0, 2.9))
    assert quantiles([float(n) for n in range(101)]) == pytest.approx((50.0, 95.0))
    assert quantiles([5.0, 1.0, 3.0])[0] == 3.0


@settings(deadline=None)
@given(st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=40))
def test_percentiles_lie_within_what_was_measured(values: list[float]) -> None:
    middle, high = quantiles(values)
    ordered = [min(values), middle, high, max(values)]
    assert all(low <= up or low == pytest.approx(up) for low, up in pairwise(ordered))


# -- tools ---------------------------------------------------------------------------------------


def test_a_tools_attempts_are_counted_by_what_came_of_them(tried: Callable[..., Attempt]) -> None:
    for length in (100, 200, 300):
        tried(length=length)
    tried("failed", 9_000)
    tried("failed", 9_000, number=2)
    tried("unknown", 9_000)
    tried("late", 9_000, number=3)
    tried("started")
    assert of_tools() == {
        ("crm.get", "prod"): ToolFigures(
            tool="crm.get",
            environment="prod",
            calls=8,
            failed=2,
            unknown=2,
            again=2,
            p50_ms=200.0,
            p95_ms=290.0,
            breaker="closed: calls go through",
        )
    }


def test_a_tool_that_never_answered_took_no_time(tried: Callable[..., Attempt]) -> None:
    tried("failed", 500)
    [found] = of_tools().values()
    assert (found.calls, found.p50_ms, found.p95_ms) == (1, 0.0, 0.0)


def test_tools_and_environments_are_told_apart_and_in_order(
    tried: Callable[..., Attempt],
) -> None:
    for tool, environment in (
        ("mail.send", "prod"),
        ("crm.get", "staging"),
        ("crm.get", "prod"),
        ("crm.get", "prod"),
    ):
        tried(tool=tool, environment=environment)
    assert [(one.tool, one.environment, one.calls) for one in metrics.of_tools(NOW)] == [
        ("crm.get", "prod", 2),
        ("crm.get", "staging", 1),
        ("mail.send", "prod", 1),
    ]


def test_a_tool_is_shown_with_its_endpoints_breaker(tried: Callable[..., Attempt]) -> None:
    Breaker.objects.create(system="crm", environment="prod", state="open", open_until=NOW)
    Breaker.objects.create(system="mail", environment="prod")
    for tool, environment in (("crm.get", "prod"), ("crm.get", "staging"), ("mail.send", "prod")):
        tried(tool=tool, environment=environment)
    said = {where: one.breaker for where, one in of_tools().items()}
    open_one, closed = Breaker.State.OPEN.label, Breaker.State.CLOSED.label
    assert said == {
        ("crm.get", "prod"): open_one,
        ("crm.get", "staging"): closed,
        ("mail.send", "prod"): closed,
    }


def test_only_attempts_of_the_last_day_count(tried: Callable[..., Attempt]) -> None:
    tried(ago=DAY)
    tried(ago=DAY - SECOND)
    tried(ago=DAY + SECOND)
    tried(ago=30 * DAY, tool="crm.old")
    assert {one.tool: one.calls for one in metrics.of_tools(NOW)} == {"crm.get": 2}


def test_of_many_attempts_the_latest_are_read(
    tried: Callable[..., Attempt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_READ", 3)
    for hours, status in ((4, "failed"), (3, "succeeded"), (2, "failed"), (1, "unknown")):
        tried(status, ago=timedelta(hours=hours))
    [found] = of_tools().values()
    assert (found.calls, found.failed, found.unknown) == (3, 1, 1)


def test_nothing_was_called(db: Any) -> None:
    assert metrics.of_tools(NOW) == []


# -- workflows -----------------------------------------------------------------------------------


def test_a_workflows_runs_are_counted_by_what_became_of_them(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion
) -> None:
    ran(length=10, success_condition_met=True)
    ran(length=20, success_condition_met=True)
    ran(length=30, success_condition_met=False)
    ran("failed", 40, success_condition_met=False, is_partial=True)
    ran("compensated", 50)
    ran("cancelled", 60, is_partial=True)
    for status in ("running", "waiting", "halted", "compensating", "compensation_failed"):
        ran(status)
    assert of_workflow(version) == WorkflowFigures(
        workflow="work",
        runs=11,
        ended=6,
        succeeded=3,
        good=2,
        judged=4,
        partial=2,
        p50_s=35.0,
        p95_s=57.5,
        waited_p50_s=0.0,
    )


def test_a_workflow_that_has_not_run_is_all_zeros(version: WorkflowVersion) -> None:
    found = of_workflow(version)
    assert (found.runs, found.ended, found.succeeded, found.judged) == (0, 0, 0, 0)
    assert (found.p50_s, found.p95_s, found.waited_p50_s) == (0.0, 0.0, 0.0)


def test_workflows_are_told_apart_and_stay_in_order(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion
) -> None:
    other = version_of("other")
    ran()
    ran(version=other)
    waited(ran(version=other), 5)
    found = metrics.of_workflows([version.workflow, other.workflow], NOW)
    assert [(one.workflow, one.runs, one.waited_p50_s) for one in found] == [
        ("work", 1, 0.0),
        ("other", 2, 5.0),
    ]


def test_only_runs_of_the_last_day_count(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion
) -> None:
    ran(ago=DAY)
    ran("failed", ago=DAY - SECOND)
    ran(ago=DAY + SECOND)
    found = of_workflow(version)
    assert (found.runs, found.succeeded) == (2, 1)


def test_how_long_people_and_signals_kept_it_waiting(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion
) -> None:
    run = ran("waiting", ago=2 * DAY)
    waited(run, 10)
    waited(run, 30, kind="approval")
    waited(run, 50)
    waited(run, None)
    waited(run, 900, kind="tool")
    waited(run, 900, kind="foreach")
    waited(run, 900, ago=DAY + SECOND)
    assert of_workflow(version).waited_p50_s == 30.0


def test_of_many_runs_the_latest_are_read(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_READ", 2)
    for hours, length in ((3, 900.0), (2, 10.0), (1, 20.0)):
        ran(length=length, ago=timedelta(hours=hours))
    found = of_workflow(version)
    assert (found.runs, found.p50_s) == (2, 15.0)


def test_of_many_waits_the_latest_are_read(
    ran: Callable[..., WorkflowRun], version: WorkflowVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "MAX_READ", 2)
    run = ran("waiting")
    for hours, length in ((3, 900.0), (2, 10.0), (1, 20.0)):
        waited(run, length, ago=timedelta(hours=hours))
    assert of_workflow(version).waited_p50_s == 15.0


# -- what it costs -------------------------------------------------------------------------------


def queries(read: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        read()
    return len(captured)


def test_it_takes_as_many_queries_however_much_there_is(
    tried: Callable[..., Attempt], ran: Callable[..., WorkflowRun], version: WorkflowVersion
) -> None:
    def tools() -> Any:
        return metrics.of_tools(NOW)

    def workflows() -> Any:
        return metrics.of_workflows([version.workflow], NOW)

    waited(ran(), 5)
    tried()
    assert (queries(tools), queries(workflows)) == (2, 2)
    for number in range(12):
        waited(ran("waiting"), number)
        tried(tool=f"crm.get{number}", environment="staging")
        Breaker.objects.create(system=f"crm{number}", environment="prod")
    assert (queries(tools), queries(workflows)) == (2, 2)
