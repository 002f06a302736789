"""What is personal stays apart in the log on its whole way through a workflow."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import User
from actions.services import recovery
from actions.services.recovery import Resolution
from approvals.models import Vote
from audit.models import Event
from audit.retention import SENSITIVE_FIELD
from audit.search import Search
from audit.services import search_index
from common.actors import SYSTEM, Actor
from tests import factories
from tests.audit.sealed_log import sealed_all
from tests.factories import Governed
from tests.toolbox import TOOLS
from tests.workflows import workflow_helpers
from tests.workflows.test_running import vote
from tools.connectors.base import NoResponse
from tools.services.registration import define_tool
from workflows.errors import InvalidWorkflow
from workflows.models import WorkflowRun
from workflows.services import run_signals

pytestmark = pytest.mark.django_db

NAME = "Hildegard"
WORK = """\
inputs:
  type: object
  properties: {name: {type: string, x-data-class: CLASS}}
steps:
  ask:
    approval:
      tier: supervisor
      question: May they be told
      show: {who: "${ inputs.name }"}
  told: {needs: [ask], wait: {signal: told, timeout: 1h}}
output: {greeting: "${ 'Dear ' + inputs.name }"}
"""


def where_it_is(run_id: Any) -> set[tuple[str, str]]:
    """Type and field of every place in the run's events in which the name can be read."""
    events = Event.objects.of_run(run_id).with_values()
    fields = {(one.type, name) for one in events for name, value in one.values().items()
              if NAME in json.dumps(value)}  # fmt: skip
    assert all(NAME not in one.leaf for one in events)
    return fields


def at_its_end(governed: Governed, rosa: User, text: str) -> Any:
    run = workflow_helpers.done(governed, text, {"name": NAME})
    vote(rosa, Vote.Answer.APPROVE)
    run_signals.send(run.pk, actor=SYSTEM, name="told", payload={"by": NAME}, key="k")
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded", run.reason
    sealed_all()
    search_index.index()
    return run


@pytest.mark.parametrize("kind", ["personal", "sensitive"])
def test_inputs_questions_signals_and_output(governed: Governed, rosa: User, kind: str) -> None:
    run = at_its_end(governed, rosa, WORK.replace("CLASS", kind))
    assert where_it_is(run.pk) == {
        (type_, SENSITIVE_FIELD)
        for type_ in (
            "workflow.run.started",
            "approval.requested",
            "workflow.signal.received",
            "workflow.run.ended",
        )
    }
    ended = Event.objects.of_run(run.pk).get(type="workflow.run.ended")
    assert ended.details["output"] == f"[{kind}]"
    assert not Search(text=NAME).found_in(Event.objects.all()).exists()


def test_what_is_of_no_such_class_is_as_it_was(governed: Governed, rosa: User) -> None:
    run = at_its_end(governed, rosa, WORK.replace("CLASS", "internal"))
    assert ("workflow.run.ended", "details.output") in where_it_is(run.pk)
    assert SENSITIVE_FIELD not in {field for _, field in where_it_is(run.pk)}


ABOVE = """\
inputs: {type: object, properties: {name: {type: string, x-data-class: CLASS}}}
steps:
  hand: {workflow: {workflow: child, with: {said: "${ inputs.name }"}}}
output: {got: "${ steps.hand.output }"}
"""
BELOW = """\
inputs: {type: object, properties: {said: {type: string}}}
steps:
  told: {wait: {signal: told, timeout: 1h}}
output: {back: "${ inputs.said }"}
"""


@pytest.mark.parametrize("above", [True, False])
def test_a_class_is_that_of_runs_begun_for_one_another(governed: Governed, above: bool) -> None:
    """Whether it is the outer or the inner run that declares it."""
    outer, inner = ABOVE.replace("CLASS", "personal" if above else "internal"), BELOW
    if not above:
        inner = inner.replace(
            "said: {type: string}", "said: {type: string, x-data-class: personal}"
        )
    workflow_helpers.publish(inner, slug="child")
    run = workflow_helpers.done(governed, outer, {"name": NAME})
    child = WorkflowRun.objects.get(parent=run)
    run_signals.send(child.pk, actor=SYSTEM, name="told", payload={"by": NAME}, key="k")
    workflow_helpers.driven(child)
    run = workflow_helpers.driven(run)
    assert run.status == "succeeded", run.reason
    assert run.output == {"got": {"back": NAME}}
    kept = {field for one in (run, child) for _, field in where_it_is(one.pk)}
    open_ones = {("workflow.run.started", "details.inputs")} if not above else set()
    found = {place for one in (run, child) for place in where_it_is(one.pk)}
    assert {place for place in found if place[1] != SENSITIVE_FIELD} == open_ones, kept
    assert ("workflow.run.ended", SENSITIVE_FIELD) in found


