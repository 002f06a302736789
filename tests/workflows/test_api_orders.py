"""The REST API of runs: signals, cancelling, retrying, and whose a run is."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import Environment, User
from actions.models import Action
from agents.services import lifecycle
from approvals.models import ApprovalRequest
from audit.models import Event
from common.actors import SYSTEM
from common.ids import uuid7
from policies.services import grants
from tests import factories
from tests.actions.test_api import UNREADABLE, refused, refused_events, shown
from tests.conftest import Api
from tests.factories import Governed
from tests.workflows import workflow_helpers
from tests.workflows.assertions import nothing_changed
from tests.workflows.test_api import BODY, MAIL, REST, STARTED, begun, seen, send, start
from tests.workflows.test_running import SIGNAL, later
from tests.workflows.test_undoing import BACK, TWO
from tools.connectors.base import Refused
from workflows.api import serializers
from workflows.models import Signal
from workflows.services import operator_commands

pytestmark = pytest.mark.django_db

STUCK = f"""\
steps:
  one: {{tool: toolbox.pay, with: {{account: a, amount: 1}}, {BACK % 1}}}
  two: {{needs: [one], wait: {{signal: never, timeout: 1s}}}}
"""
REASON = {"reason": "Not needed any more."}


@pytest.fixture
def otto(governed: Governed, olga: User, prod: Environment) -> Api:
    """Otto's runtime: another agent in production, in the same role."""
    identity = factories.identity("otto", owner=olga, environment=prod)
    grants.add_member(governed.role, identity, actor=SYSTEM)
    return Api(factories.token_for(identity))


def order(api: Api, run: Any, what: str, body: Any = None) -> Any:
    return api.post(f"runs/{run.pk}/{what}", REASON if body is None else body)


# -- signals -------------------------------------------------------------------------------------


def test_a_signal_is_kept_once_and_taken_up(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)
    sent = shown(send(api, run), 201, serializers.SentSignalSerializer)
    assert (sent["name"], sent["consumed_by"]) == ("paid", "")
    with nothing_changed():
        assert shown(send(api, run), 200, serializers.SentSignalSerializer) == sent
    assert workflow_helpers.driven(run).status == "succeeded"
    again = shown(send(api, run), 200, serializers.SentSignalSerializer)
    assert again == {**sent, "consumed_by": "told"}
    event = Event.objects.get(type="workflow.signal.received")
    assert (event.actor_kind, event.actor_id, event.run_id) == ("agent", "tilda.prod", run.pk)
    assert Signal.objects.count() == 1


def test_a_signal_is_known_by_its_key(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)
    send(api, run, {"amount": 1})
    with nothing_changed():
        refused(send(api, run, {"amount": 2}), 409, "signal_id_reused")
        refused(send(api, run, {"amount": 1}, name="told"), 409, "signal_id_reused")
        refused(send(api, run, {}), 409, "signal_id_reused")
        for key in ("", "x" * 101, "a b"):
            refused(send(api, run, key=key), 400, "idempotency_key_required")
    assert send(api, run, {"amount": 2}, key="other").status_code == 201


def test_a_run_that_has_ended_hears_nothing_more(api: Api, governed: Governed) -> None:
    run = begun(api, governed, MAIL)
    with nothing_changed():
        refused(send(api, run), 409, "invalid_workflow_run_state")


def test_a_halted_run_keeps_what_it_is_told(api: Api, governed: Governed) -> None:
    governed.toolbox.accounts["b"] = {"frozen": True}
    run = begun(api, governed, BODY, {"account": "b"})
    assert run.status == "halted"
    assert send(api, run).status_code == 201
    assert workflow_helpers.driven(run).status == "halted"


def test_a_signal_that_is_not_well_formed_is_refused(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)
    with nothing_changed():
        for name in ("", "Paid", "a b", ".paid", "x" * 65, None, ["paid"]):
            body = refused(send(api, run, name=name), 400, "invalid_input")
            assert list(body["errors"]) == ["name"]
        for payload in ([1], "text", 1):
            body = refused(send(api, run, payload), 400, "invalid_input")
            assert list(body["errors"]) == ["payload"]


@pytest.mark.parametrize(
    "value",
    [f"{'[' * 40}{']' * 40}", str(2**64), "NaN", "1e999", '"\\u0000"'],
    ids=["deep", "huge", "NaN", "Infinity", "NUL"],
)
def test_a_payload_that_cannot_be_written_down_is_refused(
    api: Api, governed: Governed, value: str
) -> None:
    run = begun(api, governed, SIGNAL)
    body = f'{{"name": "paid", "payload": {{"amount": {value}}}}}'.encode()
    with nothing_changed():
        response = api.post(f"runs/{run.pk}/signals", body, key="s")
        refused(response, 400, "not_canonical_json")


