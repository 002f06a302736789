"""What goes on after a run has stopped: what is done again, what is not, what is asked first."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import User
from actions.models import Action, Run
from actions.services import recovery
from actions.services.recovery import Resolution
from approvals.models import ApprovalRequest, Tier, Vote
from audit.models import Event
from common.actors import SYSTEM, Actor
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_failing import MAIL, die, dying, resolved
from tests.workflows.test_running import later, signal, vote
from tests.workflows.test_undoing import CHILD, PARENT, fail_at, paid
from tools.connectors.base import NoResponse, NotSent, Refused
from workflows.errors import InvalidRunState
from workflows.models import StepRun, WorkflowRun
from workflows.services import operator_commands

pytestmark = pytest.mark.django_db
__all__ = ["dying"]

ROSE = Actor("human", "1", "rose")
ITEMS = """\
on_failure: %s
steps:
  each:
    foreach:
      in: "${ ['a', 'b', 'c', 'd'] }"
      max_items: 5
      steps:
        pay:
          tool: toolbox.pay
          with: {account: "${ item }", amount: 1}
          compensate: {tool: toolbox.pay, with: {account: "${ item }", amount: 2}}
output: {paid: "${ size(steps.each.output.items) }"}
"""


def resumed(run: WorkflowRun) -> WorkflowRun:
    operator_commands.resume(run.pk, actor=ROSE, reason="Once more.")
    return workflow_helpers.driven(run)


def test_a_foreach_goes_on_with_the_items_that_are_not_done(governed: Governed) -> None:
    fail_at(governed, 3, Refused("no"))
    run = workflow_helpers.done(governed, ITEMS % "fail")
    assert (run.status, paid(governed)) == ("failed", [("a", 1), ("b", 1)])
    run = resumed(run)
    assert (run.status, run.output) == ("succeeded", {"paid": 4})
    assert paid(governed) == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    each = workflow_helpers.step(run, "each")
    assert (each.total, each.begun, each.done, each.failures) == (4, 4, 4, 0)


def test_finished_items_are_taken_back_too(governed: Governed) -> None:
    fail_at(governed, 3, Refused("no"))
    run = workflow_helpers.done(governed, ITEMS % "compensate")
    assert run.status == "compensated"
    assert paid(governed) == [("a", 1), ("b", 1), ("b", 2), ("a", 2)]


def test_finished_items_count_as_what_a_failed_run_has_changed(governed: Governed) -> None:
    fail_at(governed, 2, Refused("no"))
    run = workflow_helpers.done(governed, ITEMS % "fail")
    assert (run.status, run.is_partial) == ("failed", True)


NEVER = """\
on_failure: fail
steps:
  each:
    foreach:
      in: "${ ['a', 'b', 'c'] }"
      max_items: 5
      fail: stop
      steps:
        pay:
          tool: toolbox.pay
          with: {account: "${ item }", amount: 1}
          when: "${ 1 / run.denials > 0 }"
"""


def test_an_item_that_stops_the_others_is_resumed_alone(governed: Governed) -> None:
    """However often it fails, no more are taken up than may go at a time."""
    run = workflow_helpers.done(governed, NEVER)
    for _ in range(3):
        assert run.status == "failed"
        assert set(run.steps.exclude(scope="").values_list("scope", flat=True)) == {"each[0]"}
        run = resumed(run)
        run = workflow_helpers.driven(run)
    assert paid(governed) == []


ASK = """\
steps:
  ask: {approval: {tier: supervisor, question: May it}}
  pay: {needs: [ask], tool: toolbox.pay, with: {account: a, amount: 1}}
"""


def test_people_who_said_no_are_asked_anew(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, ASK)
    vote(rosa, Vote.Answer.REJECT)
    run = workflow_helpers.driven(run)
    assert (run.status, workflow_helpers.step(run, "ask").error_code) == (
        "failed",
        "rejected_by_people",
    )
    run = resumed(run)
    assert ApprovalRequest.objects.count() == 2
    vote(rosa)
    assert workflow_helpers.driven(run).status == "succeeded"
    assert paid(governed) == [("a", 1)]


def test_a_step_whose_tier_is_gone_fails_and_nothing_else_does(
    governed: Governed, tiers: dict[str, Tier]
) -> None:
    workflow_helpers.publish(ASK)
    tiers["supervisor"].delete()
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert (run.status, workflow_helpers.step(run, "ask").error_code) == ("failed", "unknown_tier")


WAITS = """\
steps:
  rest: {wait: {until: "${ 'not a moment' }"}}
  pay: {needs: [rest], tool: toolbox.pay, with: {account: a, amount: 1}}
