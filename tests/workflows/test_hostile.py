"""What was found by attacking the engine, kept so that it stays closed."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from actions.models import Run
from actions.services.recovery import Resolution
from actions.services.runs import close_run
from agents.services.lifecycle import activate, suspend
from common.actors import SYSTEM
from tests import factories
from tests.factories import Governed
from tests.toolbox import TOOLS
from tests.workflows import workflow_helpers
from tests.workflows.test_failing import die, dying, probed, resolved
from tests.workflows.test_running import later
from tests.workflows.test_undoing import CHILD, bob, paid
from tools.connectors.base import NoResponse
from tools.services.registration import define_tool
from workflows.errors import InvalidWorkflow
from workflows.models import WorkflowRun
from workflows.services import operator_commands, run_signals, sweeper, worker

pytestmark = pytest.mark.django_db
__all__ = ["bob", "dying", "probed"]

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
    workflow_helpers.publish(LENGTHS)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert run.status == "waiting"
    assert workflow_helpers.step(run, "each").input == [3.0]


def test_an_undoing_that_waits_past_its_limit_is_not_looked_at_on_and_on(
    governed: Governed,
) -> None:
    workflow_helpers.publish(MAIL)
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    operator_commands.undo(run.pk, actor=SYSTEM, reason="Take it back.")
    past = timezone.now() - timedelta(hours=1)
    WorkflowRun.objects.filter(pk=run.pk).update(deadline_at=past, next_wake_at=past)
    worker.run_until_idle(run.pk)
    run.refresh_from_db()
    assert (run.status, workflow_helpers.steps(run)) == ("compensating", {"mail": "unknown"})
    assert run.next_wake_at is not None
    assert run.next_wake_at > timezone.now() + timedelta(minutes=5)
    assert run.pk not in sweeper.to_drive(limit=50)


def test_a_counted_item_is_not_done_anew_when_a_later_step_is(governed: Governed) -> None:
    governed.toolbox.accounts["frozen"] = {"frozen": True}
    workflow_helpers.publish(COLLECT)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    assert run.status == "failed"
    governed.toolbox.accounts["frozen"] = {"frozen": False}
    operator_commands.resume(run.pk, actor=SYSTEM, reason="It was thawed.")
    run = workflow_helpers.driven(run)
    assert (run.status, workflow_helpers.steps(run)) == (
        "succeeded",
        {"each": "succeeded", "each[0].pay": "denied", "each[1].pay": "succeeded"}
        | {"last": "succeeded"},
    )
    assert sorted(paid(governed)) == [("b", 1), ("frozen", 2)]


def test_an_agent_that_was_stopped_meanwhile_hands_nothing_over(
    governed: Governed, bob: Governed
) -> None:
    workflow_helpers.publish(CHILD, slug="child")
    workflow_helpers.publish(LATER)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    agent_id = governed.identity.agent_id
    suspend(agent_id, actor=SYSTEM, reason="Its key was stolen.")
    activate(agent_id, actor=SYSTEM, reason="It has a new key.")
    run = later(run, hours=2)
    assert workflow_helpers.step(run, "hand").error_code == "handoff_refused"
    assert not WorkflowRun.objects.filter(parent=run).exists()
    assert paid(governed) == []
    assert run.status == "failed"


DENIED_ITEM = """\
steps:
  each:
    foreach:
      in: "${ ['a', 'frozen', 'b'] }"
      max_items: 5
      fail: %s
      steps: {pay: {tool: toolbox.pay, with: {account: "${ item }", amount: 1}}}
"""


@pytest.mark.parametrize("fail", ["stop", "collect"])
def test_what_policy_denies_halts_the_run_within_items_too(governed: Governed, fail: str) -> None:
    governed.toolbox.accounts["frozen"] = {"frozen": True}
    run = workflow_helpers.done(governed, DENIED_ITEM % fail)
    assert run.status == "halted"
    assert run.reason.startswith("Policy denied the step each[1].pay")
    assert paid(governed) == [("a", 1)]


SKIPS = """\
steps:
  each:
    foreach:
      in: "${ inputs.ns }"
      max_items: 1000
      steps: {rest: {when: "${ item > 0 }", wait: {for: 1h}}}
inputs: {type: object, properties: {ns: {type: array, items: {type: integer}}}}
"""


def test_more_items_than_go_into_one_transaction_are_gone_on_with(governed: Governed) -> None:
    run = workflow_helpers.done(governed, SKIPS, {"ns": [0] * 700})
    assert run.status == "succeeded", run.reason
    assert workflow_helpers.step(run, "each").done == 700


@pytest.mark.parametrize("value", ["0.0 / 0.0", "b'x'", "type(1)"])
def test_items_that_cannot_be_written_down_fail_the_step(governed: Governed, value: str) -> None:
    run = workflow_helpers.done(governed, LENGTHS.replace("duration('3s')", value))
    assert (run.status, workflow_helpers.step(run, "each").error_code) == (
        "failed",
        "expression_failed",
    )


DEEP = """\
on_failure: compensate
inputs: {type: object, properties: {deep: {}}}
steps:
  each:
    foreach:
      in: "${ [1] }"
      max_items: 5
      steps: {told: {wait: {signal: deep, timeout: 1h}}}
