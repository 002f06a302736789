from datetime import datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from actions.models import Action, Attempt
from actions.services import execution, recovery, redecision
from agents.models import Halt
from agents.services.halts import place_halt
from audit.models import Event
from common.actors import SYSTEM
from common.canonical import digest
from tests.factories import Governed
from tools.connectors.base import (
    ConnectorError,
    NoResponse,
    NotPermitted,
    NotSent,
    Refused,
    Unavailable,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "BACKOFF_BASE_SECONDS", 0.0)


def attempts(action: Action) -> list[str]:
    return list(Attempt.objects.filter(action=action).values_list("status", flat=True))


@pytest.mark.parametrize("error", [NotSent("x"), Unavailable("x"), NoResponse("x")])
def test_an_idempotent_tool_is_tried_again(governed: Governed, error: ConnectorError) -> None:
    governed.toolbox.fail_with = [error]
    action = governed.pay(governed.run()).action
    assert action.status == Action.Status.SUCCEEDED
    assert attempts(action) == ["failed", "succeeded"]
    assert len(governed.toolbox.effects) == 1


def test_it_is_not_tried_for_ever(governed: Governed) -> None:
    governed.toolbox.fail_with = [Unavailable("x")] * 9
    action = governed.pay(governed.run()).action
    assert action.status == Action.Status.FAILED
    assert attempts(action) == ["failed"] * execution.MAX_ATTEMPTS
    assert action.error_code == "unavailable"


@pytest.mark.parametrize("error", [Refused("no"), NotPermitted("no")])
def test_a_refusal_is_final(governed: Governed, error: ConnectorError) -> None:
    governed.toolbox.fail_with = [error]
    action = governed.pay(governed.run()).action
    assert (action.status, attempts(action)) == (Action.Status.FAILED, ["failed"])


def test_a_tool_that_is_not_idempotent_stays_unknown(governed: Governed) -> None:
    governed.toolbox.fail_with = [NoResponse("no answer")]
    action = governed.propose(governed.run(), "toolbox.mail", {"to": "x"}).action
    assert (action.status, attempts(action)) == (Action.Status.UNKNOWN, ["unknown"])
    assert governed.toolbox.calls == ["mail"]
    assert Event.objects.filter(type="tool.call.unresolved").count() == 1


def test_what_was_not_sent_is_tried_again_even_if_not_idempotent(governed: Governed) -> None:
    governed.toolbox.fail_with = [NotSent("x")]
    action = governed.propose(governed.run(), "toolbox.mail", {"to": "x"}).action
    assert action.status == Action.Status.SUCCEEDED
    assert governed.toolbox.effects == [("mail", {"to": "x"})]


def test_a_failing_fact_source_denies(governed: Governed) -> None:
    governed.toolbox.fail_reads_with = NoResponse("slow")
    action = governed.pay(governed.run()).action
    assert action.outcome == "denied"
    assert action.reasons[0]["rule"] == "chancery:facts-unavailable"
    assert governed.toolbox.effects == []


