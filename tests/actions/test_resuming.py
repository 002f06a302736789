from typing import Any
from uuid import UUID

import pytest

from accounts.models import User
from actions.models import Action, Attempt
from actions.services import recovery, redecision
from actions.services.runs import close_run
from agents.models import Halt
from agents.services.halts import place_halt
from agents.services.lifecycle import suspend
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from common.actors import SYSTEM, Actor
from policies.services import grants
from tests import factories
from tests.factories import Governed
from tests.toolbox import POLICIES, TOOLS
from tools.models import Tool
from tools.services.registration import define_tool, withdraw_tool

pytestmark = pytest.mark.django_db


def waiting(governed: Governed, amount: float = 500) -> Action:
    action = governed.pay(governed.run(), amount).action
    assert action.status == Action.Status.WAITING
    return action


def approve(action: Action, *people: User) -> None:
    for person in people:
        current = Action.objects.get(pk=action.pk)
        cast_vote(
            UUID(str(current.approval_id)),
            actor=Actor.from_user(person),
            answer=Vote.Answer.APPROVE,
            reason="Seen.",
        )


def stored(action: Action) -> Action:
    return Action.objects.get(pk=action.pk)


def second_decision(action: Action) -> dict[str, Any]:
    found: dict[str, Any] | None = stored(action).redecision
    assert found is not None
    return found


def test_an_approved_action_is_decided_again_and_executed(
    governed: Governed, rosa: User, hints: Any, django_capture_on_commit_callbacks: Any
) -> None:
    action = waiting(governed)
    with django_capture_on_commit_callbacks(execute=True):
        approve(action, rosa)
    assert hints.of("actions.execute") == [str(action.pk)]
    assert governed.toolbox.effects == []
    redecision.resume(action.pk)
    done = stored(action)
    assert (done.outcome, done.status) == ("needs_approval", "succeeded")
    assert second_decision(done)["outcome"] == "allowed"
    request = ApprovalRequest.objects.get(subject_id=action.pk)
    assert request.spent_at is not None
    assert len(governed.toolbox.effects) == 1
    assert "approval.spent" in Event.objects.of_run(action.run_id).values_list("type", flat=True)


