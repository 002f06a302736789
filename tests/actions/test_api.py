"""The REST API: what agents' runtimes see of runs, actions and tools, and people of approvals."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import yaml
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver
from rest_framework.serializers import BaseSerializer, ListSerializer

from accounts.models import Environment, Groups, User
from actions.api import serializers
from actions.models import Action, Attempt, Run
from agents.models import Halt
from agents.services import lifecycle
from agents.services.halts import place_halt
from approvals.api.views import ApprovalSerializer
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote
from audit.models import Event
from common import triggers
from common.actors import SYSTEM, Actor
from common.ids import uuid7
from common.problems import ProblemSerializer
from policies.services import grants
from tests import factories
from tests.conftest import Api, Hints
from tests.factories import Governed
from tests.toolbox import TOOLS
from tools.models import Tool
from tools.services.registration import define_tool, withdraw_tool
from workflows.api.serializers import RunWithStepsSerializer

pytestmark = pytest.mark.django_db

RUN = {"initiator_kind": "user", "initiator": "somebody", "purpose": "testing"}
PAY = {"account": "a", "amount": 1}


@pytest.fixture
def run(api: Api) -> str:
    """The identifier of an open run of Tilda's."""
    return str(api.post("runs", RUN).json()["id"])


def pay(api: Api, run: str, amount: Any = 1, *, key: str = "k", **more: Any) -> Any:
    arguments = {"account": "a", "amount": amount}
    return api.post(
        "actions", {"run": run, "tool": "toolbox.pay", "arguments": arguments, **more}, key=key
    )


def ensure_declared(serializer: Any, body: Any) -> None:
    """The body has the serializer's fields and no others, all the way down."""
    if isinstance(serializer, ListSerializer):
        for item in body:
            ensure_declared(serializer.child, item)
        return
    fields = getattr(serializer, "fields", None)
    if fields is None or body is None:
        return
    required = {name for name, field in fields.items() if field.required}
    assert required <= set(body) <= set(fields)
    for name, value in body.items():
        ensure_declared(fields[name], value)


def shown(response: Any, status: int, serializer: type[BaseSerializer[Any]]) -> Any:
    """The body of an answer that is as declared."""
    body = response.json()
    assert response.status_code == status, body
    many = isinstance(body, list)
    ensure_declared(serializer(many=many), body)
    return body


def seen(api: Api, run: str) -> Any:
    """A run as its agent sees it: one that is no workflow's has no steps."""
    return shown(api.get(f"runs/{run}"), 200, RunWithStepsSerializer)


def refused(response: Any, status: int, code: str) -> Any:
    """The body of a problem with that code (RFC 9457)."""
    body = response.json()
    assert (response.status_code, body.get("code")) == (status, code), body
    assert response["Content-Type"] == "application/problem+json"
    assert set(body) >= set(ProblemSerializer().fields)
    assert (body["type"], body["status"]) == (f"urn:chancery:problem:{code}", status)
    assert body["request_id"] == response["X-Request-Id"]
    assert body["detail"]
    return body


def nothing_done(governed: Governed) -> bool:
    return not Action.objects.exists() and governed.toolbox.effects == []


# -- Runs --------------------------------------------------------------------------------------


def test_a_run_is_opened_looked_at_and_closed(api: Api) -> None:
    given = {
        **RUN,
        "reference": "T-1",
        "labels": ["pii", "pii", "late"],
        "budget": {"actions": 3, "amount": "10.50"},
    }
    opened = shown(api.post("runs", given), 201, serializers.RunSerializer)
    stored = Run.objects.get(pk=opened["id"])
    assert (stored.budget_actions, stored.budget_amount) == (3, Decimal("10.5"))
    found = seen(api, opened["id"])
    assert (found["status"], found["agent"], found["environment"]) == ("open", "tilda", "prod")
    assert (found["labels"], found["reference"]) == (["late", "pii"], "T-1")
    assert found == {**opened, "workflow": None}
    response = api.post(f"runs/{opened['id']}/close", {"outcome": "all done"})
    closed = shown(response, 200, serializers.RunSerializer)
    assert (closed["status"], closed["outcome"]) == ("closed", "all done")
    assert closed["closed_at"] is not None
    assert seen(api, opened["id"]) == {**closed, "workflow": None}


