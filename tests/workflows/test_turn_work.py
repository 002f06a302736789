"""A turn computes for a moment only: while it does, no halt can be placed."""

import itertools

import pytest

from common.cel import MAX_WORK, ExpressionFailed, WorkBudget, WorkMeter
from tests.factories import Governed
from tests.workflows import workflow_helpers
from workflows.definitions.templates import Template, expression
from workflows.models import StepRun, WorkflowRun
from workflows.services import worker

pytestmark = pytest.mark.django_db

CONDITION = "inputs.rules.exists(r, r.matches('{0}(b|c)*(d|e)*(f|g)*'))"
STEPS = (
    "".join(
        f"""
        s{number}:
          tool: toolbox.mail
          when: "${{{{ {CONDITION.format(number)} }}}}"
          with: {{to: "${{{{ item }}}}"}}"""
        for number in range(4)
    )
    .replace("{{", "{")
    .replace("}}", "}")
)
BODY = f"""inputs:
  type: object
  properties:
    to: {{type: array, items: {{type: string}}}}
    rules: {{type: array, items: {{type: string}}}}
steps:
  all:
    foreach:
      in: "${{inputs.to}}"
      max_items: 50
      parallel: 20
      steps:{STEPS}
"""


def test_a_turn_ends_when_it_has_computed_enough_and_the_next_goes_on(governed: Governed) -> None:
    workflow_helpers.publish(BODY)
    given = {"to": ["a"] * 6, "rules": ["x" * 20] * 1_000}
    run = workflow_helpers.begin(governed, given)
    turns = 0
    looked_at = [0]
    while WorkflowRun.objects.get(pk=run.pk).status != "succeeded":
        turns += 1
        assert turns < 50
        worker.run_until_idle(run.pk)
        looked_at.append(StepRun.objects.filter(status="skipped").count())
    # Six items of four conditions; more than three of them are more than a turn computes.
    assert looked_at[-1] == 24
    assert max(after - before for before, after in itertools.pairwise(looked_at)) <= 3


def test_all_expressions_of_a_template_share_one_budget() -> None:
    names = (("inputs.rules", "LIST<STRING>"),)
    one = expression("${ " + CONDITION.format("a") + " }", names)
    values = {"inputs.rules": ["x" * 20] * 1_000}
    assert Template([one]).resolve(values) == [False]
    meter = WorkMeter()
    with pytest.raises(ExpressionFailed, match="too much"):
        Template([one] * 4).resolve(values, budget=WorkBudget(meter=meter))
    assert meter.is_full
    assert meter.steps <= MAX_WORK
