"""What goes wrong, and what is known and done then."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from actions.errors import OutcomeAlreadyKnown
from actions.models import Action, Attempt
from actions.services import execution, recovery
from actions.services.recovery import Resolution
from audit.models import Event
from common.actors import SYSTEM, Actor
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.test_running import later
from tools.connectors.base import Call, NoResponse, NotSent, Refused, Unavailable
from tools.models import Breaker
from tools.services import breakers
from workflows.models import WorkflowRun
from workflows.services import call_outcomes, tick, worker

pytestmark = pytest.mark.django_db

PAY = "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}}\n"
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest waits, so that they can be told apart from none."""

    class Longest:
        def uniform(self, low: float, high: float) -> float:
            return high

    monkeypatch.setattr(call_outcomes, "_jitter", Longest())


def test_a_call_that_did_not_arrive_is_made_again_after_a_while(governed: Governed) -> None:
    governed.toolbox.fail_with = [NotSent("x"), Unavailable("x")]
    run = workflow_helpers.done(governed, PAY)
    assert run.status == "waiting"
    assert workflow_helpers.steps(run) == {"pay": "retry"}
    due = workflow_helpers.step(run, "pay").due_at
    assert due is not None
    assert timedelta(0) < due - timezone.now() <= timedelta(seconds=1)
    assert later(run, seconds=1).status == "waiting"
    run = later(run, seconds=2)
    assert run.status == "succeeded"
    assert len(governed.toolbox.effects) == 1
    keys = Action.objects.filter(run_id=run.pk)
    assert keys.count() == 1
    statuses = Attempt.objects.filter(action__run_id=run.pk).values_list("status", flat=True)
    assert list(statuses) == ["failed", "failed", "succeeded"]
    assert workflow_helpers.step(run, "pay").attempts == 3


def test_the_system_says_when_to_come_again(governed: Governed) -> None:
    governed.toolbox.fail_with = [Unavailable("x", retry_after=120)]
    run = workflow_helpers.done(governed, PAY)
    due = workflow_helpers.step(run, "pay").due_at
    assert due is not None
    assert due - timezone.now() > timedelta(seconds=100)


def test_a_call_that_never_arrives_fails_after_its_tries(governed: Governed) -> None:
    governed.toolbox.fail_with = [NotSent("x")] * 3
    run = later(later(workflow_helpers.done(governed, PAY), seconds=5), seconds=5)
    assert (run.status, workflow_helpers.step(run, "pay").error_code) == ("failed", "not_sent")
    assert governed.toolbox.effects == []


def test_a_no_of_the_system_is_not_asked_again(governed: Governed) -> None:
    governed.toolbox.fail_with = [Refused("no")]
    run = workflow_helpers.done(governed, PAY)
    assert (run.status, workflow_helpers.step(run, "pay").attempts) == ("failed", 1)


def test_an_unanswered_call_is_repeated_only_if_it_may_be(governed: Governed) -> None:
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.done(governed, PAY)
    assert workflow_helpers.steps(run) == {"pay": "retry"}
    assert later(run, seconds=5).status == "succeeded"
    governed.toolbox.fail_with = [NoResponse("x")]
    run = workflow_helpers.done(governed, MAIL)
    assert workflow_helpers.steps(run) == {"mail": "unknown"}
    assert (run.status, run.unknown_count) == ("waiting", 1)
    run = later(run, days=1)
    assert workflow_helpers.steps(run) == {"mail": "unknown"}
    assert governed.toolbox.calls.count("mail") == 1


@pytest.fixture
def unknown(governed: Governed) -> WorkflowRun:
    """A run with a mail of which nobody knows whether it went out."""
    governed.toolbox.fail_with = [NoResponse("x")]
    return workflow_helpers.done(governed, MAIL + 'output: {said: "${ steps.mail.output }"}\n')


def resolved(run: WorkflowRun, answer: Resolution, person: User, **given: Any) -> WorkflowRun:
    action = Action.objects.get(run_id=run.pk)
    recovery.resolve_unknown(
        action.pk, actor=Actor.from_user(person), answer=answer, reason="Looked it up.", **given
    )
    return workflow_helpers.driven(run)


def test_a_person_says_that_it_took_effect(unknown: WorkflowRun, rosa: User) -> None:
    run = resolved(unknown, Resolution.TOOK_EFFECT, rosa, result={"id": 7})
    assert (run.status, run.output) == ("succeeded", {"said": {"id": 7}})
    assert run.unknown_count == 0
    said = Event.objects.get(type="tool.call.resolved")
    assert (said.actor_label, said.details["answer"]) == ("rosa", "took_effect")
    with pytest.raises(OutcomeAlreadyKnown):
        resolved(run, Resolution.FAILED, rosa)


def test_a_person_says_that_it_did_not(unknown: WorkflowRun, rosa: User) -> None:
    run = resolved(unknown, Resolution.FAILED, rosa)
    assert (run.status, workflow_helpers.step(run, "mail").error_code) == (
        "failed",
        "did_not_take_effect",
    )


