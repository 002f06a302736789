"""Runs within runs: what holds for them because of the runs that they are part of."""

from typing import Any

import pytest

from accounts.models import User
from actions.models import Action, Run
from agents.services.lifecycle import activate, suspend
from approvals.models import ApprovalRequest
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import GovernanceError
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later, vote
from tests.workflows.test_undoing import CHILD, HAND, PARENT, bob, fail_at, paid
from tools.connectors.base import Refused
from workflows.errors import InvalidRunState
from workflows.models import WorkflowRun
from workflows.services import operator_commands

pytestmark = pytest.mark.django_db
__all__ = ["bob"]

ROSE = Actor("human", "1", "rose")
SLOW = CHILD.replace("steps:", "steps:\n  rest: {wait: {for: 1h}}").replace(
    "  pay:\n", "  pay:\n    needs: [rest]\n"
)


def begun(governed: Governed, parent: str = HAND, child: str = SLOW) -> tuple[WorkflowRun, Any]:
    workflow_helpers.publish(child, slug="child")
    run = workflow_helpers.done(governed, parent)
    return run, WorkflowRun.objects.get(parent=run)


def test_who_began_the_outer_run_does_not_approve_within_the_inner_one(
    governed: Governed, rosa: User
) -> None:
    ask = "  ask: {approval: {tier: supervisor, question: May it}}\n"
    child = CHILD.replace("steps:\n", "steps:\n" + ask)
    workflow_helpers.publish(child, slug="child")
    workflow_helpers.publish(PARENT)
    run = workflow_helpers.driven(workflow_helpers.begin(governed, initiator="rosa"))
    inner = WorkflowRun.objects.get(parent=run)
    assert Run.objects.get(pk=inner.pk).initiator == "rosa"
    with pytest.raises(GovernanceError) as refused:
        vote(rosa)
    assert refused.value.code == "approval_for_own_agent"
    assert ApprovalRequest.objects.pending().count() == 1


def test_who_began_a_run_does_not_approve_its_steps(governed: Governed, rosa: User) -> None:
    workflow_helpers.publish("steps:\n  ask: {approval: {tier: supervisor, question: May it}}\n")
    workflow_helpers.driven(workflow_helpers.begin(governed, initiator="rosa"))
    with pytest.raises(GovernanceError):
        vote(rosa)
    assert ApprovalRequest.objects.pending().count() == 1


def test_a_run_is_held_back_as_long_as_the_one_it_is_part_of_rests(
    governed: Governed, bob: Governed
) -> None:
    run, child = begun(governed)
    WorkflowRun.objects.filter(pk=run.pk).update(status="halted", next_wake_at=None)
    child = later(child, hours=2)
    assert (child.status, workflow_helpers.step(child, "rest").status) == ("waiting", "waiting")
    assert governed.toolbox.calls == []
    operator_commands.resume(run.pk, actor=ROSE, reason="Go on.")
    run = workflow_helpers.driven(run)
    assert (run.status, governed.toolbox.calls) == ("succeeded", ["pay"])


def test_a_run_does_not_outlive_the_one_it_is_part_of(governed: Governed, bob: Governed) -> None:
    run, child = begun(governed, HAND.replace("steps:", "limits: {deadline: 30m}\nsteps:"))
    assert child.deadline_at == run.deadline_at
    operator_commands.cancel(child.pk, actor=ROSE, reason="x")
    other = workflow_helpers.begin(governed)
    other = workflow_helpers.driven(other)
    child = WorkflowRun.objects.get(parent=other)
    WorkflowRun.objects.filter(pk=other.pk).update(
        status="failed", next_wake_at=None, ended_at=other.started_at
    )
    child = later(child, minutes=70)
    assert (child.status, child.reason) == ("halted", "The run that it is part of has ended.")
    assert governed.toolbox.calls == []


def test_work_handed_over_stops_with_whoever_handed_it_over(
    governed: Governed, bob: Governed
) -> None:
    """Also when that agent is active again: what it was allowed before does not come back."""
    run, child = begun(governed)
    agent_id = governed.identity.agent_id
    suspend(agent_id, actor=SYSTEM, reason="Odd.")
    activate(agent_id, actor=SYSTEM, reason="Fine again.")
    child = later(child, hours=2)
    assert child.status == "halted"
    assert child.reason == "An agent that it works for has been stopped since."
    assert governed.toolbox.calls == []
    operator_commands.resume(child.pk, actor=ROSE, reason="It may.")
    assert workflow_helpers.driven(run).status == "succeeded"
    assert paid(governed) == [("a", 5)]


def test_what_a_run_within_does_not_use_comes_back(governed: Governed) -> None:
    """Its own limits are smaller than what was left: only they are set aside."""
    child = "limits: {amount: 20, actions: 3}\n" + CHILD
    workflow_helpers.publish(child, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    assert run.status == "succeeded"
    outer = Run.objects.get(pk=run.pk)
    assert outer.amount == 11
    assert outer.actions_count == 2


TWO = """\
limits: {amount: 100}
steps:
  one: {workflow: {workflow: child, with: {amount: 5}}}
  two: {workflow: {workflow: child, with: {amount: 6}}}
"""


def test_two_runs_within_share_a_budget_by_their_own_limits(governed: Governed) -> None:
    workflow_helpers.publish("limits: {amount: 20}\n" + CHILD, slug="child")
    run = workflow_helpers.done(governed, TWO)
    assert run.status == "succeeded"
    assert Run.objects.get(pk=run.pk).amount == 11


def test_an_agent_does_not_retry_a_run_that_is_part_of_another(governed: Governed) -> None:
    workflow_helpers.publish(CHILD.replace("on_failure: compensate\n", ""), slug="child")
    fail_at(governed, 1, Refused("no"))
    run = workflow_helpers.done(governed, PARENT)
    child = WorkflowRun.objects.get(parent=run)
    assert child.status == "failed"
    with pytest.raises(InvalidRunState):
        operator_commands.resume(child.pk, actor=SYSTEM, reason="Again.", by=governed.caller)
    assert WorkflowRun.objects.get(pk=child.pk).status == "failed"


def test_that_a_run_within_is_taken_back_is_in_its_own_log(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    operator_commands.undo(run.pk, actor=ROSE, reason="A mistake.")
    workflow_helpers.driven(run)
    child = WorkflowRun.objects.get(parent=run)
    told = Event.objects.of_run(child.pk).get(type="workflow.run.compensating")
    assert told.details["reason"] == "Undone with work."


def test_an_agents_own_keys_do_not_meet_those_of_the_engine(governed: Governed) -> None:
    """It knows what the engine's keys are made of: what it sends under them is its own."""
    from workflows.services.preparation import step_key  # noqa: PLC0415 - only here

    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(PARENT)
    run = workflow_helpers.begin(governed)
    workflow_helpers.begin(governed, {"amount": 5}, slug="child", key=f"{run.pk}:sub:0")
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded"
    assert " " in step_key(run.pk, "sub", 0)  # which no Idempotency-Key header may have
    assert Action.objects.filter(run__workflow_run__parent=run).count() == 1