output: {deep: "${ steps.each.output }"}
"""


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def test_what_items_brought_fails_the_step_if_it_is_too_deep_to_keep(governed: Governed) -> None:
    run = workflow_helpers.done(governed, DEEP)
    run_signals.send(run.pk, actor=SYSTEM, name="deep", payload=nested(31), key="k")
    run = workflow_helpers.driven(run)
    assert workflow_helpers.step(run, "each").error_code == "output_not_kept"
    assert run.status == "compensated"


def test_an_output_that_cannot_be_computed_goes_by_on_failure(governed: Governed) -> None:
    run = workflow_helpers.done(
        governed,
        "on_failure: compensate\n"
        "steps:\n"
        "  pay:\n"
        "    tool: toolbox.pay\n"
        "    with: {account: a, amount: 1}\n"
        "    compensate: {tool: toolbox.pay, with: {account: back, amount: 1}}\n"
        'output: {n: "${ 1 / size(steps.pay.output.none) }"}\n',
    )
    assert (run.status, paid(governed)) == ("compensated", [("a", 1), ("back", 1)])


def test_what_an_expression_failed_on_is_not_quoted(governed: Governed) -> None:
    run = workflow_helpers.done(
        governed,
        "inputs: {type: object, properties: {secret: {}}}\n"
        "steps: {rest: {wait: {until: \"${ inputs.secret['hunter2'] }\"}}}\n",
        {"secret": {"not hunter": 1}},
    )
    step = workflow_helpers.step(run, "rest")
    assert (run.status, step.error_code) == ("failed", "expression_failed")
    assert step.error == "The expression could not be evaluated: key not found in map."
    assert "hunter2" not in factories.everything_recorded()


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        (
            "{type: object, properties: {a: {$ref: '#'}}}",
            "The inputs' schema must not refer to itself ($ref).",
        ),
        ("{type: object, anyOf: [%s]}" % ", ".join(["{}"] * 1_001), "larger than 1000 parts"),  # noqa: UP031
        ("{type: object, not: %s{}%s}" % ("{not: " * 30, "}" * 30), "nested deeper than 20"),  # noqa: UP031
    ],
)
def test_a_schema_that_could_take_long_to_check_is_refused(
    governed: Governed, inputs: str, sentence: str
) -> None:
    with pytest.raises(InvalidWorkflow) as refused:
        workflow_helpers.publish(f"inputs: {inputs}\nsteps:\n  rest: {{wait: {{for: 1h}}}}\n")
    assert sentence in str(refused.value)


def test_text_that_is_no_unicode_is_refused_with_a_sentence(governed: Governed) -> None:
    with pytest.raises(InvalidWorkflow) as refused:
        workflow_helpers.publish('steps:\n  rest: {title: "\ud800", wait: {for: 1h}}\n')
    assert "UTF-8" in str(refused.value)


def test_a_system_that_had_done_a_call_labels_the_run_as_if_it_had_answered(
    governed: Governed,
    probed: dict[str, Any],
    dying: list[str],
) -> None:
    define_tool(
        governed.system, "mail", actor=SYSTEM, **TOOLS["mail"], probe="find", labels=["outbound"]
    )
    factories.publish()
    workflow_helpers.publish(MAIL)
    dying.append("after")
    run = later(die(workflow_helpers.begin(governed)), seconds=20)
    assert run.status == "succeeded"
    assert Run.objects.get(pk=run.pk).labels == ["outbound"]


def test_a_person_who_says_that_a_call_was_done_labels_the_run_too(
    governed: Governed, rosa: User
) -> None:
    define_tool(governed.system, "mail", actor=SYSTEM, **TOOLS["mail"], labels=["outbound"])
    factories.publish()
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.done(governed, MAIL)
    assert Run.objects.get(pk=run.pk).labels == []
    run = resolved(run, Resolution.TOOK_EFFECT, rosa)
    assert Run.objects.get(pk=run.pk).labels == ["outbound"]


def test_a_run_that_is_closed_does_not_wait_any_more(governed: Governed) -> None:
    run = workflow_helpers.done(governed, "steps:\n  told: {wait: {signal: paid, timeout: 9h}}\n")
    close_run(run.pk, actor=SYSTEM, identity_id=governed.identity.pk, outcome="enough")
    assert workflow_helpers.driven(run).status == "halted"
