"""Taking back what was done, and what people may order."""

import pytest

from accounts.models import User
from actions.models import Action, Run
from agents.models import Halt
from agents.services.halts import lift_halt, place_halt
from agents.services.lifecycle import activate, suspend
from approvals.models import ApprovalRequest
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import NotFound, ReasonRequired
from tests import factories
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later, vote
from tools.connectors.base import NoResponse, NotSent, Refused
from workflows.errors import InvalidRunState
from workflows.models import StepRun, WorkflowRun
from workflows.services import operator_commands

pytestmark = pytest.mark.django_db

BACK = "compensate: {tool: toolbox.pay, with: {account: back, amount: %s}}"
TRIP = f"""\
on_failure: compensate
on_denied: fail
steps:
  one: {{tool: toolbox.pay, with: {{account: a, amount: 1}}, {BACK % 1}}}
  two:
    needs: [one]
    tool: toolbox.pay
    with: {{account: a, amount: 2}}
    compensate:
      tool: toolbox.pay
      with: {{account: "${{ steps.two.output.done }}", amount: 2}}
  three:
    needs: [two]
    tool: toolbox.pay
    with: {{account: a, amount: 3}}
    irreversible: Nobody gives it back.
"""


def paid(governed: Governed) -> list[tuple[str, float]]:
    return [(made["account"], made["amount"]) for _, made in governed.toolbox.effects]


def fail_at(governed: Governed, call: int, error: Exception) -> None:
    """Let the toolbox fail at its `call`-th call from now, and no other."""
    box = governed.toolbox
    real, seen = type(box).__call__, []

    def answer(self: object, tool: str, arguments: object, asked: object) -> object:
        if tool != "read_account":
            seen.append(tool)
            if len(seen) == call:
                raise error
        return real(box, tool, arguments, asked)  # type: ignore[arg-type]

    box.__class__ = type("Failing", (type(box),), {"__call__": answer})


def test_what_was_done_is_taken_back_last_first(governed: Governed) -> None:
    fail_at(governed, 3, Refused("no"))
    run = workflow_helpers.done(governed, TRIP)
    assert run.status == "compensated", run.reason
    assert paid(governed) == [("a", 1), ("a", 2), ("pay", 2), ("back", 1)]
    assert workflow_helpers.steps(run) == {
        "one": "succeeded",
        "two": "succeeded",
        "three": "failed",
        "undo:two": "succeeded",
        "undo:one": "succeeded",
    }
    assert Action.objects.filter(run_id=run.pk).count() == 5  # each governed like any other
    assert run.is_partial is False
    assert Run.objects.get(pk=run.pk).status == Run.Status.CLOSED


def test_undoing_is_tried_again_like_any_call(governed: Governed) -> None:
    fail_at(governed, 3, Refused("no"))
    workflow_helpers.publish(TRIP)
    run = workflow_helpers.begin(governed)
    run = workflow_helpers.driven(run)
    assert run.status == "compensated"
    governed.toolbox.__class__ = type(governed.toolbox).__base__  # type: ignore[assignment]
    fail_at(governed, 3, Refused("no"))
    box = governed.toolbox
    real = type(box).__call__
    failed: list[str] = []

    def answer(self: object, tool: str, arguments: dict[str, object], asked: object) -> object:
        if arguments.get("account") == "back" and not failed:
            failed.append(tool)
            raise NotSent
        return real(box, tool, arguments, asked)  # type: ignore[arg-type]

    box.__class__ = type("Again", (type(box),), {"__call__": answer})
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert (run.status, workflow_helpers.steps(run)["undo:one"]) == ("compensating", "retry")
    assert later(run, minutes=1).status == "compensated"


