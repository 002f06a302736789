"""Each app declares what it records; one long day at the portal writes all of it."""

import base64
import time
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command
from django.db.models import Model
from django.test import Client
from django.utils import timezone
from joserfc import jwt
from joserfc.jwk import ECKey

from accounts.models import User
from actions.models import Attempt
from actions.services import recovery, redecision, run_elevations, runs
from agents.directory import directory
from agents.models import AgentKey, Finding, Halt, SigningKey
from agents.services import (
    enrolment,
    federation,
    halts,
    lifecycle,
    recertification,
    signing_keys,
    sponsors,
    token_service,
    user_delegations,
)
from agents.services.findings import Anomaly, escalate_unanswered, report, resolve
from agents.services.limits import ensure_tokens_within
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, expire_overdue, flag_undecidable, set_step_up, withdraw
from audit.event_types import declared
from audit.models import Event
from audit.search import Search
from audit.services import access_log
from audit.services.change_reconciliation import reconcile
from audit.services.recorder import Subject
from audit.services.rejected_requests import record_refused_secret
from common.actors import SYSTEM, Actor
from common.ids import uuid7
from common.rate_limits import TooManyRequests
from policies.models import Policy
from policies.services import elevations, grants, releases
from tests import factories
from tests.audit.log_operations import the_log_is_looked_after, the_log_is_verified
from tests.factories import Governed
from tests.toolbox import TOOLS
from tests.tools.secret_system import shop
from tests.tools.servers import serving
from tests.workflows import workflow_helpers
from tests.workflows.test_failing import MAIL, PAY
from tests.workflows.test_running import SIGNAL, later, signal
from tests.workflows.test_undoing import BACK, CHILD, HAND, TWO
from tools.catalog import catalog
from tools.connectors.base import Call, NoResponse, NotSent, Refused
from tools.invocation import call_tool
from tools.models import Breaker, System, Tool
from tools.services import breakers, secrets
from tools.services.registration import define_tool, reinstate_tool, withdraw_tool
from workflows.models import Rollout
from workflows.services import operator_commands, rollouts, schedules, versions
from workflows.services.schedules import Times

pytestmark = pytest.mark.django_db


def an_agent_gets_a_key_and_a_token(governed: Governed, key: ECKey) -> None:
    identity = governed.identity
    code = enrolment.issue_enrolment_code(identity.pk, actor=SYSTEM)

    def assertion() -> str:
        now = int(time.time())
        claims = {
            "iss": identity.client_id,
            "sub": identity.client_id,
            "aud": settings.ISSUER,
            "iat": now,
            "exp": now + 60,
            "jti": str(uuid7()),
        }
        return jwt.encode({"alg": "ES256", "kid": key.thumbprint()}, claims, key)

    enrolment.enrol(code=code, jwk=key.as_dict(private=False), proof=assertion())
    token_service.issue_token(token_service.TokenRequest(assertion(), scope="tools"))


def keys_and_issuers_change(governed: Governed, olga: User) -> None:
    from tests.agents.runtimes import ec_key, enrolled  # noqa: PLC0415 - only here

    identity = factories.identity("fred", owner=olga, environment=governed.identity.environment)
    runtime = enrolled(identity)
    runtime.replace_key(ec_key())
    token = runtime.ask().json()["access_token"]
    runtime.send("/oauth/revoke", {"token": token})
    trusted = federation.trust_issuer(
        identity.pk,
        actor=SYSTEM,
        issuer="https://ci.example",
        subject="job",
        jwks={"keys": [ec_key().as_dict(private=False)]},
    )
    other = {"keys": [ec_key().as_dict(private=False)]}
    federation.replace_issuer_keys(trusted.pk, actor=SYSTEM, jwks=other)
    federation.trust_issuer_no_more(trusted.pk, actor=SYSTEM, reason="The job is gone.")
    federation.require_dpop(identity.pk, actor=SYSTEM, required=True)
    rule = federation.allow_delegation(
        identity.agent_id,
        actor=SYSTEM,
        acting_agent=governed.identity.agent,
        scope="tools",
        max_depth=1,
        reason="It helps.",
    )
    federation.end_delegation(rule.pk, actor=SYSTEM, reason="It helped.")
    edited(AgentKey.objects.get(status="retiring"), retires_at=timezone.now())
    runtime.ask()
    following = signing_keys.prepare("prod", actor=SYSTEM)
    old = SigningKey.objects.get(status="active", environment="prod")
    ready = timezone.now() - signing_keys.READY_AFTER
    edited(SigningKey.objects.get(pk=following.pk), created_at=ready)
    signing_keys.activate("prod", actor=SYSTEM, reason="It is time.")
    signing_keys.revoke(old.pk, actor=SYSTEM, reason="It is over.")


