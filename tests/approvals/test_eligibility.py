"""Who may decide is asked when they vote, when a request is resolved, and when it is used."""

from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts.models import FormerName, Groups, User
from accounts.names import mail_key, name_key
from actions.models import Action
from actions.services import redecision
from agents.models import FormerPerson
from agents.services.sponsors import change_sponsor
from approvals.eligibility import count_waiting_for
from approvals.errors import ApprovalNotGiven, OwnAgent
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, flag_undecidable, spend
from audit.models import Event
from common.actors import SYSTEM, Actor, acting
from common.ids import uuid7
from tests import factories
from tests.factories import Governed

pytestmark = pytest.mark.django_db


def asked(governed: Governed, amount: int = 500, **given: Any) -> ApprovalRequest:
    governed.pay(governed.run(**given), amount)
    return ApprovalRequest.objects.latest("opened_at")


def vote(request: ApprovalRequest, person: User, answer: str = "approve") -> None:
    cast_vote(request.pk, actor=Actor.from_user(person), answer=Vote.Answer(answer), reason="Seen.")
    request.refresh_from_db()


def lose(person: User, how: str) -> None:
    with transaction.atomic(), acting(SYSTEM):
        if how == "deactivated":
            person.is_active = False
            person.save()
        elif how == "left the staff":
            person.is_staff = False
            person.save()
        elif how == "left the group":
            person.groups.clear()


@pytest.mark.parametrize("how", ["deactivated", "left the group", "left the staff"])
def test_a_vote_of_somebody_who_may_no_longer_decide_is_struck(
    governed: Governed, rosa: User, ruben: User, how: str
) -> None:
    request = asked(governed, 5000)
    vote(request, rosa)
    lose(rosa, how)
    vote(request, ruben)
    assert request.status == "pending"
    struck = Vote.objects.get(voter=rosa)
    assert (struck.struck_because, struck.struck_at is not None) == ("not_an_approver", True)
    assert Event.objects.filter(type="approval.vote_struck").count() == 1
    # The request goes on: another manager settles it.
    vote(request, factories.person("mona", Groups.MANAGERS))
    assert request.status == "approved"


def test_who_comes_back_may_vote_again(governed: Governed, rosa: User, ruben: User) -> None:
    request = asked(governed, 5000)
    vote(request, rosa)
    groups = list(rosa.groups.all())
    lose(rosa, "left the group")
    vote(request, ruben)
    rosa.groups.set(groups)
    vote(request, rosa)
    assert request.status == "approved"


@pytest.mark.parametrize(
    "how", ["deactivated", "left the group", "left the staff", "became the owner"]
)
def test_an_approval_whose_voter_is_lost_before_it_is_used_is_asked_again(
    governed: Governed, rosa: User, how: str
) -> None:
    request = asked(governed)
    vote(request, rosa)
    if how == "became the owner":
        with acting(SYSTEM), transaction.atomic():
            agent = governed.identity.agent
            agent.owner = rosa
            agent.save()
    lose(rosa, how)
    action = redecision.resume(Action.objects.get().pk)
    assert action is not None
    assert (action.status, governed.toolbox.effects) == ("waiting", [])
    request.refresh_from_db()
    assert (request.status, request.spent_at) == ("approved", None)
    assert ApprovalRequest.objects.pending().count() == 1


def test_who_became_involved_since_does_not_approve(governed: Governed, rosa: User) -> None:
    request = asked(governed)
    change_sponsor(governed.identity.agent_id, actor=SYSTEM, sponsor=rosa, reason="A new one.")
    with pytest.raises(OwnAgent):
        vote(request, rosa)
    assert not Vote.objects.exists()


def test_sponsors_of_the_last_ninety_days_do_not_approve(governed: Governed, rosa: User) -> None:
    agent = governed.identity.agent
    for name in ("rosa", "one", "two"):
        person = rosa if name == "rosa" else factories.person(name)
        change_sponsor(agent.pk, actor=SYSTEM, sponsor=person, reason="Handing over.")
    request = asked(governed)
    with pytest.raises(OwnAgent):
        vote(request, rosa)
    FormerPerson.objects.filter(person=rosa).update(until=timezone.now() - timedelta(days=91))
    with acting(SYSTEM), transaction.atomic():
        agent.refresh_from_db()
        agent.title = "Another generation"
        agent.save()
    later = asked(governed)
    vote(later, rosa)
    assert later.status == "approved"


