"""The pages of runs: how far one is, what people order, what they should look at."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from agents.models import Halt
from agents.services.halts import lift_halt, place_halt
from common.actors import SYSTEM
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.admin_client import NOT_POSSIBLE, REASON, Browser, recorded, said
from tests.workflows.assertions import nothing_changed
from tests.workflows.test_admin import BODY, MAIL, REST
from tests.workflows.test_running import SIGNAL, later
from tests.workflows.test_undoing import TWO
from tools.connectors.base import NoResponse, Refused
from workflows.models import Signal, WorkflowRun

pytestmark = pytest.mark.django_db


# -- a run ---------------------------------------------------------------------------------------


def test_a_run_page_shows_the_graph_with_what_has_become_of_each_step(
    governed: Governed, vera: Browser
) -> None:
    run = workflow_helpers.done(governed, BODY)
    html = vera.shows("workflows_workflowrun_change", run.pk)
    graph = html.partition('<svg class="graph"')[2].partition("</svg>")[0]
    assert graph.count('<g class="node ') == 3
    assert graph.count("node-good") == 2
    assert graph.count("node-wait") == 1
    assert "waits for a signal" in graph
    lanes = html.partition('<svg class="plot lanes"')[2].partition("</svg>")[0]
    assert lanes.count("lane-label") == 3
    assert lanes.count('<rect class="bar-good"') == 2
    for text in ("toolbox.pay ↶", "the call", "so far", "by tilda in prod"):
        assert said(text, html), text
    assert 'data-refresh="3"' in html


def test_a_run_page_shows_what_went_wrong(governed: Governed, vera: Browser) -> None:
    governed.toolbox.fail_with = [Refused("The account is closed.")]
    failed = workflow_helpers.done(governed, BODY)
    html = vera.shows("workflows_workflowrun_change", failed.pk)
    assert said("The step pay did not succeed: The account is closed.", html)
    assert "node-bad" in html
    assert '<rect class="bar-bad"' in html
    html = vera.shows("workflows_workflowrun_change", unknown(governed).pk)
    assert said("effect of a call unknown", html)
    assert "node-doubt" in html
    assert '<rect class="bar-doubt"' in html


def unknown(governed: Governed) -> WorkflowRun:
    """A run with a mail of which nobody knows whether it went out."""
    governed.toolbox.fail_with = [NoResponse("Silence.")]
    return workflow_helpers.done(governed, MAIL)


@pytest.fixture
def halted(governed: Governed) -> WorkflowRun:
    """A run that a halt froze before it paid; the halt is over."""
    run = workflow_helpers.done(governed, TWO)
    halt = place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
    run = later(run, hours=2)
    lift_halt(halt.pk, actor=SYSTEM, reason="Over.")
    assert run.status == "halted"
    return run


def test_a_halted_run_goes_on_by_a_persons_order(
    halted: WorkflowRun, governed: Governed, oscar: Browser
) -> None:
    assert said("Go on from here", oscar.shows("workflows_workflowrun_change", halted.pk))
    with nothing_changed():
        oscar.is_refused("workflows_workflowrun_resume", halted.pk, reason="")
    oscar.does("workflows_workflowrun_resume", halted.pk, **REASON)
    assert recorded("workflow.run.operator_command") == ("oscar", {"order": "resume", **REASON})
    assert workflow_helpers.driven(halted).status == "succeeded"
    assert len(governed.toolbox.effects) == 1


def test_a_run_is_cancelled_by_a_person(governed: Governed, oscar: Browser) -> None:
    run = workflow_helpers.done(governed, BODY)
    oscar.does("workflows_workflowrun_cancel", run.pk, **REASON)
    run.refresh_from_db()
    assert run.status == "cancelled"
    assert recorded("workflow.run.operator_command") == ("oscar", {"order": "cancel", **REASON})
    html = oscar.shows("workflows_workflowrun_change", run.pk)
    assert said(REASON["reason"], html)
    assert said("failed partly done", html)


def test_a_run_is_undone_by_a_person(governed: Governed, oscar: Browser) -> None:
    run = workflow_helpers.done(governed, BODY)
    oscar.does("workflows_workflowrun_undo", run.pk, **REASON)
    assert workflow_helpers.driven(run).status == "compensated"
    assert recorded("workflow.run.operator_command") == ("oscar", {"order": "undo", **REASON})
    assert [made["account"] for _, made in governed.toolbox.effects] == ["a", "back"]
    assert said("undo:pay", oscar.shows("workflows_workflowrun_change", run.pk))


def test_a_person_tells_a_run_what_has_happened(governed: Governed, oscar: Browser) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    with nothing_changed():
        for wrong in (
            {"name": ""},
            {"name": "Not a name"},
            {"name": ".paid"},
            {"name": "x" * 65},
            {"payload": "{"},
            {"payload": "[1]"},
        ):
            fields = {"name": "paid", "payload": '{"amount": 11}', **wrong}
            oscar.is_refused("workflows_workflowrun_signal", run.pk, **fields)
    fields = {"name": "paid", "payload": '{"amount": 11}'}
    html = oscar.does("workflows_workflowrun_signal", run.pk, **fields)
    assert said("kept", html)
    assert recorded("workflow.signal.received")[0] == "oscar"
    assert workflow_helpers.driven(run).output == {"amount": 11}
    assert Signal.objects.get().consumed_by == "told"
    assert said("taken up by told", oscar.shows("workflows_workflowrun_change", run.pk))


def test_a_signals_name_is_one_line(governed: Governed, oscar: Browser) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    fields = {"name": "paid\n", "payload": '{"amount": 11}'}
    oscar.client.post(f"/admin/workflows/workflowrun/{run.pk}/signal/", fields)
    assert not Signal.objects.exclude(name="paid").exists()


@pytest.mark.parametrize(
    "payload",
    ['{"amount": NaN}', '{"amount": "\\u0000"}', "[" * 50_000],
    ids=["NaN", "NUL", "deep"],
)
def test_a_person_tells_nothing_that_cannot_be_written_down(
    governed: Governed, oscar: Browser, payload: str
) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    with nothing_changed():
        oscar.is_refused("workflows_workflowrun_signal", run.pk, name="paid", payload=payload)


def test_a_run_takes_no_order_that_its_state_does_not_allow(
    governed: Governed, oscar: Browser
) -> None:
    waiting, succeeded = (
        workflow_helpers.done(governed, BODY),
        workflow_helpers.done(governed, MAIL),
    )
    cancelled = workflow_helpers.done(governed, REST)
    oscar.does("workflows_workflowrun_cancel", cancelled.pk, **REASON)
    refused = {
        waiting: ("resume",),
        succeeded: ("resume", "cancel", "signal"),
        cancelled: ("resume", "cancel", "signal"),
    }
    with nothing_changed():
        for run, pages in refused.items():
            for page in pages:
                fields = {"name": "paid", **REASON}
                html = oscar.does(f"workflows_workflowrun_{page}", run.pk, **fields)
                assert said(NOT_POSSIBLE, html)


# -- what people should look at ------------------------------------------------------------------


def found(browser: Browser, attention: str) -> set[Any]:
    """The runs that a filter of the list leaves."""
    response = browser.client.get(f"/admin/workflows/workflowrun/?attention={attention}")
    return {run.pk for run in response.context["cl"].result_list}


def test_the_list_of_runs_is_narrowed_to_what_needs_attention(
    governed: Governed, halted: WorkflowRun, vera: Browser
) -> None:
    unsure = unknown(governed)
    waiting, overdue, fine = (workflow_helpers.done(governed, REST) for _ in range(3))
    WorkflowRun.objects.filter(pk=overdue.pk).update(
        next_wake_at=timezone.now() - timedelta(hours=2)
    )
    WorkflowRun.objects.filter(pk=fine.pk).update(status="running")
    governed.toolbox.accounts["b"] = {"frozen": True}
    partial = workflow_helpers.done(
        governed,
        "on_denied: fail\nsteps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
        "  pay: {needs: [mail], tool: toolbox.pay, with: {account: b, amount: 1}}\n",
    )
    assert (partial.status, partial.is_partial) == ("failed", True)
    assert found(vera, "unknown") == {unsure.pk}
    assert found(vera, "halted") == {halted.pk}
    assert found(vera, "waiting") == {waiting.pk, overdue.pk, unsure.pk}
    assert found(vera, "stuck") == {overdue.pk}
    assert found(vera, "partial") == {partial.pk}
    everything = {halted, unsure, waiting, overdue, fine, partial}
    assert found(vera, "") == found(vera, "nothing") == {run.pk for run in everything}
    html = vera.shows("workflows_workflowrun_changelist")
    assert said("effect of 1 unknown", html)
    assert said("failed partly done", html)


def test_a_run_is_found_by_its_identifier_and_its_agent(governed: Governed, vera: Browser) -> None:
    run, other = workflow_helpers.done(governed, REST), workflow_helpers.done(governed, REST)

    def search(term: str) -> set[Any]:
        response = vera.client.get("/admin/workflows/workflowrun/", {"q": term})
        return {one.pk for one in response.context["cl"].result_list}

    assert search(str(run.pk)) == {run.pk}
    assert search("tilda") == {run.pk, other.pk}
    assert search("til") == {run.pk, other.pk}  # a part of the agent's title
    assert search("%") == search("tilt") == set()


def test_telemetry_shows_tools_and_workflows_of_the_last_day(
    governed: Governed, vera: Browser, sam: User
) -> None:
    assert said(
        "No workflow has run in the last 24 hours.", vera.shows("workflows_workflow_telemetry")
    )
    workflow_helpers.done(governed, MAIL)
    unknown(governed)
    html = vera.shows("workflows_workflow_telemetry")
    assert "<td>toolbox.mail</td><td>prod</td><td>2</td><td>0</td><td>1</td><td>0</td>" in html
    assert "<td>work</td><td>2</td><td>1</td><td>1</td><td>—</td><td>0</td>" in html
    assert said("Telemetry", vera.shows("workflows_workflow_changelist"))
    assert Browser(sam).client.get("/admin/workflows/workflow/telemetry/").status_code == 403


def test_a_run_page_costs_the_same_however_many_steps_there_are(
    governed: Governed, vera: Browser
) -> None:
    body = """\
inputs: {type: object, required: [items], properties: {items: {type: array}}}
steps:
  all:
    foreach:
      in: "${ inputs.items }"
      max_items: 50
      steps: {pay: {tool: toolbox.pay, with: {account: a, amount: 1}}}
"""

    def cost(items: int) -> int:
        run = workflow_helpers.done(governed, body, {"items": [1] * items})
        vera.shows("workflows_workflowrun_change", run.pk)
        with CaptureQueriesContext(connection) as captured:
            vera.shows("workflows_workflowrun_change", run.pk)
        return len(captured)

    assert cost(1) == cost(20)