"""


def test_a_wait_that_failed_is_not_taken_as_waited_for(governed: Governed) -> None:
    run = workflow_helpers.done(governed, WAITS)
    assert (run.status, workflow_helpers.steps(run)) == ("failed", {"rest": "failed"})
    run = resumed(run)
    assert (run.status, workflow_helpers.steps(run), paid(governed)) == (
        "failed",
        {"rest": "failed"},
        [],
    )


SIGNAL = "steps:\n  told: {wait: {signal: paid, timeout: 1h}}\n"


def test_a_signal_that_did_not_come_is_waited_for_as_long_again(governed: Governed) -> None:
    run = later(workflow_helpers.done(governed, SIGNAL), hours=2)
    assert run.status == "failed"
    run = resumed(run)
    due = workflow_helpers.step(run, "told").due_at
    assert run.status == "waiting"
    assert due is not None
    assert due > timezone.now() + timedelta(minutes=50)
    signal(run, 1)
    assert workflow_helpers.driven(run).status == "succeeded"


def test_a_signal_of_another_name_does_not_put_the_time_limit_off(governed: Governed) -> None:
    from workflows.services import run_signals  # noqa: PLC0415 - only here

    run = workflow_helpers.done(governed, SIGNAL)
    run_signals.send(run.pk, actor=SYSTEM, name="other", payload={}, key="o")
    run = workflow_helpers.driven(run)
    assert run.status == "waiting"
    assert run.next_wake_at is not None
    assert run.next_wake_at <= workflow_helpers.step(run, "told").due_at  # type: ignore[operator]
    assert later(run, hours=2).status == "failed"


WHEN = """\
inputs: {type: object, properties: {n: {type: integer}}}
steps:
  pay: {when: "${ 1 / inputs.n > 0 }", tool: toolbox.pay, with: {account: a, amount: 1}}
"""


def test_a_condition_is_looked_at_again(governed: Governed) -> None:
    run = workflow_helpers.done(governed, WHEN, {"n": 0})
    assert run.status == "failed"
    run = resumed(run)
    assert (run.status, paid(governed)) == ("failed", [])


def test_a_child_that_failed_is_begun_anew(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(PARENT.replace("on_failure: compensate", "on_failure: fail"))
    fail_at(governed, 1, Refused("no"))
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert (run.status, workflow_helpers.step(run, "sub").error_code) == (
        "failed",
        "child_compensated",
    )
    run = resumed(run)
    assert (run.status, run.output) == ("succeeded", {"sub": "pay"})
    assert WorkflowRun.objects.filter(parent=run).count() == 2
    assert paid(governed) == [("a", 5), ("a", 6)]


def test_a_child_that_its_parent_waits_for_no_more_is_not_gone_on_with(
    governed: Governed,
) -> None:
    workflow_helpers.publish(CHILD.replace("on_failure: compensate\n", ""), slug="child")
    workflow_helpers.publish(PARENT.replace("on_failure: compensate", "on_failure: fail"))
    fail_at(governed, 1, Refused("no"))
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    child = WorkflowRun.objects.get(parent=run)
    assert (run.status, child.status) == ("failed", "failed")
    with pytest.raises(InvalidRunState):
        operator_commands.resume(child.pk, actor=ROSE, reason="Once more.")
    assert paid(governed) == []


def test_a_child_that_people_have_taken_back_is_not_taken_back_twice(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    child = WorkflowRun.objects.get(parent=run)
    operator_commands.undo(child.pk, actor=ROSE, reason="A mistake.")
    assert workflow_helpers.driven(child).status == "compensated"
    operator_commands.undo(run.pk, actor=ROSE, reason="All of it.")
    assert workflow_helpers.driven(run).status == "compensated"
    assert paid(governed) == [("a", 5), ("a", 6), ("back", 9)]


def test_a_child_that_is_being_taken_back_is_waited_for(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    child = WorkflowRun.objects.get(parent=run)
    operator_commands.undo(child.pk, actor=ROSE, reason="A mistake.")
    operator_commands.undo(run.pk, actor=ROSE, reason="All of it.")
    assert workflow_helpers.driven(run).status == "compensated"
    assert paid(governed) == [("a", 5), ("a", 6), ("back", 9)]


def test_a_child_that_could_not_be_taken_back_is_tried_anew_with_its_parent(
    governed: Governed,
) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    fail_at(governed, 1, Refused("no"))
    operator_commands.undo(run.pk, actor=ROSE, reason="A mistake.")
    run = workflow_helpers.driven(run)
    child = WorkflowRun.objects.get(parent=run)
    assert (run.status, child.status) == ("compensation_failed", "compensation_failed")
    assert paid(governed) == [("a", 5), ("a", 6)]
    run = resumed(run)
    child.refresh_from_db()
    assert (run.status, child.status) == ("compensated", "compensated")
    assert paid(governed) == [("a", 5), ("a", 6), ("back", 9)]


BOTH = """\
on_failure: compensate
steps:
  one:
    tool: toolbox.pay
    with: {account: a, amount: 1}
    compensate: {tool: toolbox.pay, with: {account: back, amount: 1}}
