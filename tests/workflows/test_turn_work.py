"""A turn computes for a moment only: while it does, no halt can be placed."""

import contextlib
import itertools
from typing import Any

import pytest

from common.actors import SYSTEM
from common.cel import MAX_WORK, ExpressionFailed, WorkBudget, WorkMeter
from tests.factories import Governed
from tests.workflows import workflow_helpers
from workflows.definitions.templates import Template, expression
from workflows.errors import TooManySignals
from workflows.expression_context import is_true
from workflows.models import Signal, StepRun, WorkflowRun
from workflows.services import run_signals, tick, worker
from workflows.services.run_signals import send

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


def test_a_meter_never_runs_backwards() -> None:
    meter = WorkMeter()
    budget = WorkBudget(meter=meter)
    for _ in range(4):
        with contextlib.suppress(ExpressionFailed):
            budget.spend(MAX_WORK // 2 + 1)
    assert meter.steps == MAX_WORK
    assert meter.is_full


def test_a_turn_also_ends_by_the_clock(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> None:
    """To hand large values over to an expression takes time, whatever it does with them."""
    monkeypatch.setattr(tick, "MAX_SECONDS", 0)
    workflow_helpers.publish(BODY)
    run = workflow_helpers.begin(governed, {"to": ["a"] * 2, "rules": ["x"]})
    looked_at = [0]
    while WorkflowRun.objects.get(pk=run.pk).status != "succeeded":
        assert len(looked_at) < 50
        worker.run_until_idle(run.pk)
        looked_at.append(StepRun.objects.filter(status="skipped").count())
    assert looked_at[-1] == 8
    assert max(after - before for before, after in itertools.pairwise(looked_at)) == 1


SIGNALLED = """steps:
  told:
    wait: {signal: paid, timeout: 1h, match: "${ signal.lines.exists(l, l == 7) }"}
"""


def test_signals_that_wait_are_matched_within_one_budget(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_helpers.publish(SIGNALLED)
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    for number in range(10):
        send(run.pk, actor=SYSTEM, name="paid", payload={"lines": [1] * 2_000}, key=f"{number}")
    matched: list[Any] = []

    def counted(*given: Any, **named: Any) -> bool:
        matched.append(given)
        return is_true(*given, **named)

    def small(meter: WorkMeter) -> WorkBudget:
        return WorkBudget(left=20_000, meter=meter)

    monkeypatch.setattr("workflows.services.step_handlers.is_true", counted)
    monkeypatch.setattr("workflows.services.step_handlers.WorkBudget", small)
    worker.run_until_idle(run.pk)
    waiting = Signal.objects.filter(run_id=run.pk, consumed_at=None).count()
    assert 0 < len(matched) < waiting
    assert workflow_helpers.steps(run)["told"] == "waiting"


def test_a_run_keeps_so_many_signals_and_no_more(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow_helpers.publish(SIGNALLED)
    run = workflow_helpers.begin(governed)
    monkeypatch.setattr(run_signals, "MAX_WAITING", 3)
    for number in range(3):
        send(run.pk, actor=SYSTEM, name="other", payload={}, key=f"{number}")
    with pytest.raises(TooManySignals):
        send(run.pk, actor=SYSTEM, name="paid", payload={"lines": [7]}, key="one more")
    assert Signal.objects.filter(run_id=run.pk).count() == 3
    # The same signal again is no further one.
    assert send(run.pk, actor=SYSTEM, name="other", payload={}, key="1")[1] is False
    monkeypatch.setattr(run_signals, "MAX_WAITING", 100)
    with pytest.raises(TooManySignals):
        send(run.pk, actor=SYSTEM, name="paid", payload="x" * 1_000_000, key="long")
