"""What was found by attacking the engine, kept so that it stays closed."""

from datetime import timedelta

import pytest
from django.utils import timezone

from agents.services.lifecycle import activate, suspend
from common.actors import SYSTEM
from tests.factories import Governed
from tests.workflows import desk
from tests.workflows.test_running import later
from tests.workflows.test_undoing import CHILD, bob, paid
from tools.connectors.base import Unanswered
from workflows.models import WorkflowRun
from workflows.services import driving, orders, sweeping

pytestmark = pytest.mark.django_db
__all__ = ["bob"]

LENGTHS = """\
steps:
  each:
    foreach:
      in: "${ [duration('3s')] }"
      max_items: 5
      steps: {rest: {wait: {for: 1h}}}
"""
MAIL = """\
steps:
  mail: {tool: toolbox.mail, with: {to: x}}
"""
COLLECT = """\
on_denied: fail
steps:
  each:
    foreach:
      in: "${ ['frozen', 'b'] }"
      max_items: 5
      fail: collect
      steps: {pay: {tool: toolbox.pay, with: {account: "${ item }", amount: 1}}}
  last: {needs: [each], tool: toolbox.pay, with: {account: frozen, amount: 2}}
"""
LATER = """\
steps:
  rest: {wait: {for: 1h}}
  hand: {needs: [rest], handoff: {agent: bob, workflow: child, with: {amount: 5}}}
"""


def test_items_that_are_no_json_are_written_as_what_stands_for_them(governed: Governed) -> None:
    desk.publish(LENGTHS)
    run = desk.driven(desk.begin(governed))
    assert run.status == "waiting"
    assert desk.step(run, "each").input == [3.0]


def test_an_undoing_that_waits_past_its_limit_is_not_looked_at_on_and_on(
    governed: Governed,
) -> None:
    desk.publish(MAIL)
    governed.toolbox.fail_with = [Unanswered("x")]
    run = desk.driven(desk.begin(governed))
    orders.undo(run.pk, actor=SYSTEM, reason="Take it back.")
    past = timezone.now() - timedelta(hours=1)
    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=past, wake_at=past)
    driving.drive(run.pk)
    run.refresh_from_db()
    assert (run.status, desk.steps(run)) == ("compensating", {"mail": "unknown"})
    assert run.wake_at is not None
    assert run.wake_at > timezone.now() + timedelta(minutes=5)
    assert run.pk not in sweeping.to_drive(limit=50)


def test_a_counted_item_is_not_done_anew_when_a_later_step_is(governed: Governed) -> None:
    governed.toolbox.accounts["frozen"] = {"frozen": True}
    desk.publish(COLLECT)
    run = desk.driven(desk.begin(governed))
    assert run.status == "failed"
    governed.toolbox.accounts["frozen"] = {"frozen": False}
    orders.resume(run.pk, actor=SYSTEM, reason="It was thawed.")
    run = desk.driven(run)
    assert (run.status, desk.steps(run)) == (
        "succeeded",
        {"each": "succeeded", "each[0].pay": "denied", "each[1].pay": "succeeded"}
        | {"last": "succeeded"},
    )
    assert sorted(paid(governed)) == [("b", 1), ("frozen", 2)]


def test_an_agent_that_was_stopped_meanwhile_hands_nothing_over(
    governed: Governed, bob: Governed
) -> None:
    desk.publish(CHILD, slug="child")
    desk.publish(LATER)
    run = desk.driven(desk.begin(governed))
    agent_id = governed.identity.agent_id
    suspend(agent_id, actor=SYSTEM, reason="Its key was stolen.")
    activate(agent_id, actor=SYSTEM, reason="It has a new key.")
    run = later(run, hours=2)
    assert desk.step(run, "hand").error_code == "handoff_refused"
    assert not WorkflowRun.objects.filter(parent=run).exists()
    assert paid(governed) == []
    assert run.status == "failed"