def test_a_person_has_it_tried_again(unknown: WorkflowRun, rosa: User, governed: Governed) -> None:
    run = resolved(unknown, Resolution.AGAIN, rosa)
    assert run.status == "succeeded"
    assert governed.toolbox.calls.count("mail") == 2
    assert Action.objects.filter(run_id=run.pk).count() == 1  # the same key


# -- workers that go away ------------------------------------------------------------------------


@pytest.fixture
def dying(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Drivers that die after the intent is committed, before or after the call was made."""
    deaths: list[str] = []
    real = execution.call_once

    class Died(BaseException):
        pass

    def called(*args: Any, **kwargs: Any) -> Any:
        how = deaths.pop(0) if deaths else ""
        if how == "before":
            raise Died
        result = real(*args, **kwargs)
        if how == "after":
            raise Died
        return result

    monkeypatch.setattr(worker, "call_once", called)
    monkeypatch.setattr(workflow_helpers, "Died", Died, raising=False)
    return deaths


def die(run: WorkflowRun) -> WorkflowRun:
    """Drive until death, then let the sweeper find what it left."""
    with pytest.raises(workflow_helpers.Died):  # type: ignore[attr-defined]  # put there by the fixture
        worker.run_until_idle(run.pk)
    Attempt.objects.filter(status="started").update(lease_until=timezone.now())
    assert recovery.reap_abandoned() == 1
    return workflow_helpers.driven(run)


def test_a_repeatable_call_is_made_again_with_the_same_key(
    governed: Governed, dying: list[str]
) -> None:
    workflow_helpers.publish(PAY)
    dying.append("after")
    run = die(workflow_helpers.begin(governed))
    assert workflow_helpers.steps(run) == {"pay": "retry"}
    run = later(run, seconds=5)
    assert run.status == "succeeded"
    assert governed.toolbox.calls == ["pay", "pay"]
    assert len(governed.toolbox.effects) == 1  # the key made it one
    assert list(Attempt.objects.values_list("status", flat=True)) == ["unknown", "succeeded"]


def test_another_call_is_left_to_people(governed: Governed, dying: list[str]) -> None:
    workflow_helpers.publish(MAIL)
    dying.append("after")
    run = die(workflow_helpers.begin(governed))
    assert workflow_helpers.steps(run) == {"mail": "unknown"}
    assert governed.toolbox.calls == ["mail"]


def test_a_step_that_kills_its_driver_three_times_fails(
    governed: Governed, dying: list[str]
) -> None:
    workflow_helpers.publish(PAY.replace("}}", "}, retry: {max_attempts: 20}}"))
    run = workflow_helpers.begin(governed)
    for _ in range(3):
        dying.append("before")
        later_run = die(run)
        WorkflowRun.objects.filter(pk=run.pk).update(next_wake_at=timezone.now())
        desk_step = workflow_helpers.step(later_run, "pay")
        if desk_step.due_at:
            type(desk_step).objects.filter(pk=desk_step.pk).update(due_at=timezone.now())
    run = workflow_helpers.driven(run)
    assert (run.status, workflow_helpers.step(run, "pay").error_code) == (
        "failed",
        "max_crashes_exceeded",
    )
    assert workflow_helpers.step(run, "pay").crashes == 3


def test_a_late_answer_is_kept_and_not_applied(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = execution.call_once

    def slow(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        Attempt.objects.update(lease_until=timezone.now())
        recovery.reap_abandoned()
        return result

    monkeypatch.setattr(worker, "call_once", slow)
    run = workflow_helpers.done(governed, MAIL)
    attempt = Attempt.objects.get()
    assert attempt.status == Attempt.Status.LATE
    assert attempt.evidence
    assert attempt.evidence["outcome"] == "succeeded"
    assert workflow_helpers.steps(run) == {"mail": "unknown"}
    assert Event.objects.filter(type="tool.call.answered_late").count() == 1


def test_a_result_that_was_committed_is_not_applied_twice(governed: Governed) -> None:
    """The commit was applied and its reply lost: the worker takes the same turn again."""
    workflow_helpers.publish(PAY)
    run = workflow_helpers.begin(governed)
    taken = tick.tick(run.pk, lease=worker.lease())
    taken = tick.tick(
        run.pk,
        lease=worker.lease(),
        look=worker._looked(taken.case),  # type: ignore[arg-type]
    )
    assert taken.claimed is not None
    outcome = worker._made(taken.claimed)
    for _ in range(2):
        tick.tick(run.pk, lease=worker.lease(), outcome=outcome)
    assert workflow_helpers.driven(run).status == "succeeded"
    assert Event.objects.filter(type="tool.call.completed").count() == 1
    assert len(governed.toolbox.effects) == 1


# -- probes --------------------------------------------------------------------------------------


@pytest.fixture
def probed(governed: Governed, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The mail tool with a probe that tells by key; the answers it is to give."""
    from tests.toolbox import TOOLS, _schema  # noqa: PLC0415 - only here
    from tools.services.registration import define_tool  # noqa: PLC0415

    find = {
        "title": "Find a call",
        "access": "read",
        "idempotent": True,
        "serves_facts_only": True,
        "input_schema": _schema(["key"], key={"type": "string"}),
    }
    define_tool(governed.system, "find", actor=SYSTEM, **find)
    define_tool(governed.system, "mail", actor=SYSTEM, **TOOLS["mail"], probe="find")
    from tests.factories import publish  # noqa: PLC0415

    publish()
    said: dict[str, Any] = {"asked": []}
    real = type(governed.toolbox).__call__

    def call(self: Any, tool: str, arguments: Any, asked: Call) -> Any:
        if tool != "find":
            return real(self, tool, arguments, asked)
        said["asked"].append(arguments["key"])
        if "error" in said:
            raise said["error"]
        return {"found": arguments["key"] in self.keys, "result": {"by": "probe"}}

    monkeypatch.setattr(type(governed.toolbox), "__call__", call)
    return said


def test_the_system_is_asked_by_key_and_had_done_it(
    governed: Governed, probed: dict[str, Any], dying: list[str]
) -> None:
    workflow_helpers.publish(MAIL)
    dying.append("after")
    run = later(die(workflow_helpers.begin(governed)), seconds=20)
    assert run.status == "succeeded"
    assert governed.toolbox.calls == ["mail"]
    assert probed["asked"] == [str(Action.objects.get().pk)]
    assert workflow_helpers.step(run, "mail").output == {"by": "probe"}
    assert Event.objects.get(type="tool.call.probed").details["found"] is True


def test_the_system_is_asked_by_key_and_had_not(
    governed: Governed, probed: dict[str, Any], dying: list[str]
) -> None:
    workflow_helpers.publish(MAIL)
    dying.append("before")
    run = later(die(workflow_helpers.begin(governed)), seconds=20)
    assert run.status == "succeeded"
    assert governed.toolbox.calls == ["mail"]
    assert Attempt.objects.count() == 2


def test_the_system_is_not_asked_before_the_calls_time_limit_is_over(
    governed: Governed, probed: dict[str, Any], dying: list[str]
) -> None:
    workflow_helpers.publish(MAIL)
    dying.append("after")
    run = later(die(workflow_helpers.begin(governed)), seconds=5)  # the tool has ten
    assert (workflow_helpers.steps(run), probed["asked"]) == ({"mail": "unknown"}, [])


def test_people_are_asked_when_the_system_cannot_say(
    governed: Governed, probed: dict[str, Any], dying: list[str]
) -> None:
    workflow_helpers.publish(MAIL)
    dying.append("after")
    run = die(workflow_helpers.begin(governed))
    probed["error"] = NotSent("x")
    for _ in range(call_outcomes.MAX_PROBES + 2):
        run = later(run, hours=1)
    assert len(probed["asked"]) == call_outcomes.MAX_PROBES
    assert workflow_helpers.steps(run) == {"mail": "unknown"}
    assert workflow_helpers.step(run, "mail").due_at is None


# -- breakers ------------------------------------------------------------------------------------


def test_a_breaker_opens_and_holds_calls_back_without_using_up_tries(governed: Governed) -> None:
    governed.toolbox.fail_with = [NotSent("x")] * breakers.FAILURES
    workflow_helpers.publish(PAY.replace("}}", "}, retry: {max_attempts: 20}}"))
    run = workflow_helpers.driven(workflow_helpers.begin(governed))
    for _ in range(breakers.FAILURES - 1):
        run = later(run, minutes=10)
    assert Breaker.objects.get().state == Breaker.State.OPEN
    assert Event.objects.filter(type="breaker.opened").count() == 1
    other = workflow_helpers.driven(workflow_helpers.begin(governed))
    waiting = workflow_helpers.step(other, "pay")
    assert (waiting.status, waiting.waiting_for, waiting.attempts) == ("waiting", "breaker", 0)
    assert len(governed.toolbox.calls) == breakers.FAILURES
    # The wait is over: one call is let through, and its success closes the breaker.
    Breaker.objects.update(open_until=timezone.now())
    assert later(other, hours=1).status == "succeeded"
    assert Breaker.objects.get().state == Breaker.State.CLOSED
    assert later(run, hours=1).status == "succeeded"


def test_a_probe_that_fails_doubles_the_wait(governed: Governed) -> None:
    now = timezone.now()
    for _ in range(breakers.FAILURES):
        breakers.count_failure(("toolbox", "prod"), now=now)
    first = Breaker.objects.get().open_until
    assert first == now + breakers.OPEN_FOR
    assert breakers.win_probe(("toolbox", "prod"), now=first, until=first + timedelta(minutes=1))
    assert not breakers.win_probe(("toolbox", "prod"), now=first, until=first)
    breakers.count_failure(("toolbox", "prod"), now=first)
    assert Breaker.objects.get().open_until == first + 2 * breakers.OPEN_FOR


def test_refusals_do_not_open_a_breaker(governed: Governed) -> None:
    governed.toolbox.fail_with = [Refused("x")] * 10
    workflow_helpers.publish(PAY)
    for _ in range(10):
        workflow_helpers.driven(workflow_helpers.begin(governed))
    assert not Breaker.objects.exists()