@pytest.mark.parametrize(
    "named",
    [
        "rosa", "Rosa", " ROSA ", "\uff52\uff4f\uff53\uff41", "ros\u0430", "ro\u200bsa",
        "rosa@example.org", "Rosa@Example.ORG", "Rosa Luchs", "rosa  luchs",
    ],
)  # fmt: skip
def test_whoever_the_work_is_for_is_recognised(governed: Governed, rosa: User, named: str) -> None:
    rosa.first_name, rosa.last_name = "Rosa", "Luchs"
    rosa.save()
    request = asked(governed, initiator=named)
    with pytest.raises(OwnAgent):
        vote(request, rosa)
    assert request.status == "pending"


@pytest.mark.parametrize("how", ["user name", "full name", "mail", "another mail", "sign-on"])
def test_also_by_a_name_that_they_had_until_lately(
    governed: Governed, rosa: User, how: str
) -> None:
    rosa.first_name, rosa.last_name = "Rosa", "Luchs"
    rosa.save()
    further = EmailAddress.objects.create(user=rosa, email="r.l@example.org", verified=True)
    sign_on = SocialAccount.objects.create(user=rosa, provider="sso", uid="248289761001")
    named = {
        "user name": "rosa",
        "full name": "Rosa Luchs",
        "mail": "rosa@example.org",
        "another mail": "R.L@example.org",
        "sign-on": "248289761001",
    }[how]
    rosa.username, rosa.last_name, rosa.email = "rosalind", "Wolf", "wolf@example.org"
    rosa.save()
    further.delete()
    sign_on.delete()
    rosa = User.objects.get(pk=rosa.pk)
    request = asked(governed, initiator=named)
    with pytest.raises(OwnAgent):
        vote(request, rosa)
    assert not Vote.objects.exists()
    FormerName.objects.update(until=timezone.now() - timedelta(days=91))
    later = asked(governed, initiator=named)
    vote(later, User.objects.get(pk=rosa.pk))
    assert later.status == "approved"


def test_with_an_account_its_former_names_go(rosa: User) -> None:
    EmailAddress.objects.create(user=rosa, email="r.l@example.org", verified=True)
    SocialAccount.objects.create(user=rosa, provider="sso", uid="248289761001")
    rosa.username = "rosalind"
    rosa.save()
    with acting(SYSTEM), transaction.atomic():
        rosa.delete()
    assert not FormerName.objects.exists()


def test_also_by_a_name_that_they_got_since(governed: Governed, rosa: User) -> None:
    request = asked(governed, initiator="rosalind")
    rosa.username = "Rosalind"
    rosa.save()
    with pytest.raises(OwnAgent):
        vote(request, rosa)


@pytest.mark.parametrize(
    ("name", "mail"),
    [
        ("ROSA", ""), ("ros\u0430", ""), ("\uff52osa", ""), ("ro\u200bsa", ""),
        ("else", "rosa@example.org"), ("else", "ROSA@example.org"),
    ],
)  # fmt: skip
def test_nobody_is_called_like_somebody_else(rosa: User, name: str, mail: str) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create_user(name, mail, "pw")
    assert User.objects.count() == 1


def test_the_form_for_people_says_so(admin_user: User, rosa: User) -> None:
    client = Client()
    client.force_login(admin_user)
    given = {
        "username": "ros\u0430",
        "password1": "correct-horse-1",
        "password2": "correct-horse-1",
    }
    page = client.post("/admin/accounts/user/add/", {**given, "usable_password": "true"})
    assert "one that looks like it" in page.content.decode()
    assert User.objects.count() == 2


def test_keys_of_names() -> None:
    assert name_key("Straße") == name_key("STRASSE")
    assert name_key("josé") == name_key("jose\u0301")
    assert name_key("sup1") != name_key("supl")
    assert name_key("ann") != name_key("anna")
    assert (mail_key("A@B.c"), mail_key("no address")) == ("a@b.c", "")


