"""Something on every page of workflows: versions, a rollout, a schedule, runs in many states."""

from itertools import count

from common.actors import SYSTEM
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tools.connectors.base import NoResponse
from workflows.models import Workflow
from workflows.services import run_signals, schedules, versions
from workflows.services.schedules import Times

_numbers = count(1)

BODY = """\
on_failure: compensate
inputs: {type: object, properties: {amount: {type: number, default: 1}}}
steps:
  look: {title: Look it up, tool: toolbox.read_account, with: {id: a}}
  sign_off:
    needs: [look]
    when: "${ inputs.amount > 50.0 }"
    approval: {tier: supervisor, question: May it be paid, show: {amount: "${ inputs.amount }"}}
  pay:
    title: Pay
    needs: [sign_off]
    tool: toolbox.pay
    with: {account: a, amount: "${ inputs.amount }"}
    compensate: {tool: toolbox.pay, with: {account: b, amount: "${ inputs.amount }"}}
  each:
    needs: [pay]
    foreach:
      in: "${ [1, 2] }"
      max_items: 5
      steps: {pay: {tool: toolbox.pay, with: {account: c, amount: "${ item }"}, irreversible: No.}}
  told: {needs: [pay], when: "${ inputs.amount > 20.0 }", wait: {signal: paid, timeout: 1h}}
output: {amount: "${ inputs.amount }"}
"""
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"


def workflows_at_work(governed: Governed) -> Workflow:
    """A workflow with two versions and a draft; runs that ended, wait, are halted and unknown."""
    number = next(_numbers)
    slug, mail = f"work-{number}", f"mail-{number}"
    workflow_helpers.publish(BODY, slug=slug)
    workflow_helpers.publish(BODY.replace("Look it up", "Look"), slug=slug, share=2_500)
    versions.draft_version(workflow_helpers.text_of(BODY.replace("1h", "2h"), slug), actor=SYSTEM)
    for amount in (1, 60, 30, 5_000):
        workflow_helpers.driven(workflow_helpers.begin(governed, {"amount": amount}, slug=slug))
    waiting = workflow_helpers.begin(governed, {"amount": 60}, slug=slug)
    run_signals.send(waiting.pk, actor=SYSTEM, name="paid", payload={}, key="k")
    workflow_helpers.publish(MAIL, slug=mail)
    governed.toolbox.fail_with = [NoResponse("x")]
    workflow_helpers.driven(workflow_helpers.begin(governed, slug=mail))
    governed.toolbox.fail_with = []
    schedules.save_schedule(
        f"nightly-{number}",
        actor=SYSTEM,
        workflow=workflow_helpers.workflow(slug),
        identity=governed.identity,
        times=Times("0 3 * * *", "Europe/Paris"),
        inputs={},
    )
    return workflow_helpers.workflow(slug)
