"""Reports from the public issue trackers of comparable products, tried here.

Each test says what is right; its number is the report's. Reports that ask for what is not built
yet are not here: being told of requests by mail (06), office hours of a place (13), tables for
spreadsheets (35), systems that accept now and finish later (46), an authority of one's own (49),
passkeys under several host names (51), trace context that reaches the systems (52).
"""

import json
import time
from datetime import datetime, timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from actions.services import redecision
from actions.services.redecision import resume
from agents.models import AgentIdentity, FederatedCredential
from agents.services import federation
from approvals.errors import RequestExpired
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from audit.services import delivery
from common.actors import SYSTEM, Actor
from common.request_context import client_address
from policies.services import grants
from tests import factories
from tests.agents.runtimes import Runtime, enrolled
from tests.agents.test_revoking import ISSUER, SUBJECT, Bound, Pipeline
from tests.audit.sealed_log import sealed_all
from tests.audit.test_sinks import use
from tests.conftest import Api
from tests.factories import Governed
from tests.reported.helpers import PERMIT, RUN, act, obj, opened, says, tool
from tests.tools.servers import Answer, serving
from tests.tools.test_http_connector import Names, ask
from tests.workflows import workflow_helpers
from tests.workflows.test_schedules import NINE, fires, published, scheduled  # noqa: F401
from tools.connectors.base import Unavailable
from workflows.models import Schedule, WorkflowRun
from workflows.services import schedules
from workflows.services.schedules import Times, fire_due, fire_times

pytestmark = [pytest.mark.django_db, pytest.mark.filterwarnings("ignore:No directory at")]
PARIS = "Europe/Paris"


def yes(question: ApprovalRequest, person: User) -> ApprovalRequest:
    return cast_vote(
        question.pk, actor=Actor.from_user(person), answer=Vote.Answer.APPROVE, reason="Seen."
    )


def carried_out(action_id: Any) -> None:
    resume(action_id)


def test_b01_vote_of_somebody_deactivated_since(
    governed: Governed, api: Api, rosa: User, ruben: User
) -> None:
    act(api, "pay", {"account": "a", "amount": 5000})
    q = ApprovalRequest.objects.get()
    yes(q, rosa)
    rosa.is_active = False
    rosa.save()
    yes(q, ruben)
    q.refresh_from_db()
    assert q.status == "pending"


def test_b03_initiator_in_another_case_does_not_approve(
    governed: Governed, api: Api, rosa: User
) -> None:
    act(api, "pay", {"account": "a", "amount": 500}, opened(api, initiator="Rosa"))
    q = ApprovalRequest.objects.get()
    c = Client()
    c.force_login(rosa)
    r = c.post(
        f"/api/v1/approvals/{q.pk}/votes",
        json.dumps({"answer": "approve", "reason": "x"}),
        content_type="application/json",
    )
    q.refresh_from_db()
    assert (r.status_code, q.status) == (403, "pending")


def test_b05_question_that_nobody_can_answer(
    governed: Governed, api: Api, rosa: User, ruben: User, admin_user: User
) -> None:
    """Of three supervisors two are gone and the third owns the agent."""
    for u in (rosa, ruben):
        u.is_active = False
        u.save()
    admin_user.groups.clear()
    body = act(api, "pay", {"account": "a", "amount": 500}).json()
    c = Client()
    c.force_login(admin_user)
    home = c.get("/admin/").content.decode().lower()
    assert body["status"] != "waiting" or "nobody" in home or "no one" in home