# -- cancelling ----------------------------------------------------------------------------------


def test_an_agent_cancels_its_run_where_it_is(api: Api, governed: Governed) -> None:
    run = begun(api, governed, TWO)
    body = seen(order(api, run, "cancel"))
    assert (body["status"], body["outcome"]) == ("closed", "cancelled")
    assert body["workflow"]["status"] == "cancelled"
    assert body["workflow"]["reason"] == "Not needed any more."
    assert [step["status"] for step in body["workflow"]["steps"]] == ["cancelled"]
    event = Event.objects.get(type="workflow.run.operator_command")
    assert (event.actor_id, event.details["order"]) == ("tilda.prod", "cancel")
    with nothing_changed():
        refused(order(api, run, "cancel"), 409, "invalid_workflow_run_state")
    assert workflow_helpers.driven(run).status == "cancelled"
    assert governed.toolbox.calls == []


def test_an_agent_leaves_a_halted_run_to_people(api: Api, governed: Governed) -> None:
    rule = 'stop_when: [{if: "${ run.steps >= 1 }", reason: enough, then: halt}]\n'
    run = workflow_helpers.driven(begun(api, governed, rule + TWO))
    assert run.status == "halted"
    with nothing_changed():
        refused(order(api, run, "cancel"), 409, "invalid_workflow_run_state")
    operator_commands.cancel(run.pk, actor=SYSTEM, reason="A person looked.")
    assert workflow_helpers.driven(run).status == "cancelled"


def test_what_people_are_asked_is_withdrawn_with_a_cancelled_run(
    api: Api, governed: Governed, rosa: User
) -> None:
    large = BODY.replace("maximum: 50", "maximum: 500").replace("amount: 100", "amount: 900")
    run = begun(api, governed, large, {"account": "a", "amount": 500})
    assert (run.status, ApprovalRequest.objects.get().status) == ("waiting", "pending")
    seen(order(api, run, "cancel"))
    assert ApprovalRequest.objects.get().status == "withdrawn"
    assert governed.toolbox.effects == []


# -- retrying ------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_and_what_succeeded_is_not_done_again(
    api: Api, governed: Governed
) -> None:
    governed.toolbox.fail_with = [Refused("Not now.")]
    run = begun(api, governed, BODY, {"account": "a"})
    assert run.status == "failed"
    body = seen(order(api, run, "retry"))
    assert (body["status"], body["workflow"]["status"]) == ("open", "running")
    assert body["workflow"]["reason"] == ""
    statuses = {step["path"]: step["status"] for step in body["workflow"]["steps"]}
    assert statuses == {"look": "succeeded", "pay": "retry"}
    event = Event.objects.get(type="workflow.run.operator_command")
    assert (event.actor_id, event.details["order"]) == ("tilda.prod", "resume")
    assert workflow_helpers.driven(run).status == "succeeded"
    assert Action.objects.filter(tool="toolbox.read_account").count() == 1
    assert len(governed.toolbox.effects) == 1


def test_only_a_failed_run_is_retried_by_its_agent(
    api: Api, governed: Governed, rosa: User
) -> None:
    governed.toolbox.accounts["b"] = {"frozen": True}
    halted = begun(api, governed, BODY, {"account": "b"})
    resting = begun(api, governed, REST)
    succeeded = begun(api, governed, MAIL)
    cancelled = begun(api, governed, REST)
    order(api, cancelled, "cancel")
    stuck = begun(api, governed, "on_failure: compensate\n" + STUCK)
    governed.toolbox.accounts["back"] = {"frozen": True}
    stuck = later(stuck, seconds=5)
    assert (halted.status, resting.status) == ("halted", "waiting")
    assert stuck.status == "compensation_failed"
    with nothing_changed():
        for run in (halted, resting, succeeded, cancelled, stuck):
            refused(order(api, run, "retry"), 409, "invalid_workflow_run_state")


# -- whose it is ---------------------------------------------------------------------------------


def test_what_belongs_to_another_agent_does_not_exist(
    api: Api, otto: Api, governed: Governed
) -> None:
    resting = begun(api, governed, SIGNAL)
    send(api, resting, {"amount": 1})
    governed.toolbox.fail_with = [Refused("No.")]
    failed = begun(api, governed, MAIL)
    with nothing_changed():
        for run in (resting, failed):
            refused(otto.get(f"runs/{run.pk}"), 404, "not_found")
            refused(otto.get(f"runs/{run.pk}?wait=30"), 404, "not_found")
            for key, payload in (("s", {"amount": 1}), ("s", {}), ("new", {"amount": 11})):
                refused(send(otto, run, payload, key=key), 404, "not_found")
            for what in ("cancel", "retry"):
                refused(order(otto, run, what), 404, "not_found")


