from decimal import Decimal

import pytest

from accounts.models import Environment, User
from actions.errors import IdempotencyKeyReused, RunNotOpen
from actions.models import Action, Attempt, Run
from actions.services.runs import Budget
from agents.models import Halt
from agents.services.halts import lift_halt, place_halt
from approvals.models import ApprovalRequest
from audit.models import Event
from common.actors import SYSTEM
from common.errors import NotFound
from tests import factories
from tests.factories import Governed
from tools.errors import InvalidArguments, UnknownTool

pytestmark = pytest.mark.django_db


def test_an_allowed_action_is_executed_and_recorded(governed: Governed) -> None:
    run = governed.run()
    action = governed.pay(run, 50).action
    assert action.outcome == "allowed"
    stored = Action.objects.get(pk=action.pk)
    assert stored.status == Action.Status.SUCCEEDED
    assert stored.result == {"done": "pay"}
    assert stored.arguments == {"account": "a", "amount": 50, "note": ""}
    assert governed.toolbox.effects == [("pay", {"account": "a", "amount": 50, "note": ""})]
    types = list(Event.objects.of_run(run.pk).values_list("type", flat=True))
    assert types == ["run.started", "decision.made", "tool.call.requested", "tool.call.completed"]


def test_a_denied_action_is_a_record_and_nothing_else(governed: Governed) -> None:
    governed.toolbox.accounts["a"]["frozen"] = True
    action = governed.pay(governed.run()).action
    assert (action.outcome, action.status) == ("denied", "denied")
    assert action.reasons[0]["rule"] == "frozen-accounts"
    assert governed.toolbox.effects == []
    assert not Attempt.objects.exists()


def test_a_gate_asks_the_strictest_tier(governed: Governed) -> None:
    action = governed.pay(governed.run(), 5000).action
    assert (action.outcome, action.tier, action.status) == ("needs_approval", "dual", "waiting")
    request = ApprovalRequest.objects.get(subject_id=action.pk)
    assert request.quorum == 2
    assert request.snapshot["arguments"]["amount"] == 5000
    assert {reason["rule"] for reason in request.reasons} == {"large-payments", "huge-payments"}
    assert governed.toolbox.effects == []


def test_a_halting_rule_stops_the_run(governed: Governed) -> None:
    run = governed.run()
    waiting = governed.pay(run, 500).action
    action = governed.propose(run, "toolbox.wipe", {"id": "a"}).action
    assert (action.outcome, action.status) == ("halted", "halted")
    run.refresh_from_db()
    assert run.status == Run.Status.HALTED
    with pytest.raises(RunNotOpen):
        governed.pay(run)
    assert governed.toolbox.effects == []
    assert Action.objects.get(pk=waiting.pk).status == Action.Status.WITHDRAWN
    assert ApprovalRequest.objects.get(subject_id=waiting.pk).status == "withdrawn"


def test_the_same_key_gives_the_same_answer(governed: Governed) -> None:
    run = governed.run()
    first = governed.pay(run, 50, key="k")
    again = governed.pay(run, 50, key="k")
    assert again.replayed
    assert again.action.pk == first.action.pk
    assert again.action.status == Action.Status.SUCCEEDED
    assert len(governed.toolbox.effects) == 1


def test_the_same_key_with_other_arguments_is_refused(governed: Governed) -> None:
    run = governed.run()
    governed.pay(run, 50, key="k")
    with pytest.raises(IdempotencyKeyReused):
        governed.pay(run, 51, key="k")
    assert Action.objects.count() == 1
    assert len(governed.toolbox.effects) == 1


def test_a_replay_is_answered_after_the_run_has_ended(governed: Governed) -> None:
    run = governed.run()
    first = governed.pay(run, 50, key="k")
    governed.propose(run, "toolbox.wipe", {"id": "a"})
    assert governed.pay(run, 50, key="k").action.pk == first.action.pk


@pytest.mark.parametrize("name", ["toolbox.nothing", "nowhere.pay", "", "pay"])
def test_an_unknown_tool_is_refused(governed: Governed, name: str) -> None:
    run = governed.run()
    with pytest.raises(UnknownTool):
        governed.propose(run, name, {})
    assert not Action.objects.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"account": "a"},
        {"account": "a", "amount": "1"},
        {"account": "a", "amount": 1, "x": 1},
        [],
    ],
)
def test_arguments_that_break_the_schema_are_refused(governed: Governed, arguments: object) -> None:
    run = governed.run()
    with pytest.raises(InvalidArguments):
        governed.propose(run, "toolbox.pay", arguments)
    assert not Action.objects.exists()
    assert governed.toolbox.effects == []


def test_another_agents_run_does_not_exist(
    governed: Governed, olga: User, prod: Environment
) -> None:
    other = factories.identity("other", owner=olga, environment=prod)
    foreign = factories.run(factories.caller_for(other))
    with pytest.raises(NotFound):
        governed.pay(foreign)
    assert not Action.objects.exists()


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (Halt.Kind.GLOBAL, ""),
        (Halt.Kind.ENVIRONMENT, "prod"),
        (Halt.Kind.SYSTEM, "toolbox"),
        (Halt.Kind.TOOL, "toolbox.pay"),
        (Halt.Kind.AGENT, "tilda"),
    ],
)
def test_a_halt_stops_what_it_covers(governed: Governed, kind: Halt.Kind, target: str) -> None:
    run = governed.run()
    halt = place_halt(kind, actor=SYSTEM, target=target, reason="Stop.")
    action = governed.pay(run).action
    assert action.outcome == "halted"
    assert action.reasons[0]["reason"] == "Stop."
    assert governed.toolbox.effects == []
    lift_halt(halt.pk, actor=SYSTEM, reason="Over.")
    assert governed.pay(governed.run()).action.outcome == "allowed"


def test_labels_of_results_are_seen_by_policy(governed: Governed) -> None:
    run = governed.run()
    assert governed.propose(run, "toolbox.mail", {"to": "x"}).action.outcome == "allowed"
    governed.propose(run, "toolbox.read_account", {"id": "a"})
    run.refresh_from_db()
    assert run.labels == ["confidential"]
    action = governed.propose(run, "toolbox.mail", {"to": "x"}).action
    assert action.outcome == "denied"
    assert action.reasons[0]["rule"] == "no-confidential-mail"


def test_a_budget_is_not_exceeded(governed: Governed) -> None:
    run = governed.run(budget=Budget(actions=3, amount=Decimal(100)))
    outcomes = [governed.pay(run, amount).action for amount in (60, 60, 40, 1)]
    assert [action.outcome for action in outcomes] == ["allowed", "denied", "allowed", "denied"]
    assert outcomes[1].reasons[0]["rule"] == "chancery:budget-amount"
    assert outcomes[3].reasons[0]["rule"] == "chancery:budget-actions"
    run.refresh_from_db()
    assert run.amount == 100
    assert len(governed.toolbox.effects) == 2