def test_b08_silence_is_no_yes(governed: Governed, api: Api, rosa: User) -> None:
    body = act(api, "pay", {"account": "a", "amount": 500}).json()
    q = ApprovalRequest.objects.get()
    ApprovalRequest.objects.filter(pk=q.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    with pytest.raises(RequestExpired):
        yes(q, rosa)
    expire_overdue()
    assert api.get(f"actions/{body['id']}").json()["status"] == "expired"
    assert governed.toolbox.effects == []


def test_b09_vote_with_other_arguments_is_refused(governed: Governed, api: Api, rosa: User) -> None:
    act(api, "pay", {"account": "a", "amount": 500})
    q = ApprovalRequest.objects.get()
    c = Client()
    c.force_login(rosa)
    vote = {"answer": "approve", "reason": "Less.", "arguments": {"account": "a", "amount": 50}}
    r = c.post(f"/api/v1/approvals/{q.pk}/votes", json.dumps(vote), content_type="application/json")
    q.refresh_from_db()
    assert (r.status_code, q.status) == (400, "pending")


def test_b11_misspelt_member_is_refused(api: Api) -> None:
    r = api.post("runs", {**RUN, "budget": {"max_amount": "1"}})
    assert r.status_code == 400


def test_b12_a_rule_of_time_counts_when_it_is_carried_out(
    governed: Governed, api: Api, rosa: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour = timezone.now().hour
    late = (hour + 3) % 24
    rule = (
        '@id("late") @reason("Not now.") '
        'forbid(principal, action == Action::"toolbox.pay", resource) '
        f"when {{ context.time.hour == {late} }};"
    )
    factories.publish("permit-toolbox", "large-payments", late=rule)
    body = act(api, "pay", {"account": "a", "amount": 500}).json()
    assert body["status"] == "waiting"
    yes(ApprovalRequest.objects.get(), rosa)
    real = timezone.now

    class Later:
        now = staticmethod(lambda: real() + timedelta(hours=3))

    monkeypatch.setattr(redecision, "timezone", Later)
    carried_out(body["id"])
    assert api.get(f"actions/{body['id']}").json()["status"] == "denied"
    assert governed.toolbox.effects == []


@pytest.mark.parametrize("own", [False, True], ids=["mine", "not mine"])
def test_b55_the_101st_question_is_found(
    governed: Governed, api: Api, olga: User, rosa: User, own: bool
) -> None:
    """By Rosa, who may answer all; by Olga, who owns Tilda and may answer the last one alone."""
    run = opened(api)
    for _ in range(100):
        act(api, "pay", {"account": "a", "amount": 500}, run)
    bob = factories.identity(
        "bob",
        owner=rosa if own else factories.person("else"),
        environment=governed.identity.environment,
    )
    grants.add_member(governed.role, bob, actor=SYSTEM)
    last = act(Api(factories.token_for(bob)), "pay", {"account": "a", "amount": 500}).json()
    c = Client()
    c.force_login(olga if own else rosa)
    seen: list[str] = []
    url = "/api/v1/approvals"
    while url:
        r = c.get(url)
        seen += [one["subject_id"] for one in r.json()]
        url = r.headers.get("Link", "").partition("<")[2].partition(">")[0]
    assert last["id"] in seen


@pytest.mark.parametrize("value", [52.520008, 1.23456, 1e-7])
def test_b14_number_finer_than_four_decimals(governed: Governed, api: Api, value: Any) -> None:
    """No rule looks at it."""
    tool(governed, "locate", obj(lat={"type": "number"}))
    body = act(api, "locate", {"lat": value}).json()
    assert body["status"] == "succeeded", body["decision"]
    assert governed.toolbox.effects[-1][1] == {"lat": value}


def test_b16_whole_float_is_an_integer(governed: Governed, api: Api) -> None:
    tool(governed, "count", obj(n={"type": "integer"}))
    assert act(api, "count", {"n": 3.0}).json()["status"] == "succeeded"
    assert governed.toolbox.effects[-1][1] == {"n": 3}


@pytest.mark.parametrize(
    "rule",
    [
        {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        {"type": ["integer", "null"], "default": None},
    ],
)
def test_b18_a_rule_about_an_optional_argument(
    governed: Governed, api: Api, rule: dict[str, Any]
) -> None:
    gate = (
        '@id("gate") @tier("supervisor") @reason("Big.") '
        'forbid(principal, action == Action::"toolbox.opt", resource) '
        "when { context.input has limit && context.input.limit > 100 };"
    )
    tool(
        governed,
        "opt",
        {"type": "object", "properties": {"limit": rule}, "additionalProperties": False},
        {"gate": gate},
    )
    assert act(api, "opt", {}).json()["status"] == "succeeded"
    assert act(api, "opt", {"limit": None}).json()["status"] == "succeeded"
    assert act(api, "opt", {"limit": 500}).json()["status"] == "waiting"


def test_b21_a_date_is_a_date(governed: Governed, api: Api) -> None:
    tool(governed, "book", obj(day={"type": "string", "format": "date"}))
    assert act(api, "book", {"day": "2026-02-29"}).status_code == 400
    assert act(api, "book", {"day": "tomorrow"}).status_code == 400
    assert act(api, "book", {"day": "2026-02-28"}).status_code == 201


@pytest.mark.parametrize(
    ("kind", "value"), [("string", "6011577631711174"), ("integer", 4929421234600821)]
)
def test_b23_an_order_number_that_passes_luhn(
    governed: Governed, api: Api, kind: str, value: Any
) -> None:
    """The schema says what it is: there must be a way to say that it is no card."""
    tool(governed, "order", obj(order_id={"type": kind, "x-identifies": "order"}))
    r = act(api, "order", {"order_id": value})
    assert r.status_code == 201, r.json()


@pytest.mark.parametrize(
    "said", [{"text": "W\x00s\x00l"}, {"text": "half \ud83d"}], ids=["nul", "surrogate"]
)
def test_b24_an_answer_with_odd_text_is_a_done_call(
    governed: Governed, api: Api, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any]
) -> None:
    calls: list[Any] = []
    says(monkeypatch, governed, said, calls)
    body = act(api, "mail", {"to": "x"}).json()
    assert (body["status"], len(calls)) == ("succeeded", 1)


def test_b54_a_mark_in_place_of_a_value_is_not_passed_on_as_the_value(
    governed: Governed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reading step answers with a number that looks like a card's; the next step is given it."""
    calls: list[Any] = []

    def system(self: Any, name: str, args: dict[str, Any], call: Any) -> dict[str, Any]:
        if name == "read_account":
            return {"frozen": False, "ref": "6011577631711174"}
        calls.append(args["account"])
        return {}

    monkeypatch.setattr(type(governed.toolbox), "__call__", system)
    workflow_helpers.done(
        governed,
        """\
steps:
  look: {tool: toolbox.read_account, with: {id: a}}
  pay:
    needs: [look]
    tool: toolbox.pay
    with: {account: "${ steps.look.output.ref }", amount: 5}
    irreversible: out
""",
    )
    assert calls in ([], ["6011577631711174"])


def test_b59_one_word_in_two_forms_of_unicode(governed: Governed, api: Api) -> None:
    rule = (
        '@id("no") @reason("Not there.") '
        'forbid(principal, action == Action::"toolbox.mail", resource) '
        'when { context.input.to == "caf\u00e9" };'
    )
    factories.publish(permit_toolbox=PERMIT, no=rule)
    got = [
        act(api, "mail", {"to": t}).json().get("status", "refused")
        for t in ("caf\u00e9", "cafe\u0301")
    ]
    assert got[0] == "denied"
    assert got[1] in ("denied", "refused")


def test_b54_nor_from_an_agent(governed: Governed, api: Api) -> None:
    """An agent gives back what it was shown."""
    r = act(api, "pay", {"account": "[redacted card_number 6c46ff6a489b078b]", "amount": 1})
    assert r.status_code == 400
    assert governed.toolbox.effects == []


def test_b26_assertion_with_fractional_seconds(identity: AgentIdentity) -> None:
    runtime = enrolled(identity)
    now = time.time()
    assert runtime.ask(runtime.signed(iat=now, exp=now + 60)).status_code == 200


@pytest.mark.parametrize(
    "htu",
    [
        "http://testserver:80/api/v1/tools",
        "http://testserver/api/v1/tools?x=1",
        "HTTP://TESTSERVER/api/v1/tools",
    ],
)
def test_b28_proof_for_the_same_address_spelt_otherwise(identity: AgentIdentity, htu: str) -> None:
    bound = Bound(enrolled(identity))
    assert bound.get(bound.proof(htu=htu)) == 200


def test_b29_an_issuer_that_replaces_its_keys(identity: AgentIdentity) -> None:
    old, new = Pipeline(), Pipeline()
    federation.trust_issuer(
        identity.pk, actor=SYSTEM, issuer=ISSUER, subject=SUBJECT, jwks=old.jwks
    )
    assert Runtime(identity).ask(old.says()).status_code == 200
    trusted = FederatedCredential.objects.get()
    federation.replace_issuer_keys(trusted.pk, actor=SYSTEM, jwks=new.jwks)
    assert Runtime(identity).ask(new.says()).status_code == 200


def test_b30_nul_at_the_token_endpoint(identity: AgentIdentity) -> None:
    r = enrolled(identity)
    r.http.raise_request_exception = False
    got = [
        r.ask("\x00"),
        r.ask(scope="\x00"),
        r.ask(resource="\x00"),
        r.ask(r.signed(iss="\x00", sub="\x00")),
        r.ask(r.signed(jti="a\x00")),
        r.send("/oauth/revoke", {"token": "\x00"}),
    ]
    assert all(one.status_code < 500 for one in got)


def test_b31_lockout_behind_a_proxy_that_adds_ports(settings: LazySettings, rosa: User) -> None:
    settings.BEHIND_PROXY = True
    for n in range(6):
        Client().post(
            "/accounts/login/",
            {"login": "rosa", "password": "wrong"},
            HTTP_X_FORWARDED_FOR=f"203.0.113.7:{50000 + n}",
        )
    r = Client().post(
        "/accounts/login/",
        {"login": "rosa", "password": "pw"},
        HTTP_X_FORWARDED_FOR="203.0.113.7:50999",
    )
    assert r.status_code != 302


def test_b33_two_proxies(settings: LazySettings) -> None:
    """CDN, then nginx: the last entry is the CDN's. There is no setting for how many to trust."""
    settings.BEHIND_PROXY = True
    settings.PROXIES = 2
    request = RequestFactory().get("/", HTTP_X_FORWARDED_FOR="203.0.113.7, 172.64.0.1")
    assert client_address(request) == "203.0.113.7"


def test_b57_a_log_sink_that_takes_nothing_blocks_nobody(
    governed: Governed, api: Api, settings: LazySettings, tmp_path: Path
) -> None:
    file = tmp_path / "log.jsonl"
    use(settings, "cloudevents+syslog://127.0.0.1:1", f"cloudevents+file://{file}")
    assert act(api, "pay", {"account": "a", "amount": 1}).json()["status"] == "succeeded"
    sealed_all()
    delivery.forward_all()
    assert "tool.call.completed" in file.read_text()


def test_b58_who_let_it_go_on_is_recorded(governed: Governed, api: Api, rosa: User) -> None:
    act(api, "pay", {"account": "a", "amount": 500})
    yes(ApprovalRequest.objects.get(), rosa)
    event = Event.objects.get(type="approval.voted")
    assert (event.actor_kind, event.actor_id) == ("human", str(rosa.pk))
    assert event.details["answer"] == "approve"


def test_b36_one_schedule_that_cannot_be_computed_does_not_stop_the_others(
    published: Governed,  # noqa: F811
) -> None:
    bad = scheduled(published, slug="bad", first=NINE - timedelta(minutes=1))
    good = scheduled(published, slug="good")
    Schedule.objects.filter(pk=bad.pk).update(
        timezone="Europe/Nowhere"
    )  # as if a new tzdata had dropped it
    fire_due(now=NINE)
    assert fires(good)


@pytest.mark.parametrize(
    ("cron", "zone", "start", "end", "expected"),
    [
        (
            "30 2 * * *",
            PARIS,
            "2026-03-28T12:00+00:00",
            "2026-03-30T12:00+00:00",
            ["2026-03-29T01:00+00:00", "2026-03-30T00:30+00:00"],
        ),
        (
            "0 14 * * *",
            "America/Los_Angeles",
            "2026-03-07T23:00+00:00",
            "2026-03-09T23:00+00:00",
            ["2026-03-08T21:00+00:00", "2026-03-09T21:00+00:00"],
        ),
    ],
)
def test_b37_spring(cron: str, zone: str, start: str, end: str, expected: list[str]) -> None:
    got = []
    for t in fire_times(cron, zone, after=datetime.fromisoformat(start)):
        if t > datetime.fromisoformat(end):
            break
        got.append(t)
    assert got == [datetime.fromisoformat(x) for x in expected]


def test_b39_another_time_zone_floods_nothing(published: Governed) -> None:  # noqa: F811
    s = scheduled(published, Times("0 9 * * *", catch_up="latest", overlap="allow"))
    schedules.save_schedule(
        s.slug,
        actor=SYSTEM,
        workflow=s.workflow,
        identity=s.identity,
        times=Times("0 9 * * *", timezone="America/New_York", catch_up="all", overlap="allow"),
        inputs={"amount": 1},
    )
    assert fire_due() == 0


def test_b41_a_halted_run_that_keeps_later_ones_away_is_said(
    governed: Governed, admin_user: User
) -> None:
    """Right by design (skip): but people must see the run that stands in the way."""
    workflow_helpers.publish("steps:\n  stop: {tool: toolbox.wipe, with: {id: a}}\n")
    s = scheduled(governed, Times("0 * * * *", overlap="skip"), inputs={})
    fire_due(now=NINE)
    workflow_helpers.driven(WorkflowRun.objects.get())
    for h in range(1, 25):
        fire_due(now=NINE + timedelta(hours=h))
    assert [st for _, st in fires(s)].count("skipped") == 24
    c = Client()
    c.force_login(admin_user)
    assert "wait for a person" in c.get("/admin/").content.decode()


def test_b44_small_amounts_add_up(governed: Governed, api: Api) -> None:
    tool(governed, "tokens", obj(usd={"type": "string"}), amount="double(args.usd)")
    run = opened(api, budget={"amount": "0.0001"})
    got = [act(api, "tokens", {"usd": "0.00004"}, run).json()["status"] for _ in range(10)]
    assert got.count("succeeded") <= 3


def test_b45_retry_after_names_a_date() -> None:
    with serving() as server:
        server.answer = Answer(
            429, b"{}", {"Retry-After": formatdate(time.time() + 120, usegmt=True)}
        )
        with pytest.raises(Unavailable) as caught:
            ask(server.url)
    assert caught.value.retry_after is not None
    assert 100 < caught.value.retry_after <= 121


def test_b47_the_second_address_when_the_first_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    names.answers["shop.example"] = [["::1", "127.0.0.1"]]  # nobody listens on ::1
    with serving() as server:
        assert ask(f"http://shop.example:{server.port}") == {}


def test_b50_nul_in_a_filter(admin_user: User) -> None:
    """Shows on PostgreSQL only."""
    c = Client(raise_request_exception=False)
    c.force_login(admin_user)
    got = {
        name: c.get(reverse(f"admin:{name}_changelist") + "?status__exact=%00").status_code
        for name in ("actions_action", "actions_run", "agents_agent", "workflows_workflowrun")
    }
    assert max(got.values()) < 500, (connection.vendor, got)