def test_a_repeated_hint_does_nothing(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    approve(action, rosa)
    redecision.resume(action.pk)
    assert redecision.resume(action.pk) is None
    assert len(governed.toolbox.effects) == 1


def test_a_rejected_action_is_not_executed(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    cast_vote(
        UUID(str(action.approval_id)),
        actor=Actor.from_user(rosa),
        answer=Vote.Answer.REJECT,
        reason="No.",
    )
    assert stored(action).status == Action.Status.REJECTED
    assert redecision.resume(action.pk) is None
    assert governed.toolbox.effects == []


def test_an_expired_question_ends_the_action(governed: Governed) -> None:
    action = waiting(governed)
    request = ApprovalRequest.objects.get(subject_id=action.pk)
    assert expire_overdue(now=request.expires_at) == 1
    assert stored(action).status == Action.Status.EXPIRED


def test_a_prohibition_that_holds_by_then_still_prohibits(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    approve(action, rosa)
    governed.toolbox.accounts["a"]["frozen"] = True
    redecision.resume(action.pk)
    done = stored(action)
    assert done.status == Action.Status.DENIED
    assert second_decision(done)["reasons"][0]["rule"] == "frozen-accounts"
    assert ApprovalRequest.objects.get(subject_id=action.pk).spent_at is None
    assert governed.toolbox.effects == []


def test_a_new_release_is_asked_about_anew(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    approve(action, rosa)
    factories.publish(large_payments=POLICIES["large-payments"].replace("100", "one hundred"))
    redecision.resume(action.pk)
    again = stored(action)
    assert again.status == Action.Status.WAITING
    assert ApprovalRequest.objects.filter(subject_id=action.pk).count() == 2
    assert governed.toolbox.effects == []
    approve(again, rosa)
    redecision.resume(action.pk)
    assert stored(action).status == Action.Status.SUCCEEDED


def test_a_release_without_the_gate_lets_it_through(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    approve(action, rosa)
    factories.publish(
        large_payments=POLICIES["large-payments"].replace(
            "context.facts.large", "context.facts.huge"
        )
    )
    redecision.resume(action.pk)
    assert stored(action).status == Action.Status.SUCCEEDED


def _withdraw(governed: Governed) -> None:
    withdraw_tool(governed.tool("pay").pk, actor=SYSTEM, reason="Broken.")


def _change(governed: Governed) -> None:
    define_tool(governed.system, "pay", actor=SYSTEM, **{**TOOLS["pay"], "description": "Other."})
    factories.publish()


def _revoke(governed: Governed) -> None:
    grants.revoke(governed.role, governed.system, Tool.Access.WRITE, actor=SYSTEM)


def _halt(governed: Governed) -> None:
    place_halt(Halt.Kind.SYSTEM, actor=SYSTEM, target="toolbox", reason="Stop.")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (_withdraw, "chancery:tool-withdrawn"),
        (_change, "chancery:tool-changed"),
        (_revoke, "chancery:no-grant"),
        (_halt, "chancery:halt:system:toolbox"),
    ],
)
def test_what_changed_after_approval_is_respected(
    governed: Governed, rosa: User, change: Any, rule: str
) -> None:
    action = waiting(governed)
    approve(action, rosa)
    change(governed)
    redecision.resume(action.pk)
    done = stored(action)
    assert done.status in {Action.Status.DENIED, Action.Status.HALTED}
    assert second_decision(done)["reasons"][0]["rule"] == rule
    assert governed.toolbox.effects == []
    assert not Attempt.objects.filter(action=action).exists()


def test_a_suspended_agents_approved_action_is_denied(governed: Governed, rosa: User) -> None:

    action = waiting(governed)
    approve(action, rosa)
    suspend(governed.identity.agent_id, actor=SYSTEM, reason="Odd.")
    redecision.resume(action.pk)
    assert second_decision(action)["reasons"][0]["rule"] == "chancery:identity-not-active"
    assert governed.toolbox.effects == []


def test_closing_a_run_takes_its_questions_back(governed: Governed, rosa: User) -> None:
    action = waiting(governed)
    close_run(action.run_id, actor=governed.actor, identity_id=governed.identity.pk, outcome="done")
    assert stored(action).status == Action.Status.WITHDRAWN
    assert ApprovalRequest.objects.get(subject_id=action.pk).status == "withdrawn"


def test_the_tier_of_the_strictest_gate_needs_two(
    governed: Governed, rosa: User, ruben: User
) -> None:
    action = waiting(governed, 5000)
    approve(action, rosa)
    assert stored(action).status == Action.Status.WAITING
    approve(action, ruben)
    redecision.resume(action.pk)
    assert stored(action).status == Action.Status.SUCCEEDED


def test_work_asked_for_later_is_executed_by_a_worker(
    governed: Governed, hints: Any, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        action = governed.pay(governed.run(), asynchronous=True).action
    assert action.status == Action.Status.READY
    assert hints.of("actions.execute") == [str(action.pk)]
    assert governed.toolbox.effects == []
    redecision.resume(action.pk)
    assert stored(action).status == Action.Status.SUCCEEDED


def test_a_lost_hint_is_sent_again(
    governed: Governed, hints: Any, django_capture_on_commit_callbacks: Any
) -> None:
    action = governed.pay(governed.run(), asynchronous=True).action
    assert recovery.hint_overdue() == 0
    with django_capture_on_commit_callbacks(execute=True):
        late = stored(action).changed_at + recovery.HINT_OVERDUE
        assert recovery.hint_overdue(now=late) == 1
    assert hints.of("actions.execute") == [str(action.pk)]
