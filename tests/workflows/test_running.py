"""Runs from start to end, each kind of step, as a worker takes them."""

from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from accounts.models import User
from actions.models import Action, Attempt, Run
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from common.actors import SYSTEM, Actor
from tests.factories import Governed
from tests.workflows import workflow_helpers
from workflows.models import Signal, StepRun, WorkflowRun
from workflows.services import run_signals, worker

pytestmark = pytest.mark.django_db

CHAIN = """\
inputs:
  type: object
  required: [account]
  properties: {account: {type: string}, amount: {type: number, default: 5}}
steps:
  tell: {tool: toolbox.mail, with: {to: "${ inputs.account }"}}
  look:
    needs: [tell]
    tool: toolbox.read_account
    with: {id: "${ inputs.account }"}
  pay:
    needs: [look]
    when: "${ steps.look.output.frozen == false }"
    tool: toolbox.pay
    with: {account: "${ inputs.account }", amount: "${ inputs.amount }"}
success: "${ steps.pay.status == 'succeeded' }"
output: {paid: "${ inputs.amount }", look: "${ steps.look.output }"}
"""


def vote(person: User, answer: Vote.Answer = Vote.Answer.APPROVE) -> None:
    waiting = ApprovalRequest.objects.pending().get()
    cast_vote(waiting.pk, actor=Actor.from_user(person), answer=answer, reason="Seen.")


def later(run: WorkflowRun, **length: float) -> WorkflowRun:
    """The run after so much time, as if its steps had begun that much earlier."""
    WorkflowRun.objects.filter(pk=run.pk).update(
        next_wake_at=F("next_wake_at") - timedelta(**length)
    )
    StepRun.objects.filter(run_id=run.pk, due_at__isnull=False).update(
        due_at=F("due_at") - timedelta(**length)
    )
    return workflow_helpers.driven(run)


def test_a_chain_runs_to_its_end(governed: Governed) -> None:
    run = workflow_helpers.done(governed, CHAIN, {"account": "a"})
    assert run.status == WorkflowRun.Status.SUCCEEDED, run.reason
    assert workflow_helpers.steps(run) == {
        "tell": "succeeded",
        "look": "succeeded",
        "pay": "succeeded",
    }
    assert run.output == {"paid": 5, "look": {"frozen": False}}
    assert run.success_condition_met is True
    assert governed.toolbox.calls == ["mail", "pay"]
    assert Run.objects.get(pk=run.pk).status == Run.Status.CLOSED
    assert Action.objects.filter(run_id=run.pk, executor="workflows").count() == 3
    assert Attempt.objects.filter(action__run_id=run.pk, status="succeeded").count() == 3


def test_each_call_is_decided_recorded_and_named_with_its_step(governed: Governed) -> None:
    run = workflow_helpers.done(governed, CHAIN, {"account": "a"})
    types = list(Event.objects.of_run(run.pk).values_list("type", flat=True))
    assert types.count("decision.made") == types.count("tool.call.requested") == 3
    assert types.count("tool.call.completed") == 3
    assert types[0:2] == ["run.started", "workflow.run.started"]
    assert {"workflow.run.ended", "run.closed"} <= set(types)
    decided = Event.objects.of_run(run.pk).filter(type="decision.made")
    assert [event.details["step"] for event in decided] == ["tell", "look", "pay"]


def test_a_step_whose_condition_does_not_hold_is_skipped(governed: Governed) -> None:
    governed.toolbox.accounts["a"]["frozen"] = True
    run = workflow_helpers.done(governed, CHAIN, {"account": "a"})
    assert run.status == "succeeded"
    assert workflow_helpers.steps(run)["pay"] == "skipped"
    assert run.success_condition_met is False
    assert governed.toolbox.calls == ["mail"]


def test_what_policy_denies_halts_the_run(governed: Governed) -> None:
    run = workflow_helpers.done(
        governed,
        """\
steps:
  look: {tool: toolbox.read_account, with: {id: a}}
  tell: {needs: [look], tool: toolbox.mail, with: {to: x}}
""",
    )
    assert run.status == "halted"
    assert run.reason == "Policy denied the step tell: No confidential mail"
    assert governed.toolbox.effects == []