def a_person_lets_an_agent_act(governed: Governed, olga: User) -> None:
    by_olga = Actor.from_user(olga)
    made, _ = user_delegations.grant_delegation(
        governed.identity.pk, actor=by_olga, scope="tools", minutes=5, reason="It helps."
    )
    user_delegations.revoke_delegation(made.pk, actor=by_olga, reason="It helped.")


def something_is_unusual(governed: Governed) -> None:
    identity = governed.identity
    lifecycle.declare_use(identity.pk, actor=SYSTEM, replicas=2, hours="", reason="So it is.")
    seen = report(Anomaly(identity.pk, Finding.Rule.MINT_RATE, "", {}))
    assert seen is not None
    escalate_unanswered(now=timezone.now() + timedelta(days=1))
    resolve(seen.pk, actor=SYSTEM, reason="A batch.")


def requests_are_too_many(governed: Governed, settings: Any) -> None:
    settings.TOKEN_LIMIT_PER_IDENTITY = 0
    caches["counters"].clear()  # as in a new minute
    with pytest.raises(TooManyRequests):
        ensure_tokens_within(directory.current().identities[governed.identity.client_id])


def people_come_and_go(olga: User) -> None:
    client = Client()
    client.post("/accounts/login/", {"login": olga.username, "password": "wrong"})
    client.force_login(olga)
    client.logout()


def people_answer_for_an_agent(governed: Governed, olga: User, rosa: User) -> None:
    identity = factories.identity("ada", owner=olga, environment=governed.identity.environment)
    by_olga = Actor.from_user(olga)
    lifecycle.suspend_identity(identity.pk, actor=by_olga, reason="A pause.")
    lifecycle.resume_identity(identity.pk, actor=by_olga, reason="It goes on.")
    asked = ApprovalRequest.objects.pending().get()
    yes = Vote.Answer.APPROVE
    cast_vote(asked.pk, actor=Actor.from_user(rosa), answer=yes, reason="Yes.")
    agent = recertification.certify(identity.agent_id, actor=by_olga, reason="It is needed.")
    assert agent.certified_until is not None
    recertification.run_recertification(now=agent.certified_until - timedelta(days=1))
    edited(User.objects.get(pk=olga.pk), is_active=False)
    sponsors.suspend_unsponsored()
    asked = ApprovalRequest.objects.pending().filter(subject_label="ada").get()
    cast_vote(asked.pk, actor=Actor.from_user(rosa), answer=yes, reason="I do.")
    edited(User.objects.get(pk=olga.pk), is_active=True)
    for one in ApprovalRequest.objects.pending():
        withdraw(one.pk, actor=SYSTEM, reason="Olga is back.")


def an_agent_is_stopped_in_every_way(governed: Governed) -> None:
    identity = governed.identity
    halt = halts.place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Look into it.")
    halts.lift_halt(halt.pk, actor=SYSTEM, reason="All is well.")
    enrolment.revoke_key(identity.keys.get().pk, actor=SYSTEM, reason="It leaked.")
    lifecycle.suspend_identity(identity.pk, actor=SYSTEM, reason="A pause.")
    lifecycle.resume_identity(identity.pk, actor=SYSTEM, reason="It goes on.")
    everything = halts.place_halt(Halt.Kind.GLOBAL, actor=SYSTEM, reason="Look into it.")
    halts.ask_to_lift(everything.pk, actor=Actor("human", "1", "olga"), reason="All is well.")
    halts.lift_halt(everything.pk, actor=SYSTEM, reason="All is well.")
    lifecycle.suspend(identity.agent_id, actor=SYSTEM, reason="A pause.")
    lifecycle.retire(identity.agent_id, actor=SYSTEM, reason="No longer needed.")


def tools_and_grants_change(governed: Governed) -> None:
    mail = governed.tool("mail")
    withdraw_tool(mail.pk, actor=SYSTEM, reason="Too much mail.")
    reinstate_tool(mail.pk, actor=SYSTEM, reason="Not enough mail.")
    define_tool(governed.system, "mail", actor=SYSTEM, **TOOLS["mail"], description="By post.")
    grants.revoke(governed.role, governed.system, Tool.Access.READ, actor=SYSTEM)
    grants.remove_member(governed.role, governed.identity, actor=SYSTEM)
    grants.add_member(governed.role, governed.identity, actor=SYSTEM)