# -- what the database keeps -----------------------------------------------------------------------


def raw(sql: str, *values: Any) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, [*values])


def key(pk: Any) -> str:
    return str(pk) if connection.vendor == "postgresql" else pk.hex


def test_without_its_votes_no_request_is_approved(governed: Governed, rosa: User) -> None:
    request = asked(governed, 5000)
    vote(request, rosa)
    now = timezone.now()
    for change in (
        {"status": "approved", "decided_at": now},
        {"status": "rejected", "decided_at": now},
        {"tier": "supervisor"},
        {"quorum": 1},
    ):
        with pytest.raises(IntegrityError), transaction.atomic():
            ApprovalRequest.objects.filter(pk=request.pk).update(**change)
    action = Action.objects.get()
    for status in ("ready", "executing", "succeeded"):
        with pytest.raises(IntegrityError):
            raw("UPDATE actions_action SET status = %s WHERE id = %s", status, key(action.pk))
    request.refresh_from_db()
    assert (request.status, request.tier_id, request.quorum) == ("pending", "dual", 2)


def test_a_request_begins_undecided(governed: Governed, rosa: User) -> None:
    request = asked(governed)
    request.pk, request.status, request.decided_at = None, "approved", timezone.now()
    request._state.adding = True
    request.id = uuid7()
    with pytest.raises(IntegrityError), transaction.atomic():
        request.save()


def test_what_was_refused_is_never_made_ready(governed: Governed, rosa: User) -> None:
    request = asked(governed)
    vote(request, rosa, "reject")
    with pytest.raises(IntegrityError):
        raw("UPDATE actions_action SET status = 'ready' WHERE status = 'rejected'")


def test_an_approval_without_its_people_is_not_spent(governed: Governed, rosa: User) -> None:
    """A vote that was written past the command counts only if its voter may decide."""
    request = asked(governed)
    stranger = factories.person("stranger")
    Vote.objects.create(
        request=request, voter=stranger, tier=request.tier, answer="approve", reason="x",
        snapshot_digest=request.snapshot_digest, cast_at=timezone.now(),
    )  # fmt: skip
    ApprovalRequest.objects.filter(pk=request.pk).update(
        status="approved", decided_at=timezone.now()
    )
    with pytest.raises(ApprovalNotGiven):
        spend(request.pk, actor=SYSTEM, action="x")
    Action.objects.update(status="ready")
    action = redecision.resume(Action.objects.get().pk)
    assert action is not None
    assert (action.status, governed.toolbox.effects) == ("waiting", [])


# -- requests that nobody can decide ---------------------------------------------------------------


def test_a_request_that_nobody_can_decide_says_so(
    governed: Governed, rosa: User, olga: User, admin_user: User
) -> None:
    admin_user.groups.clear()
    request = asked(governed)
    assert flag_undecidable() == 0
    lose(rosa, "deactivated")
    client = Client()
    client.force_login(admin_user)
    home = client.get("/admin/").content.decode()
    page = client.get(f"/admin/approvals/approvalrequest/{request.pk}/change/").content.decode()
    assert "Nobody is left who may decide" in home
    assert "Nobody is left who may decide" in page
    assert flag_undecidable() == 1
    assert flag_undecidable() == 0
    assert Event.objects.filter(type="approval.undecidable").count() == 1
    factories.person("susi", Groups.SUPERVISORS)
    assert flag_undecidable() == 0
    request.refresh_from_db()
    assert request.undecidable_since is None
    assert "Nobody is left who may decide" not in client.get("/admin/").content.decode()


def test_a_quorum_of_two_needs_two(governed: Governed, rosa: User, ruben: User) -> None:
    asked(governed, 5000)
    assert flag_undecidable() == 0
    lose(ruben, "left the group")
    assert flag_undecidable() == 1


def test_home_counts_what_one_may_decide_and_has_not(
    governed: Governed, rosa: User, olga: User
) -> None:
    request = asked(governed, 5000)
    assert (count_waiting_for(rosa), count_waiting_for(olga)) == (1, 0)
    vote(request, rosa)
    assert count_waiting_for(User.objects.get(pk=rosa.pk)) == 0