def test_what_policy_denies_fails_the_run_where_that_is_said(governed: Governed) -> None:
    governed.toolbox.accounts["a"]["frozen"] = True
    run = workflow_helpers.done(
        governed,
        "on_denied: fail\nsteps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n",
    )
    assert run.status == "failed"
    assert Run.objects.get(pk=run.pk).status == Run.Status.CLOSED


PAY = """\
inputs: {type: object, required: [amount], properties: {amount: {type: number}}}
steps:
  pay: {tool: toolbox.pay, with: {account: a, amount: "${ inputs.amount }"}}
"""


def test_a_call_that_people_are_asked_about_waits_and_goes_on(
    governed: Governed, rosa: User
) -> None:
    run = workflow_helpers.done(governed, PAY, {"amount": 500})
    assert run.status == "waiting"
    assert workflow_helpers.step(run, "pay").waiting_for == "approval"
    assert governed.toolbox.effects == []
    assert worker.run_until_idle(run.pk) == 0  # a hint too many
    vote(rosa)
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded"
    assert governed.toolbox.effects == [("pay", {"account": "a", "amount": 500, "note": ""})]
    assert ApprovalRequest.objects.get().spent_at is not None


def test_a_no_of_people_fails_the_step(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, PAY, {"amount": 500})
    vote(rosa, Vote.Answer.REJECT)
    run = workflow_helpers.driven(run)
    assert run.status == "failed"
    assert workflow_helpers.step(run, "pay").error_code == "rejected_by_people"
    assert governed.toolbox.effects == []


ASK = """\
inputs: {type: object, required: [why], properties: {why: {type: string}}}
steps:
  sign_off:
    approval:
      tier: supervisor
      question: May it go on
      show: {why: "${ inputs.why }"}
      on_expiry: continue
  pay:
    needs: [sign_off]
    when: "${ steps.sign_off.output.approved }"
    tool: toolbox.pay
    with: {account: a, amount: 1}
output: {votes: "${ steps.sign_off.output.votes }"}
"""


def test_an_approval_step_asks_people_and_is_spent(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, ASK, {"why": "It is due."})
    request = ApprovalRequest.objects.get()
    assert request.snapshot["shown"] == {"why": "It is due."}
    assert run.status == "waiting"
    vote(rosa)
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded", run.reason
    assert run.output == {"votes": [{"who": "rosa", "answer": "approve"}]}
    assert ApprovalRequest.objects.get().spent_at is not None


def test_an_approval_nobody_gives_goes_as_the_step_says(governed: Governed) -> None:
    run = workflow_helpers.done(governed, ASK, {"why": "x"})
    expire_overdue(now=timezone.now() + timedelta(days=2))
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded"
    assert workflow_helpers.steps(run) == {"sign_off": "succeeded", "pay": "skipped"}


WAIT = """\
steps:
  rest: {wait: {for: 2h}}
  pay: {needs: [rest], tool: toolbox.pay, with: {account: a, amount: 1}}
"""


def test_a_wait_holds_nothing_and_ends_in_time(governed: Governed) -> None:
    run = workflow_helpers.done(governed, WAIT)
    assert run.status == "waiting"
    due = workflow_helpers.step(run, "rest").due_at
    assert due is not None
    assert run.next_wake_at == due
    assert later(run, hours=1).status == "waiting"
    assert later(run, hours=2).status == "succeeded"


SIGNAL = """\
steps:
  told:
    wait:
      signal: paid
      match: "${ signal.amount > 10 }"
      timeout: 1h
output: {amount: "${ steps.told.output.amount }"}
"""


def signal(run: WorkflowRun, amount: int, *, key: str = "k") -> bool:
    sent = {"name": "paid", "payload": {"amount": amount}, "key": key}
    return run_signals.send(run.pk, actor=SYSTEM, **sent)[1]  # type: ignore[arg-type]


def test_a_signal_that_fits_is_taken_up_once(governed: Governed) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    assert signal(run, 1, key="small")
    assert workflow_helpers.driven(run).status == "waiting"
    assert signal(run, 11)
    assert not signal(run, 11)  # sent twice
    run = workflow_helpers.driven(run)
    assert (run.status, run.output) == ("succeeded", {"amount": 11})
    assert Signal.objects.get(key="k").consumed_by == "told"
    assert Signal.objects.get(key="small").consumed_at is None


def test_a_signal_that_comes_first_is_kept(governed: Governed) -> None:
    workflow_helpers.publish(SIGNAL)
    run = workflow_helpers.begin(governed)
    signal(run, 12)
    assert workflow_helpers.driven(run).output == {"amount": 12}