"""


@pytest.mark.parametrize("order", ["resume", "undo"])
def test_what_could_not_be_taken_back_is_tried_anew_and_nothing_goes_forward(
    governed: Governed, order: str
) -> None:
    run = workflow_helpers.done(governed, BOTH + "  wait: {needs: [one], wait: {for: 1h}}\n")
    fail_at(governed, 1, Refused("no"))
    operator_commands.undo(run.pk, actor=ROSE, reason="A mistake.")
    run = workflow_helpers.driven(run)
    assert run.status == "compensation_failed"
    getattr(operator_commands, order)(run.pk, actor=ROSE, reason="Once more.")
    run = workflow_helpers.driven(run)
    assert run.status == "compensated"
    assert paid(governed) == [("a", 1), ("back", 1)]
    assert workflow_helpers.steps(run)["wait"] == "cancelled"


def test_a_run_past_its_time_is_given_its_time_again_by_a_person(governed: Governed) -> None:
    run = workflow_helpers.done(governed, "limits: {deadline: 2h}\n" + SIGNAL.replace("1h", "3h"))
    past = timezone.now() - timedelta(minutes=1)
    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=past, next_wake_at=past)
    run = workflow_helpers.driven(run)
    assert run.status == "failed"
    with pytest.raises(InvalidRunState):
        operator_commands.resume(run.pk, actor=SYSTEM, reason="Again.", by=governed.caller)
    run = resumed(run)
    assert run.status == "waiting"
    assert run.deadline_at > timezone.now() + timedelta(hours=1)


def test_an_agent_has_only_that_go_on_which_its_token_covers(governed: Governed) -> None:
    from dataclasses import replace  # noqa: PLC0415 - only here

    fail_at(governed, 1, Refused("no"))
    run = workflow_helpers.done(governed, BOTH.replace("on_failure: compensate\n", ""))
    less = replace(governed.caller, scopes=frozenset({"tool:toolbox.mail"}))
    with pytest.raises(InvalidRunState):
        operator_commands.resume(run.pk, actor=SYSTEM, reason="Again.", by=less)
    assert WorkflowRun.objects.get(pk=run.pk).status == "failed"
    operator_commands.resume(run.pk, actor=SYSTEM, reason="Again.", by=governed.caller)
    assert workflow_helpers.driven(run).status == "succeeded"


# -- doubt -----------------------------------------------------------------------------------------


def test_what_may_have_taken_effect_is_not_done_anew_but_asked_about(
    governed: Governed, dying: list[str], rosa: User
) -> None:
    """Its worker died three times: it counts as failed, and may have paid each time."""
    call = "{tool: toolbox.pay, with: {account: a, amount: 1}, retry: {max_attempts: 20}}"
    workflow_helpers.publish(f"steps:\n  pay: {call}\n")
    run = workflow_helpers.begin(governed)
    for _ in range(3):
        dying.append("after")
        run = die(run)
        soon = timezone.now()
        StepRun.objects.filter(run_id=run.pk, due_at__isnull=False).update(due_at=soon)
    assert (run.status, workflow_helpers.step(run, "pay").error_code) == (
        "failed",
        "max_crashes_exceeded",
    )
    assert (run.is_partial, workflow_helpers.step(run, "pay").in_doubt) == (True, True)
    before = len(governed.toolbox.effects)
    run = resumed(run)
    assert workflow_helpers.steps(run) == {"pay": "unknown"}
    assert len(governed.toolbox.effects) == before
    told = Event.objects.of_run(run.pk).filter(type="tool.call.unresolved").latest("id")
    assert (told.actor_label, told.details["error"]) == ("rose", "in_doubt")
    run = resolved(run, Resolution.TOOK_EFFECT, rosa, result={"done": "pay"})
    assert (run.status, len(governed.toolbox.effects)) == ("succeeded", before)
    assert workflow_helpers.step(run, "pay").in_doubt is False


def test_a_call_that_may_have_arrived_is_unknown_when_it_can_be_tried_no_more(
    governed: Governed,
) -> None:
    governed.toolbox.fail_with = [NoResponse("x"), NotSent("x"), NotSent("x")]
    run = workflow_helpers.done(
        governed, "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
    )
    for _ in range(2):
        run = later(run, seconds=30)
    assert workflow_helpers.steps(run) == {"pay": "unknown"}
    assert Action.objects.get(run_id=run.pk).status == "unknown"


def test_what_was_unknown_when_its_run_was_cancelled_is_settled_all_the_same(
    governed: Governed, rosa: User
) -> None:
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.done(governed, MAIL)
    operator_commands.cancel(run.pk, actor=ROSE, reason="Not needed.")
    run = workflow_helpers.driven(run)
    assert (run.status, run.unknown_count, run.is_partial) == ("cancelled", 1, True)
    run = resolved(run, Resolution.FAILED, rosa)
    assert (run.status, run.unknown_count, run.is_partial) == ("cancelled", 0, False)
    assert workflow_helpers.steps(run) == {"mail": "failed"}


def test_a_call_that_is_to_be_tried_again_is_not_when_its_run_is_cancelled(
    governed: Governed, rosa: User
) -> None:
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.done(
        governed, "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
    )
    assert workflow_helpers.steps(run) == {"pay": "retry"}
    operator_commands.cancel(run.pk, actor=ROSE, reason="Not needed.")
    run = later(run, hours=1)
    assert (workflow_helpers.steps(run), run.unknown_count) == ({"pay": "unknown"}, 1)
    assert paid(governed) == []
    recovery.resolve_unknown(
        Action.objects.get().pk,
        actor=Actor.from_user(rosa),
        answer=Resolution.TOOK_EFFECT,
        reason="It is in the books.",
    )
    run = workflow_helpers.driven(run)
    assert (workflow_helpers.steps(run), run.is_partial) == ({"pay": "succeeded"}, True)


BACK_BY_MAIL = """\
on_failure: compensate
steps:
  pay:
    tool: toolbox.pay
    with: {account: a, amount: 1}
    compensate: {tool: toolbox.mail, with: {to: x}}
