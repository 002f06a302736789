"""The pages of actions: calls of which nobody knows what they had done."""

from typing import Any

import pytest

from accounts.models import Environment
from actions.models import Action
from agents.services import lifecycle
from audit.models import Event
from common.actors import SYSTEM
from policies.services import grants
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.admin_client import NOT_POSSIBLE, REASON, Browser, person, recorded, said
from tests.workflows.assertions import nothing_changed
from tools.connectors.base import NoResponse
from tools.services.registration import set_endpoint
from workflows.models import WorkflowRun

pytestmark = pytest.mark.django_db

MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"


@pytest.fixture
def sonja(db: Any) -> Browser:
    """Sonja, of security, settles calls of unknown effect."""
    return Browser(person("sonja", "resolve_action"))


# -- calls of unknown effect ---------------------------------------------------------------------


def unknown(governed: Governed, number: int = 1, body: str = MAIL) -> list[WorkflowRun]:
    """Runs with a mail of which nobody knows whether it went out."""
    workflow_helpers.publish(body)
    found = []
    for _ in range(number):
        governed.toolbox.fail_with = [NoResponse("Silence.")]
        found.append(workflow_helpers.driven(workflow_helpers.begin(governed)))
    return found


def in_another_environment(governed: Governed, environment: Environment) -> Governed:
    """Tilda there, with the same tools and role."""
    agent_id = governed.identity.agent_id
    twin = lifecycle.create_identity(agent_id, actor=SYSTEM, environment=environment)
    grants.add_member(governed.role, twin, actor=SYSTEM)
    set_endpoint(governed.system, environment, actor=SYSTEM)
    return Governed(twin, governed.system, governed.role, governed.toolbox)


def test_an_unknown_call_is_settled_with_what_it_brought(
    governed: Governed, sonja: Browser
) -> None:
    [run] = unknown(governed, body=MAIL + 'output: {said: "${ steps.mail.output }"}\n')
    action = Action.objects.get()
    html = sonja.shows("actions_action_change", action.pk)
    assert said("Record the outcome", html)
    fields = {"answer": "took_effect", "result": '{"id": 7}', **REASON}
    html = sonja.does("actions_action_resolve", action.pk, **fields)
    assert said("Outcome recorded.", html)
    assert workflow_helpers.driven(run).output == {"said": {"id": 7}}
    who, details = recorded("tool.call.resolved")
    assert (who, details["answer"], details["tool"]) == ("sonja", "took_effect", "toolbox.mail")
    with nothing_changed():
        html = sonja.does("actions_action_resolve", action.pk, **fields)
        assert said(NOT_POSSIBLE, html)


def test_an_unknown_call_is_not_settled_by_what_says_nothing(
    governed: Governed, sonja: Browser
) -> None:
    unknown(governed)
    action = Action.objects.get()
    with nothing_changed():
        for wrong in (
            {"result": "{"},
            {"result": "it went out"},
            {"answer": "perhaps"},
            {"answer": ""},
            {"reason": "  "},
        ):
            fields = {"answer": "took_effect", "result": '{"id": 7}', **REASON, **wrong}
            sonja.is_refused("actions_action_resolve", action.pk, **fields)
    assert Action.objects.get().status == "unknown"


@pytest.mark.parametrize(
    "result",
    ["NaN", '{"id": Infinity}', '"\\u0000"', "[" * 50_000],
    ids=["NaN", "Infinity", "NUL", "deep"],
)
def test_an_unknown_call_is_not_settled_with_what_cannot_be_written_down(
    governed: Governed, sonja: Browser, result: str
) -> None:
    unknown(governed)
    fields = {"answer": "took_effect", "result": result, **REASON}
    with nothing_changed():
        sonja.is_refused("actions_action_resolve", Action.objects.get().pk, **fields)


def test_many_unknown_calls_are_settled_at_once_and_each_is_recorded(
    governed: Governed, sonja: Browser, staging: Environment
) -> None:
    runs = unknown(governed, 3)
    pay = "steps:\n  pay: {tool: toolbox.pay, with: {account: a, amount: 1}, on_unknown: ask}\n"
    [paid] = unknown(governed, body=pay)
    [elsewhere] = unknown(in_another_environment(governed, staging))
    html = sonja.shows("actions_action_resolve_many")
    for choice in ("mail in prod: 3 calls", "mail in staging: 1 calls", "pay in prod: 1 calls"):
        assert said(f"toolbox.{choice}", html)
    fields = {"tool": "toolbox.mail|prod", "answer": "did_not_take_effect", **REASON}
    assert said("Recorded.", sonja.does("actions_action_resolve_many", **fields))
    resolved = Event.objects.filter(type="tool.call.resolved")
    assert {event.run_id for event in resolved} == {run.pk for run in runs}
    assert [event.actor_label for event in resolved] == ["sonja"] * 3
    assert {workflow_helpers.driven(run).status for run in runs} == {"failed"}
    for left in (paid, elsewhere):
        assert Action.objects.get(run_id=left.pk).status == "unknown"


def test_many_unknown_calls_are_not_settled_by_what_says_nothing(
    governed: Governed, sonja: Browser
) -> None:
    unknown(governed, 2)
    good = {"tool": "toolbox.mail|prod", "answer": "took_effect", **REASON}
    with nothing_changed():
        for wrong in (
            {"tool": "toolbox.pay|prod"},
            {"tool": "toolbox.mail|dev"},
            {"tool": "toolbox.mail"},
            {"tool": ""},
            {"answer": "perhaps"},
            {"reason": ""},
        ):
            sonja.is_refused("actions_action_resolve_many", **{**good, **wrong})