def a_system_wants_to_see_a_secret(governed: Governed, monkeypatch: Any) -> None:
    with serving() as server:
        secret = shop(server, governed.identity.environment).secret()
        held = catalog.current()
        asked = Call(str(uuid7()), None, 10)
        call_tool(held, held.tools["shop.order"], {}, environment="prod", call=asked)
    secrets.rotate_secret(secret.pk, actor=SYSTEM, value="another value", reason="It is time.")
    new = base64.b64encode(bytes(32)).decode()
    monkeypatch.setattr(settings, "ENCRYPTION_KEYS", f"{new},{settings.ENCRYPTION_KEYS}")
    call_command("rewrap_keys", stdout=StringIO())
    secrets.withdraw_secret(secret.pk, actor=SYSTEM, reason="It is over.")


def edited(record: Model, **values: Any) -> None:
    """As a test would have it, and in the change log all the same."""
    for name, value in values.items():
        setattr(record, name, value)
    record.save()


def something_goes_round_the_portal() -> None:
    """And until now nothing has: every command's changes are in the change log."""
    assert reconcile(settle=timedelta(seconds=-1)) == 0, [
        event.details for event in Event.objects.filter(type="record.bypass_detected")
    ]
    System.objects.update(title="Round the portal")
    assert reconcile(settle=timedelta(seconds=-1)) >= 1


def an_agent_sends_a_credential(governed: Governed) -> None:
    found = {"kind": "jwt", "where": "/purpose", "fingerprint": "00" * 8}
    by = Subject("agents.agentidentity", str(governed.identity.pk), governed.identity.client_id)
    record_refused_secret(by, found, actor=governed.actor)


def an_agent_is_elevated(governed: Governed, rosa: User, ruben: User) -> None:
    for by_elevation in (True, False):
        grants.mark(
            governed.role,
            governed.system,
            Tool.Access.WRITE,
            actor=SYSTEM,
            by_elevation=by_elevation,
            reason="To see.",
        )
    for answer in (Vote.Answer.APPROVE, Vote.Answer.REJECT):
        elevation = run_elevations.request_elevation(
            governed.caller,
            governed.run().pk,
            actor=governed.actor,
            tools=["toolbox.pay"],
            minutes=5,
            reason="It must be paid.",
        )
        assert elevation.approval_id is not None
        for person in (rosa, ruben)[: 1 if answer == Vote.Answer.REJECT else 2]:
            cast_vote(
                elevation.approval_id, actor=Actor.from_user(person), answer=answer, reason="So."
            )
        if answer == Vote.Answer.APPROVE:
            elevations.end(elevation.pk, actor=SYSTEM, reason="Enough.")


def rules_are_published_and_rejected(olga: User, clara: User) -> None:
    policy = Policy.objects.get(slug="never-wipe")
    for enabled in (False, True):
        releases.switch_policy(policy.pk, actor=SYSTEM, enabled=enabled, reason="To see.")
    given_up = releases.draft_release(actor=SYSTEM)
    releases.discard_draft(given_up.pk, actor=SYSTEM, reason="Another way.")
    for answer in (Vote.Answer.REJECT, Vote.Answer.APPROVE):
        release = releases.draft_release(actor=Actor.from_user(olga))
        request = releases.ask_to_publish(release.pk, actor=Actor.from_user(olga))
        cast_vote(request.pk, actor=Actor.from_user(clara), answer=answer, reason="As I see it.")


def people_are_asked(governed: Governed, rosa: User) -> None:
    """One question approved and carried out, one escalated and expired, one withdrawn."""
    run = governed.run()
    approved = governed.pay(run, 500).action
    assert approved.approval_id is not None
    cast_vote(
        approved.approval_id, actor=Actor.from_user(rosa), answer=Vote.Answer.APPROVE, reason="Yes."
    )
    redecision.resume(approved.pk)
    governed.pay(run, 600)
    request = ApprovalRequest.objects.pending().get()
    expire_overdue(now=request.expires_at)
    request.refresh_from_db()
    expire_overdue(now=request.expires_at)
    governed.pay(run, 700)
    runs.close_run(run.pk, actor=SYSTEM, identity_id=governed.identity.pk, outcome="Done.")


def approvers_come_and_go(governed: Governed, rosa: User, ruben: User) -> None:
    """One who has approved may no longer, and then too few are left."""
    governed.pay(governed.run(), 5000)
    request = ApprovalRequest.objects.pending().get()
    yes = Vote.Answer.APPROVE
    cast_vote(request.pk, actor=Actor.from_user(rosa), answer=yes, reason="Yes.")
    groups = list(rosa.groups.all())
    rosa.groups.clear()
    flag_undecidable()
    cast_vote(request.pk, actor=Actor.from_user(ruben), answer=yes, reason="Yes.")
    rosa.groups.set(groups)
    withdraw(request.pk, actor=SYSTEM, reason="No longer.")