def test_a_run_that_is_not_well_described_is_not_opened(api: Api) -> None:
    for wrong, field in (
        ({"initiator_kind": "ghost"}, "initiator_kind"),
        ({"purpose": ""}, "purpose"),
        ({"purpose": None}, "purpose"),
        ({"purpose": "x" * 4_001}, "purpose"),
        ({"initiator": "a\x00b"}, "initiator"),
        ({"labels": ["not a label"]}, "labels"),
        ({"labels": ["x"] * 21}, "labels"),
        ({"budget": {"actions": -1}}, "budget"),
        ({"budget": {"amount": "1e400"}}, "budget"),
        ({"budget": {"amount": ""}}, "budget"),
        ({"budget": {"amount": " "}}, "budget"),
        ({"budget": {"amount": "1_0"}}, "budget"),
        ({"budget": {"amount": "\u0661"}}, "budget"),
        ({"budget": {"amount": "0.00000000001"}}, "budget"),
    ):
        body = refused(api.post("runs", {**RUN, **wrong}), 400, "invalid_input")
        assert list(body["errors"]) == [field]
    refused(api.post("runs", {**RUN, "purpose": "\ud800"}), 400, "invalid_json")
    huge = {**RUN, "budget": {"actions": 2**63}}
    refused(api.post("runs", huge), 400, "invalid_input")
    assert not Run.objects.exists()


def test_a_closed_run_is_closed(api: Api, run: str, governed: Governed) -> None:
    api.post(f"runs/{run}/close", {"outcome": "done"})
    refused(pay(api, run), 409, "run_not_open")
    refused(api.post(f"runs/{run}/close", {"outcome": "again"}), 409, "run_not_open")
    assert Run.objects.get().outcome == "done"
    assert nothing_done(governed)


# -- Actions -----------------------------------------------------------------------------------


def test_an_allowed_call_is_made_once_and_answered_twice(
    api: Api, run: str, governed: Governed
) -> None:
    response = pay(api, run)
    first = shown(response, 201, serializers.ActionSerializer)
    assert response["Server-Timing"].startswith("decide;dur=")
    assert (first["status"], first["result"], first["attempts"]) == (
        "succeeded",
        {"done": "pay"},
        1,
    )
    assert first["decision"]["outcome"] == "allowed"
    assert first["decision"]["reasons"][0]["rule"] == "permit-toolbox"
    assert shown(pay(api, run), 200, serializers.ActionSerializer) == first
    found = shown(api.get(f"actions/{first['id']}"), 200, serializers.ActionSerializer)
    assert found == first
    assert len(governed.toolbox.effects) == 1


def test_what_policy_says_is_an_answer_and_no_error(api: Api, run: str, governed: Governed) -> None:
    asked = shown(pay(api, run, 500, key="1"), 201, serializers.ActionSerializer)
    assert (asked["status"], asked["decision"]["tier"]) == ("waiting", "supervisor")
    assert UUID(asked["approval"]) == ApprovalRequest.objects.get().pk
    governed.toolbox.accounts["a"]["frozen"] = True
    denied = shown(pay(api, run, key="2"), 201, serializers.ActionSerializer)
    assert (denied["status"], denied["approval"], denied["result"]) == ("denied", None, None)
    assert denied["decision"]["reasons"] == [
        {
            "rule": "frozen-accounts",
            "title": "Frozen accounts",
            "reason": "Nothing is paid from a frozen account.",
        }
    ]
    wipe = {"run": run, "tool": "toolbox.wipe", "arguments": {"id": "a"}}
    halted = shown(api.post("actions", wipe, key="3"), 201, serializers.ActionSerializer)
    assert (halted["status"], halted["decision"]["outcome"]) == ("halted", "halted")
    assert seen(api, run)["status"] == "halted"
    assert governed.toolbox.effects == []