"""


def test_an_undoing_that_cannot_be_repeated_is_not(governed: Governed) -> None:
    """The call it takes back could be: that says nothing of this one."""
    run = workflow_helpers.done(governed, BACK_BY_MAIL)
    governed.toolbox.fail_with = [NoResponse("x")]
    operator_commands.undo(run.pk, actor=ROSE, reason="A mistake.")
    run = later(workflow_helpers.driven(run), hours=1)
    assert workflow_helpers.steps(run) == {"pay": "succeeded", "undo:pay": "unknown"}
    assert governed.toolbox.calls.count("mail") == 1


def test_a_question_that_was_withdrawn_is_asked_anew(governed: Governed, rosa: User) -> None:
    from actions.services.runs import close_run  # noqa: PLC0415 - only here

    run = workflow_helpers.done(governed, ASK)
    close_run(run.pk, actor=SYSTEM, identity_id=governed.identity.pk, outcome="enough")
    run = workflow_helpers.driven(run)  # which closing it has woken
    assert (run.status, ApprovalRequest.objects.get().status) == ("halted", "withdrawn")
    run = resumed(run)
    assert run.status == "waiting"
    vote(rosa)
    assert workflow_helpers.driven(run).status == "succeeded"
    assert Run.objects.get(pk=run.pk).status == Run.Status.CLOSED


def test_nothing_is_left_of_items_that_were_under_way(governed: Governed) -> None:
    """Items in parallel: one fails, the other is settled; both are as they should be after it."""
    fail_at(governed, 2, Refused("no"))
    run = workflow_helpers.done(
        governed, (ITEMS % "fail").replace("max_items: 5", "max_items: 5\n      parallel: 2")
    )
    assert run.status == "failed"
    run = resumed(run)
    assert (run.status, run.output) == ("succeeded", {"paid": 4})
    assert sorted(paid(governed)) == [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
    assert not StepRun.objects.filter(run_id=run.pk).exclude(status="succeeded").exists()