def calls_go_wrong(governed: Governed) -> None:
    run = governed.run()
    governed.toolbox.fail_with = [Refused("No."), NoResponse("Silence.")]
    governed.pay(run)
    governed.propose(run, "toolbox.mail", {"to": "x"})
    governed.propose(run, "toolbox.wipe", {"id": "a"})
    assert set(Attempt.objects.values_list("status", flat=True)) >= {"failed", "unknown"}


def answering(governed: Governed, answer: Callable[[str, Any], Any]) -> None:
    """From now on the toolbox asks this first; what gives None goes the usual way."""
    box = governed.toolbox
    usual = type(box).__call__

    def call(self: Any, tool: str, arguments: Any, asked: Any) -> Any:
        said = answer(tool, arguments)
        return usual(box, tool, arguments, asked) if said is None else said

    box.__class__ = type("Answering", (type(box),), {"__call__": call})


def an_answer_comes_late_and_a_person_says_what_was_done(governed: Governed) -> None:
    def slowly(tool: str, arguments: Any) -> None:
        if tool == "mail" and arguments["to"] == "slow":
            Attempt.objects.filter(status="started").update(lease_until=timezone.now())
            recovery.reap_abandoned()

    answering(governed, slowly)
    action = governed.propose(governed.run(), "toolbox.mail", {"to": "slow"}).action
    assert Attempt.objects.get(action=action).status == "late"
    recovery.resolve_unknown(
        action.pk,
        actor=SYSTEM,
        answer=recovery.Resolution.TOOK_EFFECT,
        reason="The answer is there.",
    )


def a_system_is_asked_what_it_did(governed: Governed) -> None:
    find = {**TOOLS["read_account"], "serves_facts_only": True}
    find["input_schema"] = {"type": "object", "properties": {"key": {"type": "string"}}}
    define_tool(governed.system, "find", actor=SYSTEM, **find)
    define_tool(governed.system, "mail", actor=SYSTEM, **TOOLS["mail"], probe="find")
    factories.publish()
    answering(governed, lambda tool, arguments: {"found": True} if tool == "find" else None)
    governed.toolbox.fail_with = [NoResponse("Silence.")]
    run = later(workflow_helpers.done(governed, MAIL), seconds=30)
    assert run.status == "succeeded"


def an_endpoint_breaks_down_and_comes_back(governed: Governed) -> None:
    workflow_helpers.publish(PAY)
    for _ in range(breakers.FAILURES):
        governed.toolbox.fail_with = [NotSent("Gone.")]
        workflow_helpers.driven(workflow_helpers.begin(governed))
    assert Breaker.objects.get().state == "open"
    Breaker.objects.update(open_until=timezone.now())
    assert workflow_helpers.driven(workflow_helpers.begin(governed)).status == "succeeded"
    assert Breaker.objects.get().state == "closed"


def versions_are_published_and_rejected(olga: User, clara: User) -> None:
    actor = Actor.from_user(olga)
    for answer in (Vote.Answer.REJECT, Vote.Answer.APPROVE):
        version = versions.draft_version(workflow_helpers.text_of(PAY, "trial"), actor=actor)
        request = versions.ask_to_publish(version.pk, actor=actor)
        cast_vote(request.pk, actor=Actor.from_user(clara), answer=answer, reason="As I see it.")
    tried = workflow_helpers.publish(MAIL, slug="trial", share=100)
    rollouts.roll_back(Rollout.objects.latest("pk").pk, actor=SYSTEM, reason="No better.")
    versions.retire_version(tried.pk, actor=SYSTEM, reason="Not needed.")
    workflow_helpers.publish(MAIL, slug="trial", share=100)
    rollout = Rollout.objects.latest("pk")
    rollouts.change_share(rollout.pk, actor=SYSTEM, share=5_000)
    rollouts.complete(rollout.pk, actor=SYSTEM, reason="It does well.")
    for paused in (True, False):
        workflow = workflow_helpers.workflow("trial")
        versions.pause_workflow(workflow.pk, actor=SYSTEM, paused=paused, reason="To see.")


def a_run_waits_is_told_and_succeeds(governed: Governed) -> None:
    run = workflow_helpers.done(governed, SIGNAL)
    assert signal(run, 11)
    assert workflow_helpers.driven(run).status == "succeeded"