def test_a_run_is_of_one_environment(api: Api, governed: Governed, staging: Environment) -> None:
    run = begun(api, governed, SIGNAL)
    twin = lifecycle.create_identity(governed.identity.agent_id, actor=SYSTEM, environment=staging)
    grants.add_member(governed.role, twin, actor=SYSTEM)
    there = Api(factories.token_for(twin))
    with nothing_changed():
        refused(there.get(f"runs/{run.pk}"), 404, "not_found")
        refused(send(there, run), 404, "not_found")
        refused(order(there, run, "cancel"), 404, "not_found")


def test_a_key_is_its_agents_own(api: Api, otto: Api, governed: Governed) -> None:
    workflow_helpers.publish(BODY)
    first, second = seen(start(api), 201), seen(start(otto), 201)
    assert first["id"] != second["id"]
    assert (first["agent"], second["agent"]) == ("tilda", "otto")


def test_a_run_that_is_no_workflows_takes_no_orders(api: Api, governed: Governed) -> None:
    run = governed.run()
    with nothing_changed():
        for what in ("cancel", "retry"):
            refused(order(api, run, what), 404, "not_found")
        refused(api.post(f"runs/{run.pk}/signals", {"name": "paid"}, key="s"), 404, "not_found")
        for what in ("cancel", "retry"):
            refused(api.post(f"runs/{uuid7()}/{what}", REASON), 404, "not_found")


def test_without_a_valid_token_nothing_is_shown_or_done(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)
    lifecycle.suspend_identity(governed.identity.pk, actor=SYSTEM, reason="Look into it.")
    with nothing_changed():
        for one in (Api(""), Api("x"), api):
            refused(one.get("workflows"), 401, "invalid_token")
            refused(one.get(f"runs/{run.pk}"), 401, "invalid_token")
            refused(start(one), 401, "invalid_token")
            refused(send(one, run), 401, "invalid_token")
            refused(order(one, run, "cancel"), 401, "invalid_token")
            refused(order(one, run, "retry"), 401, "invalid_token")


def test_a_persons_session_starts_nothing(governed: Governed, admin_user: User) -> None:
    workflow_helpers.publish(BODY)
    browser = Client()
    browser.force_login(admin_user)
    with nothing_changed():
        refused(browser.get("/api/v1/workflows"), 401, "invalid_token")
        response = browser.post(
            f"/api/v1/workflows/{workflow_helpers.SLUG}/runs",
            json.dumps(STARTED),
            "application/json",
            headers={"Idempotency-Key": "k"},
        )
        refused(response, 401, "invalid_token")


# -- what cannot be read or recorded -------------------------------------------------------------


def test_a_body_that_cannot_be_read_is_refused(api: Api, governed: Governed) -> None:
    run = begun(api, governed, SIGNAL)
    paths = [f"workflows/{workflow_helpers.SLUG}/runs"]
    paths += [f"runs/{run.pk}/{order}" for order in ("signals", "cancel", "retry")]
    with nothing_changed():
        for body, status, code in UNREADABLE:
            for path in paths:
                if body or path != paths[0]:  # to say nothing is to start without inputs
                    refused(api.post(path, body, key="k"), status, code)


@pytest.mark.parametrize("what", ["cancel", "retry"])
def test_an_order_needs_a_reason(api: Api, governed: Governed, what: str) -> None:
    run = begun(api, governed, REST)
    with nothing_changed():
        for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": None}, {"reason": ["x"]}):
            response = refused(order(api, run, what, body or {"why": "x"}), 400, "invalid_input")
            assert list(response["errors"]) == ["reason"]
        for reason in ("x" * 501, "a\x00b"):
            refused(order(api, run, what, {"reason": reason}), 400, "invalid_input")


def test_what_cannot_be_recorded_is_not_done(api: Api, governed: Governed, rosa: User) -> None:
    run = begun(api, governed, SIGNAL)
    asks: list[tuple[str, Callable[[], Any]]] = [
        ("run.started", lambda: start(api, {})),
        ("workflow.run.started", lambda: start(api, {})),
        ("workflow.signal.received", lambda: send(api, run)),
        ("workflow.run.operator_command", lambda: order(api, run, "cancel")),
        ("workflow.run.ended", lambda: order(api, run, "cancel")),
    ]
    with nothing_changed():
        for event, ask in asks:
            with refused_events(event):
                body = refused(ask(), 503, "not_recorded")
            assert "full" not in body["detail"]
    assert start(api, {}).status_code == 201
    assert send(api, run).status_code == 201
