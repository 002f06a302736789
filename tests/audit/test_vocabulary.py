"""Each app declares what it records; one long day at the portal writes all of it."""

import time

import pytest
from django.conf import settings
from joserfc import jwt
from joserfc.jwk import ECKey

from accounts.models import User
from actions.models import Attempt
from actions.services import resuming, runs
from agents.models import Halt
from agents.services import credentials, halts, lifecycle
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, settle_due
from audit.models import Event
from audit.vocabulary import declared
from common.actors import SYSTEM, Actor
from common.ids import uuid7
from policies.models import Policy
from policies.services import grants, releases
from tests.factories import Governed
from tests.toolbox import TOOLS
from tools.connectors.base import Refused, Unanswered
from tools.models import Tool
from tools.services.defining import define_tool, reinstate_tool, withdraw_tool

pytestmark = pytest.mark.django_db


def an_agent_gets_a_key_and_a_token(governed: Governed, key: ECKey) -> None:
    identity = governed.identity
    code = credentials.issue_enrolment_code(identity.pk, actor=SYSTEM)

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

    credentials.enrol(code=code, jwk=key.as_dict(private=False), proof=assertion())
    credentials.issue_token(assertion=assertion(), scope="tools")


def an_agent_is_stopped_in_every_way(governed: Governed) -> None:
    identity = governed.identity
    halt = halts.place_halt(Halt.Kind.AGENT, actor=SYSTEM, target="tilda", reason="Look into it.")
    halts.lift_halt(halt.pk, actor=SYSTEM, reason="All is well.")
    credentials.revoke_key(identity.keys.get().pk, actor=SYSTEM, reason="It leaked.")
    lifecycle.suspend_identity(identity.pk, actor=SYSTEM, reason="A pause.")
    lifecycle.resume_identity(identity.pk, actor=SYSTEM, reason="It goes on.")
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


def rules_are_published_and_rejected(olga: User, clara: User) -> None:
    policy = Policy.objects.get(slug="never-wipe")
    for enabled in (False, True):
        releases.switch_policy(policy.pk, actor=SYSTEM, enabled=enabled, reason="To see.")
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
    resuming.resume(approved.pk)
    governed.pay(run, 600)
    request = ApprovalRequest.objects.pending().get()
    settle_due(now=request.expires_at)
    request.refresh_from_db()
    settle_due(now=request.expires_at)
    governed.pay(run, 700)
    runs.close_run(run.pk, actor=SYSTEM, identity_id=governed.identity.pk, outcome="Done.")


def calls_go_wrong(governed: Governed) -> None:
    run = governed.run()
    governed.toolbox.fail_with = [Refused("No."), Unanswered("Silence.")]
    governed.pay(run)
    governed.propose(run, "toolbox.mail", {"to": "x"})
    governed.propose(run, "toolbox.wipe", {"id": "a"})
    assert set(Attempt.objects.values_list("status", flat=True)) >= {"failed", "unknown"}


def test_every_declared_event_is_written_by_some_command(
    governed: Governed, tiers: dict[str, Tier], olga: User, clara: User, rosa: User, key: ECKey
) -> None:
    supervisor = tiers["supervisor"]
    supervisor.on_timeout, supervisor.escalate_to = Tier.OnTimeout.ESCALATE, tiers["dual"]
    supervisor.save()
    an_agent_gets_a_key_and_a_token(governed, key)
    tools_and_grants_change(governed)
    rules_are_published_and_rejected(olga, clara)
    people_are_asked(governed, rosa)
    calls_go_wrong(governed)
    an_agent_is_stopped_in_every_way(governed)
    written = set(Event.objects.values_list("type", flat=True))
    assert written == set(declared())