def a_run_goes_wrong_and_is_undone_by_order(governed: Governed) -> None:
    """What was to be taken back could not be; then it could."""
    body = f"""\
on_failure: compensate
steps:
  one: {{tool: toolbox.pay, with: {{account: a, amount: 1}}, {BACK % 1}}}
  two: {{needs: [one], wait: {{signal: never, timeout: 1s}}}}
"""
    run = workflow_helpers.done(governed, body)
    governed.toolbox.accounts["back"] = {"frozen": True}
    run = later(run, seconds=5)
    assert run.status == "compensation_failed"
    governed.toolbox.accounts["back"] = {"frozen": False}
    operator_commands.resume(run.pk, actor=SYSTEM, reason="It works again.")
    assert workflow_helpers.driven(run).status == "compensated"


def a_run_is_halted_and_goes_on(governed: Governed) -> None:
    run = workflow_helpers.done(governed, TWO)
    halt = halts.place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Look into it.")
    run = later(run, hours=2)
    assert run.status == "halted"
    halts.lift_halt(halt.pk, actor=SYSTEM, reason="All is well.")
    operator_commands.resume(run.pk, actor=SYSTEM, reason="All is well.")
    assert workflow_helpers.driven(run).status == "succeeded"


def work_is_handed_over(governed: Governed, olga: User) -> None:
    bob = factories.identity("bob", owner=olga, environment=governed.identity.environment)
    grants.add_member(governed.role, bob, actor=SYSTEM)
    workflow_helpers.publish(CHILD, slug="child")
    assert workflow_helpers.done(governed, HAND).status == "succeeded"


def a_schedule_fires_and_is_paused(governed: Governed) -> None:
    workflow_helpers.publish(PAY, slug="nightly")
    schedule = schedules.save_schedule(
        "nightly",
        actor=SYSTEM,
        workflow=workflow_helpers.workflow("nightly"),
        identity=governed.identity,
        times=Times("0 3 * * *"),
        inputs={},
    )
    assert schedules.fire_due(now=timezone.now() + timedelta(days=1)) == 1
    for paused in (True, False):
        schedules.pause_schedule(schedule.pk, actor=SYSTEM, paused=paused, reason="To see.")


def test_every_declared_event_is_written_by_some_command(  # noqa: PLR0915 - a long day
    governed: Governed,
    tiers: dict[str, Tier],
    olga: User,
    clara: User,
    rosa: User,
    ruben: User,
    key: ECKey,
    monkeypatch: pytest.MonkeyPatch,
    settings: Any,
) -> None:
    supervisor = tiers["supervisor"]
    supervisor.on_timeout, supervisor.escalate_to = Tier.OnTimeout.ESCALATE, tiers["dual"]
    supervisor.save()
    an_agent_gets_a_key_and_a_token(governed, key)
    keys_and_issuers_change(governed, olga)
    tools_and_grants_change(governed)
    a_system_wants_to_see_a_secret(governed, monkeypatch)
    an_agent_sends_a_credential(governed)
    an_agent_is_elevated(governed, rosa, ruben)
    rules_are_published_and_rejected(olga, clara)
    people_are_asked(governed, rosa)
    approvers_come_and_go(governed, rosa, ruben)
    calls_go_wrong(governed)
    versions_are_published_and_rejected(olga, clara)
    a_run_waits_is_told_and_succeeds(governed)
    a_run_goes_wrong_and_is_undone_by_order(governed)
    a_run_is_halted_and_goes_on(governed)
    work_is_handed_over(governed, olga)
    a_schedule_fires_and_is_paused(governed)
    an_endpoint_breaks_down_and_comes_back(governed)
    an_answer_comes_late_and_a_person_says_what_was_done(governed)
    a_system_is_asked_what_it_did(governed)
    a_person_lets_an_agent_act(governed, olga)
    something_is_unusual(governed)
    requests_are_too_many(governed, settings)
    set_step_up("dual", actor=SYSTEM, required=True, reason="It signs for much.")
    people_answer_for_an_agent(governed, olga, rosa)
    if governed.identity.agent.status == "active":
        lifecycle.activate(governed.identity.agent_id, actor=SYSTEM, reason="Olga is back.")
    an_agent_is_stopped_in_every_way(governed)
    the_log_is_looked_after(olga, clara, settings, monkeypatch)
    the_log_is_verified()
    access_log.note_search(Search(tool="toolbox.pay"), actor=Actor.from_user(olga))
    access_log.note_report(
        "R1", actor=Actor.from_user(olga), since="2026-01-01", until="2026-02-01"
    )
    people_come_and_go(olga)
    something_goes_round_the_portal()
    written = set(Event.objects.values_list("type", flat=True))
    assert written == set(declared())