def test_no_further_try_is_made_under_a_halt(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    governed.toolbox.fail_with = [Unavailable("x")]
    real = execution.call_once

    def halted_meanwhile(*args: Any, **kwargs: Any) -> Any:
        if not Halt.objects.exists():
            place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Stop.")
        return real(*args, **kwargs)

    monkeypatch.setattr(execution, "call_once", halted_meanwhile)
    action = governed.pay(governed.run()).action
    assert action.status == Action.Status.READY
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.HALTED
    assert governed.toolbox.effects == []


@pytest.mark.parametrize(("tool", "is_asked_again"), [("mail", True), ("read_account", False)])
def test_no_further_try_is_made_on_overtaken_facts(
    governed: Governed, monkeypatch: pytest.MonkeyPatch, tool: str, is_asked_again: bool
) -> None:
    run = governed.run()
    governed.toolbox.fail_with = [Unavailable("x")]
    real, others = execution.call_once, list[Any]()

    def another_call_meanwhile(action: Action, *args: Any, **kwargs: Any) -> Any:
        try:
            return real(action, *args, **kwargs)
        finally:
            if action.tool == "toolbox.pay" and not others:
                others.append(None)
                arguments = {"to": "x"} if tool == "mail" else {"id": "b"}
                others.append(governed.propose(run, f"toolbox.{tool}", arguments).action.status)
                governed.toolbox.accounts["a"] = {"frozen": tool == "mail"}

    monkeypatch.setattr(execution, "call_once", another_call_meanwhile)
    action = governed.pay(run).action
    assert others == [None, "succeeded"]
    if not is_asked_again:
        assert (action.status, attempts(action)) == ("succeeded", ["failed", "succeeded"])
        return
    assert (action.status, attempts(action)) == ("ready", ["failed"])
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.DENIED
    assert [name for name, _ in governed.toolbox.effects] == ["mail"]


def abandoned(governed: Governed, tool: str, arguments: object) -> Action:
    """An action whose worker died between intent and result."""
    action = governed.propose(governed.run(), tool, arguments, asynchronous=True).action
    Action.objects.filter(pk=action.pk).update(status="executing", attempts_count=1)
    now = timezone.now()
    Attempt.objects.create(action=action, number=1, started_at=now, lease_until=now)
    return action


def test_a_dead_workers_idempotent_action_is_taken_up_again(governed: Governed) -> None:
    action = abandoned(governed, "toolbox.pay", {"account": "a", "amount": 1})
    assert recovery.reap_abandoned() == 1
    assert Action.objects.get(pk=action.pk).status == Action.Status.READY
    redecision.resume(action.pk)
    assert Action.objects.get(pk=action.pk).status == Action.Status.SUCCEEDED
    assert attempts(action) == ["unknown", "succeeded"]
    assert len(governed.toolbox.effects) == 1


def test_a_dead_workers_other_action_is_left_to_people(governed: Governed) -> None:
    action = abandoned(governed, "toolbox.mail", {"to": "x"})
    assert recovery.reap_abandoned() == 1
    assert Action.objects.get(pk=action.pk).status == Action.Status.UNKNOWN
    assert redecision.resume(action.pk) is None
    assert governed.toolbox.effects == []


def test_a_living_attempt_is_left_alone(governed: Governed) -> None:
    action = abandoned(governed, "toolbox.pay", {"account": "a", "amount": 1})
    Attempt.objects.filter(action=action).update(lease_until=timezone.now() + timedelta(hours=1))
    assert recovery.reap_abandoned() == 0


def test_a_late_answer_is_not_applied(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> None:
    real = execution.call_once

    def slow(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        Attempt.objects.update(lease_until=timezone.now())
        recovery.reap_abandoned()
        return result

    monkeypatch.setattr(execution, "call_once", slow)
    action = governed.propose(governed.run(), "toolbox.mail", {"to": "x"}).action
    stored = Action.objects.get(pk=action.pk)
    assert (stored.status, stored.result) == (Action.Status.UNKNOWN, None)
    assert attempts(action) == ["late"]
    kept = Attempt.objects.get().evidence
    assert kept is not None
    assert kept["outcome"] == "succeeded"
    assert kept["result_digest"] == digest({"done": "mail"})
    assert datetime.fromisoformat(kept["at"]) <= timezone.now()
    event = Event.objects.get(type="tool.call.answered_late")
    assert (event.run_id, event.subject_id) == (stored.run_id, str(stored.pk))
    assert event.details == {
        "tool": "toolbox.mail",
        "attempt": 1,
        "outcome": "succeeded",
        "result_digest": kept["result_digest"],
    }
    assert not Event.objects.filter(type="tool.call.completed").exists()


@given(failures=st.integers(min_value=0, max_value=60))
def test_back_off_is_bounded(failures: int) -> None:
    assert 0 <= execution.backoff_seconds(failures) <= execution.BACKOFF_CAP_SECONDS
