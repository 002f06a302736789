"""The REST API of workflows: what agents' runtimes list, start, follow, signal and order."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import Environment, User
from actions.models import Action, Run
from audit.models import Event
from common.actors import SYSTEM
from common.ids import uuid7
from policies.services import grants
from tests import factories
from tests.actions.test_api import refused, shown
from tests.conftest import Api, Hints
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.assertions import nothing_changed
from tests.workflows.test_running import EACH, SIGNAL
from tests.workflows.test_undoing import CHILD, HAND
from tools.connectors.base import NoResponse, Refused
from workflows.api import serializers
from workflows.models import WorkflowRun
from workflows.services import versions, worker

pytestmark = pytest.mark.django_db

BODY = """\
description: Pays what is due.
inputs:
  type: object
  required: [account]
  properties:
    account: {type: string, maxLength: 20}
    amount: {type: number, maximum: 50, default: 5}
limits: {deadline: 3h, actions: 10, amount: 100}
steps:
  look: {tool: toolbox.read_account, with: {id: "${ inputs.account }"}}
  pay:
    needs: [look]
    tool: toolbox.pay
    with: {account: "${ inputs.account }", amount: "${ inputs.amount }"}
success: "${ steps.pay.status == 'succeeded' }"
output: {paid: "${ inputs.amount }"}
"""
MAIL = "steps:\n  mail: {tool: toolbox.mail, with: {to: x}}\n"
REST = "steps:\n  rest: {wait: {for: 2h}}\n"
STARTED = {"inputs": {"account": "a"}}
SECRET = "4711-secret"


@pytest.fixture
def published(governed: Governed) -> Governed:
    """Tilda, and a workflow that she may start."""
    workflow_helpers.publish(BODY)
    return governed


def start(api: Api, body: Any = None, *, slug: str = "work", key: str = "k") -> Any:
    return api.post(f"workflows/{slug}/runs", STARTED if body is None else body, key=key)


def begun(api: Api, governed: Governed, text: str, inputs: Any = None) -> WorkflowRun:
    """A run of that text, started over HTTP and driven as far as it goes."""
    workflow_helpers.publish(text)
    response = start(api, {"inputs": inputs or {}}, key=str(uuid7()))
    assert response.status_code == 201, response.json()
    return workflow_helpers.driven(WorkflowRun.objects.get(pk=response.json()["id"]))


def send(api: Api, run: WorkflowRun, payload: Any = None, *, key: str = "s", **more: Any) -> Any:
    body = {"name": "paid", "payload": {"amount": 11} if payload is None else payload, **more}
    return api.post(f"runs/{run.pk}/signals", body, key=key)


def seen(response: Any, status: int = 200) -> Any:
    return shown(response, status, serializers.RunWithStepsSerializer)


# -- what may be started -------------------------------------------------------------------------


def test_an_agent_sees_the_workflows_that_its_roles_may_start(
    api: Api, published: Governed
) -> None:
    grants.create_role("strangers", actor=SYSTEM, title="Strangers")
    for slug, roles in (("theirs", "[strangers]"), ("ours", "[strangers, keepers]")):
        text = workflow_helpers.text_of(MAIL, slug).replace("[keepers]", roles)
        versions.publish(versions.draft_version(text, actor=SYSTEM).pk, actor=SYSTEM)
    versions.draft_version(workflow_helpers.text_of(MAIL, "draft"), actor=SYSTEM)
    paused = workflow_helpers.publish(MAIL, slug="paused").workflow
    versions.pause_workflow(paused.pk, actor=SYSTEM, paused=True, reason="Wait.")
    body = shown(api.get("workflows"), 200, serializers.WorkflowSerializer)
    assert [found["slug"] for found in body] == ["ours", "work"]
    work = body[1]
    assert (work["title"], work["description"]) == ("work", "Pays what is due.")
    assert work["inputs"]["properties"]["amount"] == {
        "type": "number",
        "maximum": 50,
        "default": 5,
    }


def test_an_agent_out_of_its_role_sees_nothing_to_start(api: Api, published: Governed) -> None:
    assert len(api.get("workflows").json()) == 1
    grants.remove_member(published.role, published.identity, actor=SYSTEM)
    assert api.get("workflows").json() == []


def test_only_the_version_that_is_live_is_described(api: Api, published: Governed) -> None:
    workflow_helpers.publish(BODY.replace("what is due", "less than is due"), share=5_000)
    assert [found["description"] for found in api.get("workflows").json()] == ["Pays what is due."]
    text = workflow_helpers.text_of(BODY.replace("what is due", "more than is due"))
    versions.draft_version(text, actor=SYSTEM)
    assert [found["description"] for found in api.get("workflows").json()] == ["Pays what is due."]


# -- starting ------------------------------------------------------------------------------------


def test_a_run_is_started_and_goes_on_by_itself(
    api: Api, published: Governed, hints: Hints, django_capture_on_commit_callbacks: Any
) -> None:
    given = {
        **STARTED,
        "initiator_kind": "event",
        "initiator": "mailbox",
        "purpose": "An invoice came.",
        "reference": "T-1",
        "labels": ["pii", "late"],
    }
    with django_capture_on_commit_callbacks(execute=True):
        body = seen(start(api, given), 201)
    assert hints.of("workflows.drive") == [body["id"]]
    assert (body["status"], body["agent"], body["environment"]) == ("open", "tilda", "prod")
    assert (body["purpose"], body["reference"]) == ("An invoice came.", "T-1")
    assert body["labels"] == ["late", "pii"]
    run = Run.objects.get(pk=body["id"])
    assert (run.initiator_kind, run.initiator) == ("event", "mailbox")
    workflow = body["workflow"]
    assert (workflow["slug"], workflow["version"], workflow["status"]) == ("work", 1, "running")
    assert workflow["inputs"] == {"account": "a", "amount": 5}
    assert (workflow["steps"], workflow["output"], workflow["parent_run"]) == ([], None, None)
    event = Event.objects.get(type="workflow.run.started")
    assert (event.actor_kind, event.actor_id) == ("agent", "tilda.prod")


def test_a_run_says_itself_who_started_it_if_nobody_else_is_named(
    api: Api, published: Governed
) -> None:
    body = seen(start(api), 201)
    run = Run.objects.get(pk=body["id"])
    assert (run.initiator_kind, run.initiator, run.purpose) == ("agent", "tilda.prod", "work")


def test_the_same_key_gives_the_same_run_however_far_it_is(api: Api, published: Governed) -> None:
    first = seen(start(api), 201)
    with nothing_changed():
        assert seen(start(api)) == first
    workflow_helpers.driven(WorkflowRun.objects.get())
    with nothing_changed():
        again = seen(start(api))
    assert (again["id"], again["workflow"]["status"]) == (first["id"], "succeeded")
    assert len(published.toolbox.effects) == 1
    versions.pause_workflow(
        workflow_helpers.workflow().pk, actor=SYSTEM, paused=True, reason="Wait."
    )
    with nothing_changed():
        assert seen(start(api)) == again
    assert seen(api.get(f"runs/{first['id']}")) == again


def test_a_key_is_not_used_for_other_inputs(api: Api, published: Governed) -> None:
    start(api)
    with nothing_changed():
        for inputs in ({"account": "b"}, {"account": "a", "amount": 6}, {}):
            refused(start(api, {"inputs": inputs}), 409, "idempotency_key_reused")


def test_a_start_needs_a_key_of_its_own(api: Api, published: Governed) -> None:
    with nothing_changed():
        for key in ("", "x" * 101, "a b", "é", "\t"):
            refused(start(api, key=key), 400, "idempotency_key_required")


# Inputs that do not fit, and what is said of where.
MISFITS: list[tuple[Any, str]] = [
    ({}, ""),
    ({"account": 1}, "account"),
    ({"account": SECRET * 2}, "account"),
    ({"account": "a", "amount": 51}, "amount"),
    ({"account": "a", "amount": SECRET}, "amount"),
    ({"account": "a", SECRET: 1}, ""),
    ({"account": ["a", SECRET]}, "account"),
]


def test_inputs_that_do_not_fit_are_refused_without_being_quoted(
    api: Api, published: Governed
) -> None:
    with nothing_changed():
        for inputs, at in MISFITS:
            problem = refused(start(api, {"inputs": inputs}), 400, "invalid_workflow_inputs")
            assert problem["at"] == at
            assert SECRET not in json.dumps(problem)


def test_inputs_that_cannot_be_written_down_are_refused(api: Api, published: Governed) -> None:
    deep = f"{'[' * 40}{']' * 40}"
    with nothing_changed():
        for value in (deep, "NaN", "-Infinity", "1e999", '"\\u0000"', str(2**64)):
            body = f'{{"inputs": {{"account": {value}}}}}'.encode()
            refused(start(api, body), 400, "invalid_workflow_inputs")
        huge = {"inputs": {"account": "a", "amount": 1, "more": "x" * 70_000}}
        refused(start(api, huge), 400, "invalid_workflow_inputs")


def test_a_workflow_that_there_is_not_is_not_started(api: Api, published: Governed) -> None:
    with nothing_changed():
        refused(start(api, slug="nothing"), 404, "unknown_workflow")
        assert api.post("workflows/no.slug/runs", STARTED, key="k").status_code == 404


def test_an_agent_in_none_of_the_roles_starts_nothing(
    api: Api, published: Governed, olga: User, prod: Environment
) -> None:
    other = Api(factories.token_for(factories.identity("bob", owner=olga, environment=prod)))
    with nothing_changed():
        refused(start(other), 403, "not_allowed_to_start")
    grants.remove_member(published.role, published.identity, actor=SYSTEM)
    with nothing_changed():
        refused(start(api), 403, "not_allowed_to_start")


def test_a_paused_workflow_or_a_draft_is_not_started(api: Api, published: Governed) -> None:
    versions.pause_workflow(
        workflow_helpers.workflow().pk, actor=SYSTEM, paused=True, reason="Wait."
    )
    versions.draft_version(workflow_helpers.text_of(BODY, "draft"), actor=SYSTEM)
    with nothing_changed():
        refused(start(api), 409, "workflow_paused")
        refused(start(api, slug="draft"), 409, "workflow_not_published")
    versions.pause_workflow(
        workflow_helpers.workflow().pk, actor=SYSTEM, paused=False, reason="Go on."
    )
    assert start(api).status_code == 201  # the refused one has not used up the key


def test_a_run_takes_no_more_than_it_was_given(api: Api, published: Governed) -> None:
    body = seen(start(api, {**STARTED, "budget": {"actions": 5, "amount": "2.50"}}), 201)
    run = Run.objects.get(pk=body["id"])
    assert (run.budget_actions, run.budget_amount) == (5, Decimal("2.5"))
    workflow_helpers.driven(WorkflowRun.objects.get())
    found = seen(api.get(f"runs/{run.pk}"))
    assert found["workflow"]["status"] == "halted"
    pay = found["workflow"]["steps"][1]
    assert (pay["path"], pay["status"]) == ("pay", "denied")
    assert pay["error"] == {"code": "denied", "message": "Budget exceeded"}
    assert published.toolbox.effects == []


def test_no_run_is_given_more_than_its_definition_allows(api: Api, published: Governed) -> None:
    start(api, {**STARTED, "budget": {"actions": 1_000, "amount": 1_000_000}})
    run = Run.objects.get()
    assert (run.budget_actions, run.budget_amount) == (10, Decimal(100))


NOT_WELL_FORMED: list[tuple[dict[str, Any], str]] = [
    ({"inputs": [1]}, "inputs"),
    ({"inputs": None}, "inputs"),
    ({"inputs": "text"}, "inputs"),
    ({"initiator_kind": "ghost"}, "initiator_kind"),
    ({"initiator": "x" * 201}, "initiator"),
    ({"initiator": "a\x00b"}, "initiator"),
    ({"purpose": "x" * 4_001}, "purpose"),
    ({"purpose": "7.5", "reference": "x" * 101}, "reference"),
    ({"labels": ["not a label"]}, "labels"),
    ({"labels": ["x"] * 21}, "labels"),
    ({"budget": {"actions": -1}}, "budget"),
    ({"budget": {"actions": 2**63}}, "budget"),
    ({"budget": {"amount": "0.00000000001"}}, "budget"),
    ({"budget": []}, "budget"),
]


def test_a_start_that_is_not_well_formed_is_refused(api: Api, published: Governed) -> None:
    with nothing_changed():
        for wrong, field in NOT_WELL_FORMED:
            body = refused(start(api, {**STARTED, **wrong}), 400, "invalid_input")
            assert list(body["errors"]) == [field]


# -- following -----------------------------------------------------------------------------------


def test_a_run_is_shown_with_its_steps(api: Api, governed: Governed) -> None:
    run = begun(api, governed, BODY, {"account": "a"})
    body = seen(api.get(f"runs/{run.pk}"))
    assert (body["status"], body["outcome"], body["actions"]) == ("closed", "succeeded", 2)
    workflow = body["workflow"]
    assert (workflow["status"], workflow["success_condition_met"]) == ("succeeded", True)
    assert (workflow["output"], workflow["unknown_steps"]) == ({"paid": 5}, 0)
    assert workflow["deadline_at"] == run.deadline_at.isoformat()
    look, pay = workflow["steps"]
    assert (look["path"], look["kind"], look["status"]) == ("look", "tool", "succeeded")
    assert look["output"] == {"frozen": False}
    made = Action.objects.get(tool="toolbox.pay")
    assert (pay["path"], pay["action"], pay["attempts"]) == ("pay", str(made.pk), 1)
    assert (pay["error"], pay["due_at"], pay["waiting_for"], pay["compensates"]) == (
        None,
        None,
        "",
        "",
    )
    assert look["started_at"] <= look["ended_at"] <= pay["ended_at"]


def test_what_a_step_waits_for_and_why_one_failed_is_shown(api: Api, governed: Governed) -> None:
    resting = begun(api, governed, REST)
    [rest] = seen(api.get(f"runs/{resting.pk}"))["workflow"]["steps"]
    assert (rest["kind"], rest["status"], rest["waiting_for"]) == ("wait", "waiting", "time")
    due = workflow_helpers.step(resting, "rest").due_at
    assert due is not None
    assert (rest["due_at"], rest["ended_at"]) == (due.isoformat(), None)
    governed.toolbox.fail_with = [Refused("No such address.")]
    failed = begun(api, governed, MAIL)
    workflow = seen(api.get(f"runs/{failed.pk}"))["workflow"]
    assert workflow["status"] == "failed"
    assert workflow["reason"] == "The step mail did not succeed: No such address."
    assert workflow["steps"][0]["error"] == {
        "code": "refused_by_system",
        "message": "No such address.",
    }
    governed.toolbox.fail_with = [NoResponse("Silence.")]
    unknown = begun(api, governed, MAIL)
    workflow = seen(api.get(f"runs/{unknown.pk}"))["workflow"]
    assert (workflow["status"], workflow["unknown_steps"]) == ("waiting", 1)
    assert workflow["steps"][0]["status"] == "unknown"


def test_a_run_that_rests_is_shown_without_waiting(api: Api, governed: Governed) -> None:
    succeeded = begun(api, governed, MAIL)
    governed.toolbox.accounts["b"] = {"frozen": True}
    halted = begun(api, governed, BODY, {"account": "b"})
    assert (succeeded.status, halted.status) == ("succeeded", "halted")
    plain = governed.run()
    began = time.monotonic()
    for run in (succeeded, halted, plain):
        for wait in ("", "?wait=30", "?wait=999", "?wait=soon", "?wait=-1"):
            seen(api.get(f"runs/{run.pk}{wait}"))
    assert seen(api.get(f"runs/{plain.pk}?wait=30"))["workflow"] is None
    refused(api.get(f"runs/{uuid7()}?wait=30"), 404, "not_found")
    assert time.monotonic() - began < 10


def test_who_waits_in_vain_is_shown_how_far_the_run_is(api: Api, governed: Governed) -> None:
    run = begun(api, governed, REST)
    began = time.monotonic()
    body = seen(api.get(f"runs/{run.pk}?wait=1"))
    assert time.monotonic() - began >= 1
    assert body["workflow"]["status"] == "waiting"
    assert body == seen(api.get(f"runs/{run.pk}"))


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_who_waits_hears_of_the_end(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)

    def waited() -> Any:
        try:
            return api.get(f"runs/{run.pk}?wait=30").json()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        answer = other.submit(waited)
        assert send(api, run).status_code == 201
        worker.run_until_idle(run.pk)
        workflow = answer.result()["workflow"]
    assert (workflow["status"], workflow["output"]) == ("succeeded", {"amount": 11})


def queries(api: Api, run: WorkflowRun) -> int:
    with CaptureQueriesContext(connection) as captured:
        assert api.get(f"runs/{run.pk}").status_code == 200
    return len(captured)


def test_a_run_takes_as_many_queries_however_many_steps_it_has(
    api: Api, governed: Governed
) -> None:
    few = begun(api, governed, EACH, {"amounts": [1]})
    before = queries(api, few)
    many = begun(api, governed, EACH, {"amounts": [1] * 12})
    assert queries(api, many) == before
    assert len(seen(api.get(f"runs/{many.pk}"))["workflow"]["steps"]) == 25


def test_a_run_shows_no_more_steps_than_can_be_sent(
    api: Api, governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serializers, "MAX_STEPS", 3)
    run = begun(api, governed, EACH, {"amounts": [1, 2]})
    paths = [step["path"] for step in seen(api.get(f"runs/{run.pk}"))["workflow"]["steps"]]
    assert len(paths) == 3
    assert paths[0] == "all"


def test_a_run_within_a_run_is_shown_to_the_agent_whose_it_is(
    api: Api, governed: Governed, olga: User, prod: Environment
) -> None:
    bob = factories.identity("bob", owner=olga, environment=prod)
    grants.add_member(governed.role, bob, actor=SYSTEM)
    workflow_helpers.publish(CHILD, slug="child")
    run = begun(api, governed, HAND)
    child = WorkflowRun.objects.get(parent=run)
    body = seen(Api(factories.token_for(bob)).get(f"runs/{child.pk}"))
    assert (body["agent"], body["workflow"]["parent_run"]) == ("bob", str(run.pk))
    refused(api.get(f"runs/{child.pk}"), 404, "not_found")