def test_what_cannot_be_taken_back_goes_to_people(governed: Governed, rosa: User) -> None:
    workflow_helpers.publish(TRIP.replace("account: a, amount: 3", "account: frozen, amount: 3"))
    governed.toolbox.accounts["frozen"] = {"frozen": True}
    fail_at(governed, 3, Refused("cannot"))
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert run.status == "compensation_failed"
    assert run.reason == "two could not be undone."
    assert paid(governed) == [("a", 1), ("a", 2)]
    assert Event.objects.filter(type="workflow.run.compensation_failed").exists()
    operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="The system is back.")
    run = workflow_helpers.driven(run)
    assert run.status == "compensated"
    assert paid(governed)[2:] == [("pay", 2), ("back", 1)]


def test_what_is_unknown_is_settled_before_anything_is_taken_back(governed: Governed) -> None:
    fail_at(governed, 2, NoResponse("x"))
    run = workflow_helpers.done(
        governed,
        f"""\
on_failure: compensate
steps:
  one: {{tool: toolbox.pay, with: {{account: a, amount: 1}}, {BACK % 1}}}
  mail: {{needs: [one], tool: toolbox.mail, with: {{to: x}}, irreversible: It is out.}}
  ask: {{needs: [one], wait: {{signal: never, timeout: 1s}}}}
""",
    )
    run = later(run, seconds=5)
    assert workflow_helpers.steps(run)["mail"] == "unknown"
    assert workflow_helpers.steps(run)["ask"] == "expired"
    assert run.status == "waiting"
    assert paid(governed) == [("a", 1)]


def test_a_run_that_fails_after_changing_something_is_marked(governed: Governed) -> None:
    fail_at(governed, 2, Refused("no"))
    run = workflow_helpers.done(
        governed, TRIP.replace("on_failure: compensate", "on_failure: fail")
    )
    assert (run.status, run.is_partial) == ("failed", True)


# -- orders --------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_from_its_checkpoint(governed: Governed, rosa: User) -> None:
    fail_at(governed, 2, Refused("no"))
    run = workflow_helpers.done(
        governed, TRIP.replace("on_failure: compensate", "on_failure: fail")
    )
    assert workflow_helpers.steps(run) == {"one": "succeeded", "two": "failed"}
    with pytest.raises(ReasonRequired):
        operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason=" ")
    operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="It works now.")
    run = workflow_helpers.driven(run)
    assert (run.status, run.is_partial) == ("succeeded", False)
    assert paid(governed) == [("a", 1), ("a", 2), ("a", 3)]
    two = workflow_helpers.step(run, "two")
    assert (two.generation, two.status) == (1, "succeeded")
    assert Action.objects.filter(run_id=run.pk, tool="toolbox.pay").count() == 4
    ordered = Event.objects.get(type="workflow.run.operator_command")
    assert (ordered.actor_label, ordered.details["order"]) == ("rosa", "resume")
    with pytest.raises(InvalidRunState):
        operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="Again.")


def test_a_run_is_cancelled_where_it_is(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(
        governed,
        "steps:\n"
        "  one: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
        "  big: {needs: [one], tool: toolbox.pay, with: {account: a, amount: 500}}\n",
    )
    assert run.status == "waiting"
    operator_commands.cancel(run.pk, actor=Actor.from_user(rosa), reason="Not needed.")
    run = workflow_helpers.driven(run)
    assert (run.status, run.reason, run.is_partial) == ("cancelled", "Not needed.", True)
    assert ApprovalRequest.objects.get().status == "withdrawn"
    assert workflow_helpers.steps(run) == {"one": "succeeded", "big": "cancelled"}
    with pytest.raises(InvalidRunState):
        operator_commands.cancel(run.pk, actor=Actor.from_user(rosa), reason="Again.")


def test_a_finished_run_can_be_taken_back_by_order(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, TRIP.replace("amount: 3", "amount: 4"))
    assert run.status == "succeeded"
    operator_commands.undo(run.pk, actor=Actor.from_user(rosa), reason="A mistake.")
    run = workflow_helpers.driven(run)
    assert run.status == "compensated"
    assert paid(governed)[3:] == [("pay", 2), ("back", 1)]


def test_nobody_orders_about_what_is_not_there(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, TRIP)
    with pytest.raises(NotFound):
        operator_commands.cancel(run.pk, actor=SYSTEM, reason="x", identity_id=0)
    assert WorkflowRun.objects.get(pk=run.pk).status == "succeeded"


# -- halts ---------------------------------------------------------------------------------------

TWO = """\
steps:
  rest: {wait: {for: 1h}}
  pay: {needs: [rest], tool: toolbox.pay, with: {account: a, amount: 1}}
"""


def test_a_halt_freezes_a_run_and_a_person_lets_it_go_on(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, TWO)
    halt = place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
    run = later(run, hours=2)
    assert run.status == "halted"
    assert governed.toolbox.calls == []
    assert Run.objects.get(pk=run.pk).status == Run.Status.HALTED
    operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="Try.")
    assert (
        workflow_helpers.driven(run).status == "halted"
    )  # the halt is in force: nothing is allowed by it
    lift_halt(halt.pk, actor=SYSTEM, reason="Over.")
    operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="Go on.")
    assert workflow_helpers.driven(run).status == "succeeded"
    assert len(governed.toolbox.effects) == 1


