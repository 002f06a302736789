"""People let an agent into production, answer for it, and confirm it again and again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.core import mail
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from accounts.models import Environment, User
from agents.directory import directory
from agents.errors import InvalidLifecycleTransition, NoActiveSponsor, NotResponsibleForAgent
from agents.models import Agent, AgentIdentity
from agents.services import lifecycle, recertification, sponsors
from agents.tasks import recertify
from approvals.errors import OwnAgent, OwnRequest, UnknownTier
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import cast_vote, expire_overdue
from audit.models import Event
from common.actors import SYSTEM, Actor
from common.errors import ReasonRequired
from tests import factories
from tests.agents.runtimes import enrolled

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def by_olga(olga: User) -> Actor:
    return Actor.from_user(olga)


@pytest.fixture
def waiting(
    identity: AgentIdentity, staging: Environment, by_olga: Actor, tiers: dict[str, Tier]
) -> AgentIdentity:
    """Tilda in production, stopped and to be resumed by Olga."""
    lifecycle.suspend_identity(identity.pk, actor=by_olga, reason="A pause.")
    return lifecycle.resume_identity(identity.pk, actor=by_olga, reason="It goes on.")


def question() -> ApprovalRequest:
    return ApprovalRequest.objects.pending().get()


def answer(person: User, given: Vote.Answer = Vote.Answer.APPROVE) -> None:
    cast_vote(question().pk, actor=Actor.from_user(person), answer=given, reason="As I see it.")


def usable(identity: AgentIdentity) -> bool:
    return directory.current().identities[identity.client_id].usable


def gone(person: User) -> None:
    person.is_active = False
    person.save()


def test_in_production_other_people_let_it_act(
    waiting: AgentIdentity, olga: User, rosa: User
) -> None:
    assert waiting.status == "pending"
    assert not usable(waiting)
    with pytest.raises((OwnRequest, OwnAgent)):
        answer(olga)
    assert not usable(waiting)
    answer(rosa)
    waiting.refresh_from_db()
    assert waiting.status == "active"
    assert usable(waiting)
    event = Event.objects.get(type="identity.activated")
    assert event.actor_label == "rosa"


def test_an_agent_of_high_risk_needs_two(
    identity: AgentIdentity, by_olga: Actor, tiers: dict[str, Tier], rosa: User, ruben: User
) -> None:
    Agent.objects.update(risk="high")
    lifecycle.suspend_identity(identity.pk, actor=by_olga, reason="A pause.")
    lifecycle.resume_identity(identity.pk, actor=by_olga, reason="It goes on.")
    answer(rosa)
    assert not usable(identity)
    answer(ruben)
    assert usable(identity)


def test_activating_an_agent_asks_for_production_only(
    identity: AgentIdentity,
    staging: Environment,
    by_olga: Actor,
    tiers: dict[str, Tier],
    rosa: User,
) -> None:
    twin = lifecycle.create_identity(identity.agent_id, actor=by_olga, environment=staging)
    lifecycle.suspend(identity.agent_id, actor=by_olga, reason="A pause.")
    lifecycle.activate(identity.agent_id, actor=by_olga, reason="It goes on.")
    assert (usable(identity), usable(twin)) == (False, True)
    answer(rosa)
    assert usable(identity)


def test_a_new_agent_waits_once_it_is_activated(
    prod: Environment, olga: User, by_olga: Actor, tiers: dict[str, Tier], rosa: User
) -> None:
    agent = lifecycle.register_agent(
        "new", actor=by_olga, title="New", purpose="Be new.", owner=olga, sponsor=olga
    )
    identity = lifecycle.create_identity(agent.pk, actor=by_olga, environment=prod)
    assert identity.status == "pending"
    assert not ApprovalRequest.objects.exists()
    enrolled(identity)
    lifecycle.activate(agent.pk, actor=by_olga, reason="Ready.")
    assert question().snapshot["purpose"] == "Be new."
    answer(rosa)
    assert usable(identity)
    other = lifecycle.register_agent(
        "other", actor=by_olga, title="Other", purpose="Be other.", owner=olga, sponsor=olga
    )
    lifecycle.activate(other.pk, actor=by_olga, reason="Ready.")
    lifecycle.create_identity(other.pk, actor=by_olga, environment=prod)
    assert question().title == "Let Other act in prod"


def test_without_tiers_nobody_is_let_in(identity: AgentIdentity, by_olga: Actor) -> None:
    lifecycle.suspend_identity(identity.pk, actor=by_olga, reason="A pause.")
    with pytest.raises(UnknownTier):
        lifecycle.resume_identity(identity.pk, actor=by_olga, reason="It goes on.")
    assert not usable(identity)


@pytest.mark.parametrize("how", ["reject", "expire"])
def test_without_a_yes_it_stays_out(waiting: AgentIdentity, rosa: User, how: str) -> None:
    if how == "reject":
        answer(rosa, Vote.Answer.REJECT)
    else:
        expire_overdue(now=question().expires_at)
    waiting.refresh_from_db()
    assert waiting.status == "suspended"


@pytest.mark.parametrize("meanwhile", ["suspend", "retire", "suspend_identity", "sponsor"])
def test_what_was_stopped_meanwhile_stays_stopped(
    waiting: AgentIdentity, rosa: User, olga: User, meanwhile: str
) -> None:
    if meanwhile == "sponsor":
        gone(olga)
    else:
        step: Callable[..., Any] = getattr(lifecycle, meanwhile)
        pk = waiting.pk if meanwhile == "suspend_identity" else waiting.agent_id
        step(pk, actor=SYSTEM, reason="Stop.")
    if meanwhile == "suspend_identity":
        # Nobody is asked any more: who resumes it asks anew.
        assert not ApprovalRequest.objects.pending().exists()
    else:
        answer(rosa)
    assert not usable(waiting)
    waiting.refresh_from_db()
    assert waiting.status == "suspended"


def test_who_resumes_is_who_asks(waiting: AgentIdentity, rosa: User, ruben: User) -> None:
    """An old question does not let its approver resume alone."""
    first = question()
    rosa.user_permissions.add(Permission.objects.get(codename="manage_every_agent"))
    by_rosa = Actor.from_user(User.objects.get(pk=rosa.pk))
    lifecycle.suspend_identity(waiting.pk, actor=SYSTEM, reason="An incident.")
    lifecycle.resume_identity(waiting.pk, actor=by_rosa, reason="It is over.")
    assert question().pk != first.pk
    assert question().snapshot["reason"] == "It is over."
    with pytest.raises(OwnRequest):
        answer(rosa)
    answer(ruben)
    assert usable(waiting)


def test_who_activates_is_who_asks(waiting: AgentIdentity, rosa: User, ruben: User) -> None:
    first = question()
    rosa.user_permissions.add(Permission.objects.get(codename="manage_every_agent"))
    by_rosa = Actor.from_user(User.objects.get(pk=rosa.pk))
    lifecycle.suspend(waiting.agent_id, actor=SYSTEM, reason="An incident.")
    lifecycle.activate(waiting.agent_id, actor=by_rosa, reason="It is over.")
    assert question().pk != first.pk
    with pytest.raises(OwnRequest):
        answer(rosa)
    answer(ruben)
    assert usable(waiting)


def test_when_a_sponsor_leaves_the_agent_stops_and_managers_are_asked(
    identity: AgentIdentity, olga: User, tiers: dict[str, Tier], rosa: User
) -> None:
    gone(olga)
    # At once, before anything has been written down about it.
    assert not usable(identity)
    assert recertify() == 1
    agent = Agent.objects.get()
    assert agent.status == "suspended"
    identity.refresh_from_db()
    assert identity.epoch == 2
    assert recertify() == 0
    assert question().title == "Become the sponsor of Tilda"
    answer(rosa)
    agent.refresh_from_db()
    assert (agent.sponsor, agent.status) == (rosa, "suspended")
    changed = Event.objects.get(type="agent.sponsor_changed")
    assert (changed.details["sponsor"], changed.details["former"]) == ("rosa", "olga")
    lifecycle.activate(agent.pk, actor=Actor.from_user(rosa), reason="I answer for it.")
    assert question().conflicted_users == sorted([olga.pk, rosa.pk])


def test_after_a_no_somebody_is_asked_again_a_day_later(
    identity: AgentIdentity, olga: User, tiers: dict[str, Tier], rosa: User
) -> None:
    gone(olga)
    recertify()
    answer(rosa, Vote.Answer.REJECT)
    assert recertify() == 0
    assert sponsors.suspend_unsponsored(now=timezone.now() + DAY) == 1
    assert ApprovalRequest.objects.count() == 2
    assert Agent.objects.get().sponsor == olga


def test_a_successor_named_meanwhile_is_kept(
    identity: AgentIdentity, olga: User, sam: User, tiers: dict[str, Tier], rosa: User
) -> None:
    gone(olga)
    recertify()
    sponsors.change_sponsor(identity.agent_id, actor=SYSTEM, sponsor=sam, reason="Sam does.")
    answer(rosa)
    assert Agent.objects.get().sponsor == sam


def test_who_may_name_another_sponsor(
    identity: AgentIdentity, olga: User, sam: User, rosa: User, by_olga: Actor
) -> None:
    events = Event.objects.count()
    for actor, sponsor, refusal in (
        (Actor.from_user(rosa), rosa, NotResponsibleForAgent),
        (by_olga, sam, NoActiveSponsor),
    ):
        if refusal is NoActiveSponsor:
            User.objects.filter(pk=sam.pk).update(is_active=False)
            sponsor.refresh_from_db()
        with pytest.raises(refusal):
            sponsors.change_sponsor(
                identity.agent_id, actor=actor, sponsor=sponsor, reason="Mine now."
            )
    assert (Agent.objects.get().sponsor, Event.objects.count()) == (olga, events)
    lifecycle.retire(identity.agent_id, actor=by_olga, reason="Over.")
    with pytest.raises(InvalidLifecycleTransition):
        sponsors.change_sponsor(identity.agent_id, actor=by_olga, sponsor=rosa, reason="Late.")


def test_an_agent_that_nobody_confirms_is_suspended(identity: AgentIdentity) -> None:
    until = Agent.objects.get().certified_until
    assert until is not None
    recertification.run_recertification(now=until - timedelta(seconds=1))
    assert Agent.objects.get().status == "active"
    assert recertification.run_recertification(now=until) == 1
    assert Agent.objects.get().status == "suspended"
    assert not usable(identity)
    reason = Event.objects.get(type="agent.suspended").details["reason"]
    assert reason == "Nobody confirmed it in time."


def test_people_are_reminded_three_times(
    identity: AgentIdentity,
    olga: User,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    until = Agent.objects.get().certified_until
    assert until is not None
    with django_capture_on_commit_callbacks(execute=True):
        for days in (20, 14, 13, 10, 7, 5, 2, 1, 0.5):
            recertification.run_recertification(now=until - days * DAY)
    assert [message.to for message in mail.outbox] == [["olga@example.org"]] * 3
    assert "Confirm the agent tilda" in mail.outbox[0].subject
    assert Event.objects.filter(type="agent.reminded").count() == 3


def test_confirming_gives_it_time(identity: AgentIdentity, by_olga: Actor, rosa: User) -> None:
    before = Agent.objects.get().certified_until
    assert before is not None
    with pytest.raises(NotResponsibleForAgent):
        recertification.certify(identity.agent_id, actor=Actor.from_user(rosa), reason="Fine.")
    with pytest.raises(ReasonRequired):
        recertification.certify(identity.agent_id, actor=by_olga, reason=" ")
    assert Agent.objects.get().certified_until == before
    after = recertification.certify(
        identity.agent_id, actor=by_olga, reason="Needed."
    ).certified_until
    assert after is not None
    assert after > before
    recertification.run_recertification(now=before)
    assert usable(identity)
    lifecycle.suspend(identity.agent_id, actor=by_olga, reason="A pause.")
    with pytest.raises(InvalidLifecycleTransition):
        recertification.certify(identity.agent_id, actor=by_olga, reason="Needed.")


def test_the_database_keeps_no_active_agent_unconfirmed(identity: AgentIdentity) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Agent.objects.update(certified_until=None)


def test_pages(identity: AgentIdentity, olga: User, rosa: User, tiers: dict[str, Tier]) -> None:
    admin = factories.administrator()
    office = Client()
    office.force_login(admin)
    page = f"/admin/agents/agent/{identity.agent_id}"
    office.post(f"{page}/certify/", {"reason": "Needed."})
    assert Event.objects.filter(type="agent.certified").count() == 1
    office.post(f"{page}/change_sponsor/", {"sponsor": rosa.pk, "reason": "Olga leaves."})
    assert Agent.objects.get().sponsor == rosa
    office.post(f"/admin/agents/agentidentity/{identity.pk}/suspend/", {"reason": "A pause."})
    office.post(f"/admin/agents/agentidentity/{identity.pk}/resume/", {"reason": "Go on."})
    shown = office.get(f"/admin/approvals/approvalrequest/{question().pk}/change/").content
    assert b"Be tested." in shown
    assert b"waiting for approval" in office.get(f"{page}/change/").content