def test_a_call_may_be_left_to_a_worker(
    api: Api,
    run: str,
    governed: Governed,
    hints: Hints,
    django_capture_on_commit_callbacks: Any,
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        body = shown(pay(api, run, mode="async"), 201, serializers.ActionSerializer)
    assert (body["status"], body["decision"]["outcome"]) == ("ready", "allowed")
    assert hints.of("actions.execute") == [body["id"]]
    assert governed.toolbox.effects == []


def test_an_action_is_shown_as_it_stands_without_waiting_in_vain(api: Api, run: str) -> None:
    waiting, settled = pay(api, run, 500, key="1").json(), pay(api, run, key="2").json()
    for action, waits in (
        (waiting, ("", "?wait=0", "?wait=soon", "?wait=-1", "?wait=9999")),
        (settled, ("?wait=30", "?wait=31", "?wait=999")),
    ):
        for wait in waits:
            response = api.get(f"actions/{action['id']}{wait}")
            assert shown(response, 200, serializers.ActionSerializer) == action
    assert [waiting["status"], settled["status"]] == ["waiting", "succeeded"]


@pytest.mark.django_db(transaction=True)
def test_who_waits_in_vain_is_shown_that_nothing_has_happened(api: Api, run: str) -> None:
    action = pay(api, run, 500).json()
    response = api.get(f"actions/{action['id']}?wait=1")
    assert shown(response, 200, serializers.ActionSerializer) == action


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_who_waits_hears_what_people_decide(api: Api, run: str, rosa: User) -> None:
    action = pay(api, run, 500).json()

    def waited() -> Any:
        try:
            return api.get(f"actions/{action['id']}?wait=30").json()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        answer = other.submit(waited)
        actor = Actor.from_user(rosa)
        cast_vote(action["approval"], actor=actor, answer=Vote.Answer.REJECT, reason="No.")
        assert answer.result()["status"] == "rejected"


# -- Tools -------------------------------------------------------------------------------------


def test_tools_are_listed_with_how_a_call_would_be_decided(api: Api, governed: Governed) -> None:
    tools = shown(api.get("tools"), 200, serializers.ToolOutlookSerializer)
    assert [(tool["tool"], tool["expected_outcome"]) for tool in tools] == [
        ("toolbox.mail", "depends"),
        ("toolbox.pay", "depends"),
        ("toolbox.read_account", "allowed"),
        ("toolbox.wipe", "halted"),
    ]
    described = {tool["tool"]: tool for tool in tools}
    assert [rule["rule"] for rule in described["toolbox.wipe"]["rules"]] == ["never-wipe"]
    assert described["toolbox.pay"]["input_schema"] == TOOLS["pay"]["input_schema"]
    assert described["toolbox.pay"]["claims"] == [
        {"name": "confirmed", "title": "Confirmed", "type": "bool"}
    ]


def test_only_tools_that_may_be_called_are_listed(api: Api, governed: Governed) -> None:
    def listed() -> list[str]:
        return [tool["tool"].removeprefix("toolbox.") for tool in api.get("tools").json()]

    withdraw_tool(governed.tool("mail").pk, actor=SYSTEM, reason="No mail.")
    assert listed() == ["pay", "read_account", "wipe"]
    grants.revoke(governed.role, governed.system, Tool.Access.EXECUTE, actor=SYSTEM)
    assert listed() == ["pay", "read_account"]
    narrow = Api(factories.token_for(governed.identity, scope="tool:toolbox.pay"))
    assert [tool["tool"] for tool in narrow.get("tools").json()] == ["toolbox.pay"]
    place_halt(Halt.Kind.ENVIRONMENT, actor=SYSTEM, target="prod", reason="Stop.")
    assert listed() == []


# -- Refusals ----------------------------------------------------------------------------------


def test_without_a_valid_token_nothing_is_shown_or_done(governed: Governed) -> None:
    wrong = ("Bearer", "Bearer ", "Bearer x", "Bearer a.b.c", "Basic dTpw", "Bearer é", "x" * 9000)
    for headers in ({}, *({"Authorization": header} for header in wrong)):
        client = Client(headers=headers)
        for path in ("tools", f"runs/{uuid7()}", f"actions/{uuid7()}"):
            response = client.get(f"/api/v1/{path}")
            refused(response, 401, "invalid_token")
            assert response["WWW-Authenticate"] == 'Bearer error="invalid_token"'
        for path in ("runs", "actions"):
            response = client.post(f"/api/v1/{path}", json.dumps(RUN), "application/json")
            refused(response, 401, "invalid_token")
    token = factories.token_for(governed.identity)
    for spoilt in (f"{token}, Bearer {token}", f"{token[:-6]}AAAAAA", f"{token}.x", token[1:]):
        refused(Api(spoilt).get("tools"), 401, "invalid_token")
    assert not Run.objects.exists()


def test_a_stopped_agents_token_is_dead(api: Api, run: str, governed: Governed) -> None:
    lifecycle.suspend_identity(governed.identity.pk, actor=SYSTEM, reason="Look into it.")
    refused(api.get(f"runs/{run}"), 401, "invalid_token")
    refused(pay(api, run), 401, "invalid_token")
    lifecycle.resume_identity(governed.identity.pk, actor=SYSTEM, reason="All is well.")
    refused(pay(api, run), 401, "invalid_token")
    assert nothing_done(governed)


MALFORMED: list[tuple[dict[str, Any], int, str]] = [
    ({"tool": "toolbox.nothing"}, 404, "unknown_tool"),
    ({"tool": "nowhere.pay"}, 404, "unknown_tool"),
    ({"tool": ""}, 400, "invalid_input"),
    ({"tool": "x" * 201}, 400, "invalid_input"),
    ({"run": "1"}, 400, "invalid_input"),
    ({"run": str(uuid7())}, 404, "not_found"),
    ({"arguments": {}}, 400, "invalid_arguments"),
    ({"arguments": {"account": "a", "amount": "1"}}, 400, "invalid_arguments"),
    ({"arguments": {**PAY, "more": 1}}, 400, "invalid_arguments"),
    ({"arguments": {"account": "\x00", "amount": 1}}, 400, "invalid_arguments"),
    ({"arguments": {"account": "x" * 65_000, "amount": 1}}, 400, "invalid_arguments"),
    ({"arguments": [1]}, 400, "invalid_arguments"),
    ({"arguments": None}, 400, "invalid_arguments"),
    ({"claims": {"sure": True}}, 400, "invalid_claims"),
    ({"claims": {"confirmed": "yes"}}, 400, "invalid_claims"),
    ({"claims": []}, 400, "invalid_input"),
    ({"mode": "never"}, 400, "invalid_input"),
]


def test_a_call_that_is_not_well_formed_is_refused(api: Api, run: str, governed: Governed) -> None:
    for given, status, code in MALFORMED:
        body = {"run": run, "tool": "toolbox.pay", "arguments": PAY, **given}
        refused(api.post("actions", body, key="k"), status, code)
    problem = refused(pay(api, run, "a secret"), 400, "invalid_arguments")
    assert problem["at"] == "amount"
    assert "a secret" not in json.dumps(problem)
    assert nothing_done(governed)


UNREADABLE = [
    (b'{"pad": "' + b"x" * 1_000_000 + b'"}', 413, "body_too_large"),
    (b" " * 256_001, 413, "body_too_large"),
    (b"{", 400, "invalid_json"),
    (b"\xff\xfe", 400, "invalid_json"),
    (b'{"run": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
    (b"[" * 100_000, 400, "invalid_json"),
    (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, 400, "invalid_json"),
    (b"[]", 400, "invalid_input"),
    (b'"text"', 400, "invalid_input"),
    (b"", 400, "invalid_input"),
]


def test_a_body_that_cannot_be_read_is_refused(api: Api, governed: Governed) -> None:
    for body, status, code in UNREADABLE:
        refused(api.post("actions", body, key="k"), status, code)
        refused(api.post("runs", body), status, code)
    assert nothing_done(governed)
    assert not Run.objects.exists()


def test_arguments_that_cannot_be_written_down_are_refused(
    api: Api, run: str, governed: Governed
) -> None:
    nested = [f"{'[' * depth}{']' * depth}" for depth in (33, 200)]
    for value in (*nested, "NaN", "Infinity", "-Infinity", "1e999"):
        arguments = f'{{"account": "a", "amount": {value}}}'
        call = f'{{"run": "{run}", "tool": "toolbox.pay", "arguments": {arguments}}}'
        refused(api.post("actions", call.encode(), key="k"), 400, "invalid_arguments")
    assert nothing_done(governed)


def test_a_call_needs_a_key_of_its_own(api: Api, run: str, governed: Governed) -> None:
    for key in ("", "x" * 101, "a b", "é", "\t"):
        refused(pay(api, run, key=key), 400, "idempotency_key_required")
    assert nothing_done(governed)


def test_a_key_is_not_used_for_another_call(api: Api, run: str, governed: Governed) -> None:
    pay(api, run, 1)
    refused(pay(api, run, 2), 409, "idempotency_key_reused")
    refused(pay(api, run, 1, claims={"confirmed": True}), 409, "idempotency_key_reused")
    mail = {"run": run, "tool": "toolbox.mail", "arguments": {"to": "x"}}
    refused(api.post("actions", mail, key="k"), 409, "idempotency_key_reused")
    assert Action.objects.count() == 1
    assert len(governed.toolbox.effects) == 1


def test_what_belongs_to_another_agent_does_not_exist(
    api: Api, run: str, governed: Governed, olga: User, prod: Environment
) -> None:
    action = pay(api, run, 500).json()["id"]
    other = Api(factories.token_for(factories.identity("otto", owner=olga, environment=prod)))
    refused(other.get(f"runs/{run}"), 404, "not_found")
    refused(other.get(f"actions/{action}"), 404, "not_found")
    refused(other.post(f"runs/{run}/close", {"outcome": "mine"}), 404, "not_found")
    refused(pay(other, run), 404, "not_found")
    assert Run.objects.get().status == "open"
    assert Action.objects.count() == 1


def test_a_run_is_of_one_environment(
    api: Api, run: str, governed: Governed, staging: Environment
) -> None:
    action = pay(api, run).json()["id"]
    twin = lifecycle.create_identity(governed.identity.agent_id, actor=SYSTEM, environment=staging)
    grants.add_member(governed.role, twin, actor=SYSTEM)
    there = Api(factories.token_for(twin))
    refused(there.get(f"runs/{run}"), 404, "not_found")
    refused(there.get(f"actions/{action}"), 404, "not_found")
    refused(there.post(f"runs/{run}/close", {"outcome": "mine"}), 404, "not_found")
    refused(pay(there, run), 404, "not_found")
    refused(pay(there, run, key="other"), 404, "not_found")
    assert Action.objects.count() == 1
    assert Run.objects.get().status == "open"


def test_too_many_requests_are_turned_away(
    api: Api, run: str, governed: Governed, settings: LazySettings
) -> None:
    settings.AGENT_REQUESTS_PER_MINUTE = 1
    # A new minute may begin between two of them, not between all.
    answers = [api.get("tools") for _ in range(5)]
    turned_away = [answer for answer in answers if answer.status_code != 200]
    assert len(turned_away) >= 3
    for answer in turned_away:
        refused(answer, 429, "too_many_requests")
    results = [pay(api, run, key=str(number)) for number in range(3)]
    assert [result.status_code for result in results].count(429) >= 2
    assert Action.objects.count() <= 1


def test_only_json_is_taken_and_given(api: Api, run: str, governed: Governed) -> None:
    client = Client(headers={"Authorization": f"Bearer {api.token}", "Idempotency-Key": "k"})
    body = {"run": run, "tool": "toolbox.pay", "arguments": PAY}
    for content_type in ("text/plain", "application/xml", "application/x-www-form-urlencoded"):
        response = client.post("/api/v1/actions", json.dumps(body), content_type)
        refused(response, 415, "unsupported_media_type")
    refused(client.post("/api/v1/runs", RUN), 415, "unsupported_media_type")
    html = client.get("/api/v1/tools", headers={"Accept": "text/html"})
    refused(html, 406, "not_acceptable")
    refused(client.delete("/api/v1/actions"), 405, "method_not_allowed")
    assert nothing_done(governed)


# -- The database says no ----------------------------------------------------------------------


@contextmanager
def refused_events(event_type: str = "") -> Iterator[None]:
    """The database keeps events out meanwhile, as a full disk or a broken log would."""
    condition = f"NEW.type = '{event_type}'" if event_type else "1 = 1"
    if connection.vendor == "sqlite":
        made = [
            f"CREATE TRIGGER refuse BEFORE INSERT ON audit_event WHEN {condition} "
            "BEGIN SELECT RAISE(ABORT, 'the log is full'); END"
        ]
        dropped = ["DROP TRIGGER refuse"]
    else:
        made = [
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the log is full'; END $$",
            f"CREATE TRIGGER refuse BEFORE INSERT ON audit_event "
            f"FOR EACH ROW WHEN ({condition}) EXECUTE FUNCTION refuse()",
        ]
        dropped = ["DROP FUNCTION refuse CASCADE"]
    triggers.run(connection, {connection.vendor: made})
    yield
    triggers.run(connection, {connection.vendor: dropped})


def test_what_cannot_be_recorded_is_not_done(api: Api, run: str, governed: Governed) -> None:
    for event_type in ("decision.made", "tool.call.requested", ""):
        with refused_events(event_type):
            body = refused(pay(api, run), 503, "not_recorded")
        assert "full" not in body["detail"]
        assert nothing_done(governed)
        assert not Attempt.objects.exists()
    assert Run.objects.values_list("actions_count", "amount").get() == (0, Decimal(0))
    assert pay(api, run).json()["status"] == "succeeded"


def test_what_cannot_be_recorded_is_neither_asked_nor_opened(
    api: Api, run: str, governed: Governed
) -> None:
    with refused_events("approval.requested"):
        refused(pay(api, run, 500), 503, "not_recorded")
    assert nothing_done(governed)
    assert not ApprovalRequest.objects.exists()
    with refused_events("run.started"):
        refused(api.post("runs", RUN), 503, "not_recorded")
    assert Run.objects.count() == 1


# -- People ------------------------------------------------------------------------------------


@pytest.fixture
def browser() -> Client:
    """A browser that has seen one of the portal's pages; cross-site requests are checked."""
    client = Client(enforce_csrf_checks=True)
    client.get("/accounts/login/")
    return client


def vote(browser: Client, approval: Any, answer: str = "approve", **headers: str) -> Any:
    body = json.dumps({"answer": answer, "reason": "I know the customer."})
    path = f"/api/v1/approvals/{approval}/votes"
    return browser.post(path, body, "application/json", headers=headers)


def csrf(browser: Client) -> str:
    """The token that the portal's own pages send."""
    return str(browser.cookies["csrftoken"].value)


def test_people_see_what_waits_in_their_tiers_and_nothing_else(
    api: Api, run: str, browser: Client, rosa: User, clara: User
) -> None:
    small = pay(api, run, 500, key="1").json()["approval"]
    large = pay(api, run, 5000, key="2").json()["approval"]
    seen = {}
    for person in (rosa, clara, factories.person("susi", Groups.SUPERVISORS)):
        browser.force_login(person)
        body = shown(browser.get("/api/v1/approvals"), 200, ApprovalSerializer)
        seen[person.username] = [approval["id"] for approval in body]
    assert seen == {"rosa": [small, large], "clara": [], "susi": [small]}


def test_a_person_votes_from_the_portals_own_pages(
    api: Api, run: str, browser: Client, rosa: User
) -> None:
    approval = pay(api, run, 500).json()["approval"]
    browser.force_login(rosa)
    body = vote(browser, approval, **{"X-CSRFToken": csrf(browser)})
    assert body.status_code == 201
    ensure_declared(ApprovalSerializer(), body.json())
    assert body.json()["status"] == "approved"
    assert Vote.objects.get().voter == rosa
    assert Action.objects.get().status == "ready"
    again = vote(browser, approval, **{"X-CSRFToken": csrf(browser)})
    refused(again, 409, "approval_already_decided")


def test_a_vote_from_elsewhere_is_refused(api: Api, run: str, browser: Client, rosa: User) -> None:
    approval = pay(api, run, 500).json()["approval"]
    browser.force_login(rosa)
    refused(vote(browser, approval), 403, "permission_denied")
    forged = {"X-CSRFToken": "x" * 32}
    refused(vote(browser, approval, **forged), 403, "permission_denied")
    assert not Vote.objects.exists()
    assert Action.objects.get().status == "waiting"


def test_people_are_refused_as_on_the_pages(
    api: Api, run: str, rosa: User, clara: User, olga: User, governed: Governed
) -> None:
    approval = pay(api, run, 500).json()["approval"]
    client = Client()
    refused(vote(client, approval), 403, "not_authenticated")
    client.force_login(clara)
    refused(vote(client, approval), 403, "not_an_approver")
    client.force_login(olga)
    refused(vote(client, approval), 403, "approval_for_own_agent")
    client.force_login(rosa)
    refused(vote(client, uuid7()), 404, "not_found")
    refused(vote(client, approval, "perhaps"), 400, "invalid_input")
    path = f"/api/v1/approvals/{approval}/votes"
    for body in ({"answer": "approve"}, {"answer": "approve", "reason": "  "}):
        refused(client.post(path, body, "application/json"), 400, "invalid_input")
    assert not Vote.objects.exists()
    assert governed.toolbox.effects == []


def test_an_agents_token_opens_nothing_for_people(api: Api, run: str) -> None:
    approval = pay(api, run, 500).json()["approval"]
    refused(api.get("approvals"), 403, "not_authenticated")
    answer = {"answer": "approve", "reason": "Trust me."}
    refused(api.post(f"approvals/{approval}/votes", answer), 403, "not_authenticated")
    assert not Vote.objects.exists()


def test_a_persons_session_opens_nothing_for_agents(
    run: str, browser: Client, admin_user: User, governed: Governed
) -> None:
    browser.force_login(admin_user)
    headers = {"X-CSRFToken": csrf(browser), "Idempotency-Key": "k"}
    for path in ("tools", f"runs/{run}"):
        refused(browser.get(f"/api/v1/{path}"), 401, "invalid_token")
    body = {"run": run, "tool": "toolbox.pay", "arguments": PAY}
    for path, given in (("actions", body), ("runs", RUN), (f"runs/{run}/close", {"outcome": "x"})):
        response = browser.post(
            f"/api/v1/{path}", json.dumps(given), "application/json", headers=headers
        )
        refused(response, 401, "invalid_token")
    assert nothing_done(governed)
    assert Run.objects.get().status == "open"


# -- What is published about it ----------------------------------------------------------------


def routes() -> set[str]:
    """The API's paths as its URL patterns have them."""
    found = set()
    for pattern in get_resolver().url_patterns:
        if isinstance(pattern, URLResolver) and str(pattern.pattern) == "api/v1/":
            found |= {f"/api/v1/{child.pattern}" for child in pattern.url_patterns}
    return {re.sub(r"<(uuid|slug):(\w+)>", r"{\2}", path) for path in found}


def test_the_description_names_every_path() -> None:
    client = Client()
    as_yaml = yaml.safe_load(client.get("/api/schema/").content)
    as_json = client.get("/api/schema/?format=json").json()
    assert as_yaml == as_json
    assert as_json["openapi"].startswith("3.1")
    assert set(as_json["paths"]) == routes()
    operations = [
        operation["operationId"]
        for path in as_json["paths"].values()
        for operation in path.values()
    ]
    assert len(operations) == len(set(operations)) == 17
    schemes = as_json["components"]["securitySchemes"]
    assert schemes["agentToken"] == {"type": "http", "scheme": "bearer", "bearerFormat": "at+jwt"}


def test_the_description_can_be_read_by_people() -> None:
    response = Client().get("/api/docs/")
    assert response.status_code == 200
    assert b"swagger" in response.content


# -- What it costs -----------------------------------------------------------------------------


def queries_of_a_call(api: Api, run: str) -> int:
    pay(api, run, key=str(uuid7()))
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert pay(api, run, key=str(uuid7())).status_code == 201
    return len(queries)


def many_more(governed: Governed, olga: User) -> None:
    """60 policies, 40 tools and 20 agents, each with a role and a grant of its own."""
    prod = governed.identity.environment
    for number in range(40):
        define_tool(governed.system, f"pay{number}", actor=SYSTEM, **TOOLS["pay"])
    for number in range(20):
        other = factories.identity(f"otto{number}", owner=olga, environment=prod)
        role = grants.create_role(f"role{number}", actor=SYSTEM, title="Role")
        for identity in (other, governed.identity):
            grants.add_member(role, identity, actor=SYSTEM)
        grants.grant(role, governed.tool(f"pay{number}"), Tool.Access.WRITE, actor=SYSTEM)
    texts = {
        f"more_{number}": f'@id("more-{number}") @reason("No.") forbid(principal, '
        f'action == Action::"toolbox.pay", resource) when {{ context.time.hour > {24 + number} }};'
        for number in range(60)
    }
    factories.publish(**texts)


def test_a_call_takes_as_many_queries_however_much_there_is(
    api: Api, run: str, governed: Governed, olga: User
) -> None:
    before = queries_of_a_call(api, run)
    many_more(governed, olga)
    assert queries_of_a_call(api, run) == before
    assert Event.objects.filter(type="decision.made").count() == 4