def test_a_stopped_agents_runs_do_not_go_on_by_themselves(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(governed, TWO)
    agent_id = governed.identity.agent_id
    suspend(agent_id, actor=SYSTEM, reason="Stop.")
    activate(agent_id, actor=SYSTEM, reason="Go on.")
    run = later(run, hours=2)
    assert (run.status, workflow_helpers.step(run, "pay").error_code) == (
        "halted",
        "identity_not_active",
    )
    assert governed.toolbox.calls == []
    operator_commands.resume(run.pk, actor=Actor.from_user(rosa), reason="Looked at.")
    assert workflow_helpers.driven(run).status == "succeeded"


def test_a_rule_that_stops_the_run_freezes_it(governed: Governed, rosa: User) -> None:
    run = workflow_helpers.done(
        governed,
        "steps:\n"
        "  big: {tool: toolbox.pay, with: {account: a, amount: 500}}\n"
        "  wipe: {tool: toolbox.wipe, with: {id: a}}\n",
    )
    assert run.status == "halted"
    assert governed.toolbox.calls == []
    assert ApprovalRequest.objects.get().status == "withdrawn"
    assert not StepRun.objects.filter(run_id=run.pk, status="running").exists()


# -- children ------------------------------------------------------------------------------------

CHILD = f"""\
inputs: {{type: object, required: [amount], properties: {{amount: {{type: number}}}}}}
on_failure: compensate
steps:
  pay:
    tool: toolbox.pay
    with: {{account: a, amount: "${{ inputs.amount }}"}}
    {BACK % 9}
output: {{done: "${{ steps.pay.output.done }}"}}
"""
PARENT = """\
limits: {amount: 100, actions: 10}
on_failure: compensate
steps:
  sub: {workflow: {workflow: child, with: {amount: 5}}}
  then:
    needs: [sub]
    tool: toolbox.pay
    with: {account: a, amount: 6}
    irreversible: It stays.
output: {sub: "${ steps.sub.output.done }"}
"""


def test_a_run_within_a_run_brings_its_output_and_its_use(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, PARENT)
    assert (run.status, run.output) == ("succeeded", {"sub": "pay"})
    child = WorkflowRun.objects.get(parent=run)
    assert child.status == "succeeded"
    inner, outer = Run.objects.get(pk=child.pk), Run.objects.get(pk=run.pk)
    assert inner.budget_amount == 100
    assert inner.budget_actions == 10
    assert outer.amount == 11
    assert outer.actions_count == 2


def test_a_run_within_a_run_is_taken_back_with_it(governed: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    fail_at(governed, 2, Refused("no"))
    run = workflow_helpers.done(governed, PARENT)
    assert run.status == "compensated"
    assert WorkflowRun.objects.get(parent=run).status == "compensated"
    assert paid(governed) == [("a", 5), ("back", 9)]


def test_a_cancelled_run_cancels_what_runs_within_it(governed: Governed, rosa: User) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(
        PARENT.replace("amount: 5}", "amount: 500}").replace("amount: 100", "amount: 900")
    )
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert WorkflowRun.objects.get(parent=run).status == "waiting"
    operator_commands.cancel(run.pk, actor=Actor.from_user(rosa), reason="No.")
    assert WorkflowRun.objects.get(parent=run).status == "cancelled"
    assert ApprovalRequest.objects.get().status == "withdrawn"


def test_a_child_that_fails_fails_its_step(governed: Governed, rosa: User) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(
        PARENT.replace("amount: 5}", "amount: 500}").replace("amount: 100", "amount: 900")
    )
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    from approvals.models import Vote  # noqa: PLC0415 - only here

    vote(rosa, Vote.Answer.REJECT)
    run = workflow_helpers.driven(run)
    assert workflow_helpers.step(run, "sub").error_code == "child_compensated"
    assert run.status == "compensated"


# -- handing over --------------------------------------------------------------------------------


@pytest.fixture
def bob(governed: Governed, olga: User) -> Governed:
    """Bob, another agent in the same environment, with the same role."""
    from policies.services import grants  # noqa: PLC0415 - only here

    identity = factories.identity("bob", owner=olga, environment=governed.identity.environment)
    grants.add_member(governed.role, identity, actor=SYSTEM)
    return Governed(identity, governed.system, governed.role, governed.toolbox)


HAND = "steps:\n  hand: {handoff: {agent: bob, workflow: child, with: {amount: 5}}}\n"


def test_work_is_handed_over_within_the_rights_of_both(governed: Governed, bob: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    run = workflow_helpers.done(governed, HAND)
    assert run.status == "succeeded"
    child = WorkflowRun.objects.get(parent=run)
    assert Run.objects.get(pk=child.pk).agent == "bob"
    assert Run.objects.get(pk=child.pk).chain == ["tilda.prod"]
    decided = Event.objects.of_run(child.pk).get(type="decision.made")
    assert (decided.actor_id, decided.details["chain"]) == ("bob.prod", ["tilda.prod"])
    assert Event.objects.filter(type="workflow.run.handed_off").count() == 1


def test_what_one_of_both_may_not_do_is_denied(governed: Governed, bob: Governed) -> None:
    from policies.services import grants  # noqa: PLC0415 - only here

    workflow_helpers.publish(CHILD.replace("roles: [keepers]", ""), slug="child")
    workflow_helpers.publish(HAND)
    run = workflow_helpers.begin(governed)
    grants.remove_member(governed.role, governed.identity, actor=SYSTEM)
    workflow_helpers.driven(run)
    child = WorkflowRun.objects.get(parent=run)
    assert child.status == "halted"
    assert "No grant" in workflow_helpers.step(child, "pay").error
    assert governed.toolbox.calls == []


def test_a_halt_on_who_handed_over_stops_the_work(governed: Governed, bob: Governed) -> None:
    workflow_helpers.publish(
        CHILD.replace("steps:", "steps:\n  rest: {wait: {for: 1h}}").replace(
            "  pay:\n", "  pay:\n    needs: [rest]\n"
        ),
        slug="child",
    )
    run = workflow_helpers.done(governed, HAND)
    place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
    child = later(WorkflowRun.objects.get(parent=run), hours=2)
    assert child.status == "halted"
    assert governed.toolbox.calls == []


def test_work_is_not_handed_in_a_circle_or_on_and_on(governed: Governed, bob: Governed) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(
        "steps:\n  back: {handoff: {agent: tilda, workflow: child, with: {amount: 1}}}\n",
        slug="middle",
    )
    workflow_helpers.publish(HAND.replace("child, with: {amount: 5}", "middle"))
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    middle = WorkflowRun.objects.get(parent=run)
    assert (middle.status, workflow_helpers.step(middle, "back").error_code) == (
        "failed",
        "handoff_refused",
    )
    assert "circle" in workflow_helpers.step(middle, "back").error
    assert run.status == "failed"
