"""What changes between a decision and what follows from it: found by attacking the path."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from accounts.models import User
from actions.models import Action, Attempt, Run
from actions.services import decisions, execution, redecision, submission
from actions.services.decisions import DecisionResult
from actions.services.runs import Budget
from agents.directory import directory
from agents.errors import InvalidToken
from agents.models import Halt, SigningKey
from agents.services.enrolment import revoke_key
from agents.services.halts import place_halt
from agents.services.lifecycle import activate, suspend
from agents.tokens import verify
from approvals.errors import AlreadyRequested, OwnAgent
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue
from common.actors import SYSTEM, Actor, acting
from policies.models import Policy
from policies.services import releases
from policies.snapshot import snapshot
from tests import factories
from tests.conftest import Api
from tests.factories import Governed
from tests.toolbox import POLICIES, TOOLS
from tools.connectors.base import NoResponse, Unavailable
from tools.services.registration import define_tool

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BACKOFF_BASE_SECONDS", 0.0)


def after_the_decision(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let something happen, seen by another thread, between the decision and the call."""
    real = decisions.propose

    def propose(proposal: Any) -> DecisionResult:
        committed = real(proposal)
        change()
        snapshot.current()
        return committed

    monkeypatch.setattr(submission, "propose", propose)


def test_no_try_is_added_after_a_halt_that_others_have_seen(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = governed.run()
    governed.toolbox.fail_with = [Unavailable("x")]
    after_the_decision(
        monkeypatch,
        lambda: place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop."),
    )
    action = governed.pay(run).action
    assert action.status == Action.Status.READY
    assert Attempt.objects.filter(action=action).count() == 1
    assert governed.toolbox.effects == []


def test_a_call_goes_by_the_definition_it_was_decided_on(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = []
    real = execution.call_once

    def called(action: Action, spec: Any, snapshot: Any, **moments: float) -> Any:
        held.append(spec.digest)
        return real(action, spec, snapshot, **moments)

    monkeypatch.setattr(execution, "call_once", called)
    changed = {**TOOLS["pay"], "path": "elsewhere"}
    after_the_decision(
        monkeypatch, lambda: define_tool(governed.system, "pay", actor=SYSTEM, **changed)
    )
    action = governed.pay(governed.run()).action
    assert held == [action.tool_digest]


def test_no_try_is_added_in_a_run_that_has_ended(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = governed.run()
    governed.toolbox.fail_with = [Unavailable("x")]
    after_the_decision(
        monkeypatch,
        lambda: (
            governed.propose(run, "toolbox.wipe", {"id": "a"}, key="wipe")
            if Run.objects.get(pk=run.pk).status == "open"
            else None
        ),
    )
    action = governed.pay(run).action
    assert action.status == Action.Status.READY
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.DENIED
    assert governed.toolbox.effects == []


def test_a_revoked_signing_key_serves_no_call(governed: Governed, api: Api) -> None:
    run = str(governed.run().pk)
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    assert api.post("actions", body, key="1").status_code == 201
    with acting(SYSTEM):
        for key in SigningKey.objects.all():
            key.status = SigningKey.Status.REVOKED
            key.save()
    assert api.post("actions", body, key="2").status_code == 401
    assert len(governed.toolbox.effects) == 1


def test_a_revoked_agent_key_kills_its_tokens(governed: Governed, olga: User) -> None:
    token = factories.token_for(governed.identity)
    key = governed.identity.keys.create(thumbprint="t" * 43, algorithm="ES256", public_jwk={})
    revoke_key(key.pk, actor=Actor.from_user(olga), reason="It leaked.")
    with pytest.raises(InvalidToken):
        verify(token, directory.current())


def test_an_agents_risk_is_todays(governed: Governed, api: Api) -> None:
    risky = '@id("risky") @reason("x") forbid(principal, action, resource)'
    factories.publish(risky=risky + ' when { principal.risk == "high" };')
    run = str(governed.run().pk)
    body = {"run": run, "tool": "toolbox.pay", "arguments": {"account": "a", "amount": 1}}
    assert api.post("actions", body, key="1").json()["status"] == "succeeded"
    agent = governed.identity.agent
    agent.risk = "high"
    with acting(SYSTEM):
        agent.save()
    assert api.post("actions", body, key="2").json()["status"] == "denied"


def test_what_was_proposed_before_a_stop_is_not_done_after_it(governed: Governed) -> None:
    action = governed.pay(governed.run(), asynchronous=True).action
    suspend(governed.identity.agent_id, actor=SYSTEM, reason="Stolen key.")
    activate(governed.identity.agent_id, actor=SYSTEM, reason="New key.")
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.DENIED
    assert governed.toolbox.effects == []


def test_the_same_request_is_answered_alike_after_the_tool_has_changed(governed: Governed) -> None:
    run = governed.run()
    first = governed.pay(run, 5, key="k").action
    claim = {"name": "signed", "title": "Signed", "type": "bool", "default": False}
    claims = [*TOOLS["pay"]["claims"], claim]
    define_tool(governed.system, "pay", actor=SYSTEM, **{**TOOLS["pay"], "claims": claims})
    again = governed.pay(run, 5, key="k")
    assert again.replayed
    assert again.action.pk == first.pk
    assert len(governed.toolbox.effects) == 1


def test_who_the_agent_acts_for_does_not_approve(governed: Governed, rosa: User) -> None:
    run = factories.run(governed.caller, initiator="rosa")
    action = governed.pay(run, 500).action
    assert action.approval_id is not None
    with pytest.raises(OwnAgent):
        cast_vote(
            action.approval_id,
            actor=Actor.from_user(rosa),
            answer=Vote.Answer.APPROVE,
            reason="For me.",
        )
    assert not Vote.objects.exists()


def test_who_wrote_a_new_rule_does_not_approve_its_release(
    governed: Governed, clara: User, olga: User
) -> None:
    text = '@id("open") permit(principal, action, resource);'
    releases.save_policy("open", text, actor=Actor.from_user(clara))
    release = releases.draft_release(actor=Actor.from_user(olga))
    request = releases.ask_to_publish(release.pk, actor=Actor.from_user(olga))
    with pytest.raises(OwnAgent):
        cast_vote(
            request.pk, actor=Actor.from_user(clara), answer=Vote.Answer.APPROVE, reason="Mine."
        )
    release.refresh_from_db()
    assert release.status == "draft"
    assert Policy.objects.get(slug="open").written_by_id == str(clara.pk)


def another_rule() -> None:
    text = '@id("more") @reason("x") forbid(principal, action == Action::"toolbox.wipe", resource);'
    releases.save_policy("more", text, actor=SYSTEM)


def test_a_release_is_asked_about_once_at_a_time(governed: Governed) -> None:
    another_rule()
    release = releases.draft_release(actor=SYSTEM)
    releases.ask_to_publish(release.pk, actor=SYSTEM)
    with pytest.raises(AlreadyRequested):
        releases.ask_to_publish(release.pk, actor=SYSTEM)
    assert ApprovalRequest.objects.count() == 1


def test_one_question_that_cannot_be_settled_does_not_hold_up_the_others(
    governed: Governed,
) -> None:
    another_rule()
    release = releases.draft_release(actor=SYSTEM)
    question = releases.ask_to_publish(release.pk, actor=SYSTEM)
    releases.publish(release.pk, actor=SYSTEM)
    action = governed.pay(governed.run(), 500).action
    assert expire_overdue(now=question.expires_at + timedelta(minutes=1)) == 2
    assert Action.objects.get(pk=action.pk).status == Action.Status.EXPIRED
    assert len(POLICIES) + 1 == Policy.objects.count()


def test_a_slice_does_not_outlive_a_change_of_access(governed: Governed, api: Api) -> None:
    never = '@id("never") @reason("x") forbid(principal, action in Action::"write", resource);'
    factories.publish(never=never)
    define_tool(governed.system, "pay", actor=SYSTEM, **{**TOOLS["pay"], "access": "read"})
    outlooks = {tool["tool"]: tool["expected_outcome"] for tool in api.get("tools").json()}
    assert outlooks["toolbox.pay"] == "denied"
    define_tool(governed.system, "pay", actor=SYSTEM, **TOOLS["pay"])
    assert governed.pay(governed.run()).action.outcome == "denied"
    assert governed.toolbox.effects == []


def test_a_stopped_agent_is_not_answered_again(governed: Governed) -> None:
    run = governed.run()
    governed.pay(run, 5, key="k")
    asked = factories.proposal(
        governed.caller, run, "toolbox.pay", {"account": "a", "amount": 5}, key="k"
    )
    suspend(governed.identity.agent_id, actor=SYSTEM, reason="Stop.")
    with pytest.raises(InvalidToken):
        submission.submit(asked)


def test_an_approved_call_taken_up_again_counts_once_against_the_budget(
    governed: Governed, rosa: User
) -> None:
    run = governed.run(budget=Budget(amount=Decimal(500)))
    action = governed.pay(run, 500).action
    assert action.approval_id is not None
    cast_vote(
        action.approval_id, actor=Actor.from_user(rosa), answer=Vote.Answer.APPROVE, reason="Yes."
    )
    governed.toolbox.fail_with = [NoResponse("x")] * execution.MAX_ATTEMPTS
    redecision.resume(action.pk)
    Action.objects.filter(pk=action.pk).update(status=Action.Status.READY)
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.SUCCEEDED
    run.refresh_from_db()
    assert run.amount == 500