def test_a_signal_that_does_not_come_fails_the_step(governed: Governed) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    run = later(run, hours=2)
    assert (run.status, workflow_helpers.step(run, "told").error_code) == ("failed", "no_signal")


EACH = """\
inputs: {type: object, required: [amounts], properties: {amounts: {type: array}}}
on_denied: fail
steps:
  all:
    foreach:
      in: "${ inputs.amounts }"
      max_items: 50
      parallel: 3
      fail: collect
      steps:
        pay:
          when: "${ item > 0 }"
          tool: toolbox.pay
          with: {account: a, amount: "${ item }"}
        look: {tool: toolbox.read_account, with: {id: a}}
output:
  total: "${ steps.all.output.total }"
  failed: "${ steps.all.output.failed }"
  first: "${ steps.all.output.items[0].output.pay.done }"
"""


def test_each_item_is_done_and_gathered(governed: Governed) -> None:
    run = workflow_helpers.done(governed, EACH, {"amounts": [1, 2, 0, 3, 4]})
    assert run.status == "succeeded", run.reason
    assert run.output == {"total": 5, "failed": 0, "first": "pay"}
    assert len(governed.toolbox.effects) == 4
    assert not StepRun.objects.filter(run_id=run.pk, folded=False, scope__gt="").exists()


def test_an_item_that_fails_is_counted_or_stops_all(governed: Governed) -> None:
    mixed = [1, "x", 3]
    run = workflow_helpers.done(
        governed, EACH.replace("${ item > 0 }", "${ true }"), {"amounts": mixed}
    )
    assert run.status == "succeeded"
    assert run.output
    assert (run.output["total"], run.output["failed"]) == (3, 1)
    stops = EACH.replace("fail: collect", "fail: stop").replace("${ item > 0 }", "${ true }")
    workflow_helpers.publish(stops)
    run = workflow_helpers.driven(workflow_helpers.begin(governed, {"amounts": mixed}))
    assert (run.status, workflow_helpers.step(run, "all").error_code) == ("failed", "item_failed")


def test_too_many_items_are_refused(governed: Governed) -> None:
    run = workflow_helpers.done(governed, EACH, {"amounts": [1] * 51})
    assert (run.status, workflow_helpers.step(run, "all").error_code) == (
        "failed",
        "too_many_items",
    )
    assert governed.toolbox.effects == []


def test_a_stop_condition_is_checked_before_each_step(governed: Governed) -> None:
    run = workflow_helpers.done(
        governed,
        """\
stop_when:
  - {if: "${ run.labels.exists(l, l == 'confidential') }", reason: it has read too much}
steps:
  look: {tool: toolbox.read_account, with: {id: a}}
  pay: {needs: [look], tool: toolbox.pay, with: {account: a, amount: 1}}
""",
    )
    assert (run.status, run.reason) == ("halted", "Stopped: it has read too much")
    assert governed.toolbox.effects == []


def test_a_run_that_takes_too_long_or_too_many_steps_ends(governed: Governed) -> None:
    workflow_helpers.publish("limits: {deadline: 1h, max_steps: 2}\n" + WAIT)
    run = workflow_helpers.begin(governed)
    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=timezone.now())
    run = workflow_helpers.driven(run)
    assert (run.status, run.reason) == ("failed", "The time limit of the run has passed.")
    workflow_helpers.publish(CHAIN.replace("steps:", "limits: {max_steps: 2}\nsteps:", 1))
    run = workflow_helpers.driven(workflow_helpers.begin(governed, {"account": "a"}))
    assert (run.status, run.reason) == ("failed", "The run has taken all the steps it may.")
    assert run.is_partial  # the mail is out


def test_a_budget_of_the_definition_holds(governed: Governed) -> None:
    body = (
        "limits: {amount: 7}\non_denied: fail\n"
        + """\
steps:
  one: {tool: toolbox.pay, with: {account: a, amount: 5}}
  two: {needs: [one], tool: toolbox.pay, with: {account: a, amount: 5}}
"""
    )
    run = workflow_helpers.done(governed, body)
    assert run.status == "failed"
    assert workflow_helpers.step(run, "two").error == "Budget exceeded"
    assert len(governed.toolbox.effects) == 1