def test_a_class_in_vain_is_a_problem_of_the_definition(governed: Governed) -> None:
    with pytest.raises(InvalidWorkflow, match="says nothing of a value"):
        workflow_helpers.publish(
            "inputs: {type: object, not: {properties: {a: {x-data-class: personal}}}}\n"
            "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
        )


def test_a_call_that_people_settle_and_facts_and_claims(governed: Governed, rosa: User) -> None:
    pay = {**TOOLS["pay"], "idempotent": False}
    holder = {"name": "holder", "title": "Holder", "expression": "string(account.holder)"}
    note = {"name": "said", "title": "S", "type": "string", "default": "", "data_class": "personal"}
    answer = {
        "type": "object",
        "properties": {
            "holder": {"type": "string", "x-data-class": "personal"},
            "pin": {"x-data-class": "secret"},
        },
    }
    pay["facts"] = [*pay["facts"], holder]
    pay["claims"] = [*pay["claims"], note]
    for name, given in (("read_account", dict(TOOLS["read_account"])), ("pay", pay)):
        define_tool(
            governed.system, name, actor=governed.actor, **{**given, "output_schema": answer}
        )
    factories.publish()
    governed.toolbox.accounts["a"] = {"frozen": False, "holder": NAME}
    run = governed.run()
    governed.toolbox.fail_with = [NoResponse("no answer")]
    action = governed.propose(
        run, "toolbox.pay", {"account": "a", "amount": 5}, claims={"confirmed": True, "said": NAME}
    ).action
    assert (action.facts["holder"], action.claims["said"]) == (NAME, NAME)
    recovery.resolve_unknown(
        action.pk, actor=Actor.from_user(rosa), answer=Resolution.TOOK_EFFECT, reason="I saw it.",
        result={"holder": NAME, "pin": "4711"},
    )  # fmt: skip
    assert where_it_is(run.pk) == {
        ("decision.made", SENSITIVE_FIELD),
        ("tool.call.resolved", SENSITIVE_FIELD),
    }
    decided = Event.objects.of_run(run.pk).get(type="decision.made")
    assert decided.details["facts"]["holder"] == decided.details["claims"]["said"] == "[personal]"
    assert decided.details["facts"]["frozen"] is False
    action.refresh_from_db()
    assert (action.result or {})["holder"] == NAME
    assert "4711" not in json.dumps(action.result)


@pytest.mark.parametrize("above", [True, False])
def test_the_page_of_a_run_shows_it_to_those_with_the_right(
    governed: Governed, above: bool
) -> None:
    outer, inner = ABOVE.replace("CLASS", "personal" if above else "internal"), BELOW
    if not above:
        inner = inner.replace(
            "said: {type: string}", "said: {type: string, x-data-class: personal}"
        )
    workflow_helpers.publish(inner, slug="child")
    workflow_helpers.done(governed, outer, {"name": NAME})
    person = User.objects.create_user("reader", is_staff=True)
    rights = Permission.objects.filter(codename__in=["view_workflowrun", "see_sensitive"])
    person.user_permissions.set(rights.filter(codename="view_workflowrun"))
    runs, path = WorkflowRun.objects.order_by("pk"), "/admin/workflows/workflowrun/{}/change/"
    for run in runs:
        client = Client()
        client.force_login(User.objects.get(pk=person.pk))
        page = client.get(path.format(run.pk)).content.decode()
        if above or run.parent_id is not None:
            assert NAME not in page
            assert "[personal]" in page
    person.user_permissions.set(rights)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    assert all(NAME in client.get(path.format(run.pk)).content.decode() for run in runs)
