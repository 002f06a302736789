"""People decide: who may, how many it takes, and what follows."""

import pytest
from django.db import IntegrityError
from django.utils import timezone

from accounts.models import Groups, User
from approvals import handlers
from approvals.errors import (
    AlreadyVoted,
    ApprovalAlreadySpent,
    ApprovalNotGiven,
    NotAnApprover,
    OwnAgent,
    OwnRequest,
    RequestAlreadyDecided,
    RequestExpired,
    UnknownTier,
)
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import (
    NewApprovalRequest,
    cast_vote,
    ensure_tier,
    expire_overdue,
    open_request,
    spend,
    tier_terms,
    withdraw,
)
from audit.models import Event
from audit.services.recorder import Subject
from common.actors import SYSTEM, Actor
from common.canonical import digest
from common.errors import NotFound, ReasonRequired
from common.ids import uuid7
from tests import factories
from tests.approvals.questions import (
    AGENT,
    KIND,
    Outcomes,
    approve,
    ask,
    history,
    reject,
    stored,
)

pytestmark = pytest.mark.django_db


def assert_undecided(request: ApprovalRequest, told: Outcomes, *, votes: int = 0) -> None:
    now = stored(request)
    assert (now.status, now.decided_at, now.spent_at) == ("pending", None, None)
    assert request.votes.count() == votes
    assert history() == ["approval.requested", *["approval.voted"] * votes]
    assert told.told == []


def test_a_question_shows_what_is_asked_and_how_long_there_is(told: Outcomes) -> None:
    request = ask("dual")
    assert request.snapshot_digest == digest({"amount": 5})
    assert (request.quorum, request.status, request.requester_label) == (2, "pending", "tilda.prod")
    assert (request.expires_at - request.opened_at).total_seconds() == 24 * 3600
    event = Event.objects.get(type="approval.requested")
    assert event.details == {
        "approval": str(request.pk),
        "tier": "dual",
        "quorum": 2,
        "expires_at": request.expires_at.isoformat(),
        "digest": request.snapshot_digest,
        "question": request.title,
        "shown": {"amount": 5},
    }
    assert (event.subject_kind, event.subject_id) == ("tests.thing", request.subject_id)


def test_a_question_without_a_consequence_is_a_defect(tiers: dict[str, Tier]) -> None:
    assert "tests.nobody" not in handlers.handled_kinds()
    question = NewApprovalRequest(
        kind="tests.nobody",
        title="?",
        subject=Subject("tests.thing", "1", "thing"),
        tier=tier_terms("dual"),
        snapshot={},
    )
    with pytest.raises(KeyError):
        open_request(question, actor=AGENT)
    assert not ApprovalRequest.objects.exists()
    with pytest.raises(UnknownTier):
        tier_terms("boss")


def test_a_kind_has_one_consequence(told: Outcomes) -> None:
    with pytest.raises(ValueError, match="already has a handler"):
        handlers.on_resolved(KIND, Outcomes())


def test_one_person_is_enough_for_a_quorum_of_one(told: Outcomes, rosa: User) -> None:
    request = ask("supervisor")
    approve(request, rosa, "  I know the customer. ")
    decided = stored(request)
    assert decided.status == "approved"
    assert decided.decided_at is not None
    vote = Vote.objects.get()
    assert (vote.voter, vote.reason, vote.tier_id) == (rosa, "I know the customer.", "supervisor")
    assert vote.snapshot_digest == request.snapshot_digest
    assert told.told == [(request.pk, "approved", "rosa")]
    assert history() == ["approval.requested", "approval.voted", "approval.approved"]


def test_a_quorum_of_two_takes_two_people(told: Outcomes, rosa: User, ruben: User) -> None:
    request = ask("dual")
    approve(request, rosa)
    assert_undecided(request, told, votes=1)
    approve(request, ruben)
    assert stored(request).status == "approved"
    assert told.told == [(request.pk, "approved", "ruben")]
    assert Event.objects.get(type="approval.approved").details == {
        "approval": str(request.pk),
        "tier": "dual",
        "votes": 2,
    }


def test_one_rejection_rejects_whatever_others_said(
    told: Outcomes, rosa: User, ruben: User
) -> None:
    request = ask("dual")
    approve(request, rosa)
    reject(request, ruben, "Not this customer.")
    assert stored(request).status == "rejected"
    assert told.told == [(request.pk, "rejected", "ruben")]
    voted = Event.objects.filter(type="approval.voted").latest("id")
    assert voted.details == {
        "answer": "reject",
        "reason": "Not this customer.",
        "tier": "dual",
        "factor": "",
        "approval": str(request.pk),
    }


def test_nobody_decides_their_own_request(told: Outcomes, rosa: User) -> None:
    request = ask(by=Actor.from_user(rosa))
    for answer in (approve, reject):
        with pytest.raises(OwnRequest):
            answer(request, rosa)
    assert_undecided(request, told)


def test_an_owner_does_not_sign_unless_the_tier_lets_them(
    told: Outcomes, olga: User, tiers: dict[str, Tier]
) -> None:
    request = ask(answerable=(olga.pk,))
    with pytest.raises(OwnAgent):
        approve(request, olga)
    assert_undecided(request, told)
    Tier.objects.filter(slug="supervisor").update(owner_may_sign=True)
    approve(request, olga)
    assert stored(request).status == "approved"


def test_superusers_are_bound_by_every_rule(told: Outcomes, admin_user: User, rosa: User) -> None:
    own = ask(by=Actor.from_user(admin_user))
    for_own_agent = ask(answerable=(admin_user.pk,))
    outside = ask()
    with pytest.raises(OwnRequest):
        approve(own, admin_user)
    with pytest.raises(OwnAgent):
        approve(for_own_agent, admin_user)
    admin_user.groups.clear()
    with pytest.raises(NotAnApprover):
        approve(outside, admin_user)
    assert not Vote.objects.exists()
    assert not ApprovalRequest.objects.exclude(status="pending").exists()


def test_who_is_not_in_the_tiers_group_does_not_decide(told: Outcomes, sam: User) -> None:
    supervisor = factories.person("susi", Groups.SUPERVISORS)
    request = ask("manager")
    for person in (sam, supervisor):
        with pytest.raises(NotAnApprover):
            approve(request, person)
    assert_undecided(request, told)


def test_who_has_left_does_not_decide(told: Outcomes, rosa: User) -> None:
    request = ask()
    rosa.is_active = False
    rosa.save()
    with pytest.raises(NotAnApprover):
        approve(request, rosa)
    assert_undecided(request, told)


@pytest.mark.parametrize("kind", ["agent", "system"])
def test_only_people_decide(told: Outcomes, rosa: User, kind: str) -> None:
    request = ask()
    pretender = Actor(kind, str(rosa.pk), "rosa")  # type: ignore[arg-type]
    nobody = Actor("human", "0", "nobody")
    for actor in (pretender, SYSTEM, AGENT, nobody):
        with pytest.raises(NotAnApprover):
            cast_vote(request.pk, actor=actor, answer=Vote.Answer.APPROVE, reason="Fine.")
    assert_undecided(request, told)


def test_nobody_votes_twice_or_thinks_again(told: Outcomes, rosa: User) -> None:
    request = ask("dual")
    approve(request, rosa)
    for answer in (approve, reject):
        with pytest.raises(AlreadyVoted):
            answer(request, rosa)
    assert_undecided(request, told, votes=1)


def test_nobody_votes_on_what_has_been_decided(told: Outcomes, rosa: User, ruben: User) -> None:
    approved, rejected, withdrawn, expired = ask(), ask(), ask(), ask()
    approve(approved, rosa)
    reject(rejected, rosa)
    withdraw(withdrawn.pk, actor=AGENT, reason="No longer needed.")
    expire_overdue(now=expired.expires_at)
    before = history()
    for request in (approved, rejected, withdrawn, expired):
        for answer in (approve, reject):
            with pytest.raises(RequestAlreadyDecided):
                answer(request, ruben)
    statuses = [stored(request).status for request in (approved, rejected, withdrawn, expired)]
    assert statuses == ["approved", "rejected", "withdrawn", "expired"]
    assert history() == before


def test_nobody_votes_after_the_time_is_up_even_before_it_is_settled(
    told: Outcomes, rosa: User
) -> None:
    request = ask()
    ApprovalRequest.objects.filter(pk=request.pk).update(expires_at=timezone.now())
    for answer in (approve, reject):
        with pytest.raises(RequestExpired):
            answer(request, rosa)
    assert_undecided(request, told)


@pytest.mark.parametrize("reason", ["", "  ", "\n\t"])
def test_a_vote_says_why(told: Outcomes, rosa: User, reason: str) -> None:
    request = ask()
    with pytest.raises(ReasonRequired):
        approve(request, rosa, reason)
    assert_undecided(request, told)


def test_a_question_that_does_not_exist_is_not_answered(told: Outcomes, rosa: User) -> None:
    actor = Actor.from_user(rosa)
    with pytest.raises(NotFound):
        cast_vote(uuid7(), actor=actor, answer=Vote.Answer.APPROVE, reason="Fine.")
    with pytest.raises(NotFound):
        withdraw(uuid7(), actor=actor, reason="Gone.")
    with pytest.raises(NotFound):
        spend(uuid7(), actor=actor, action="x")
    assert history() == []


def test_a_consequence_that_fails_takes_the_vote_with_it(told: Outcomes, rosa: User) -> None:
    request = ask()
    told.refuse_with = IntegrityError("not now")
    with pytest.raises(IntegrityError):
        approve(request, rosa)
    assert_undecided(request, told)
    told.refuse_with = None
    approve(request, rosa)
    assert stored(request).status == "approved"


def test_a_question_is_taken_back_once(told: Outcomes, rosa: User) -> None:
    request = ask()
    withdraw(request.pk, actor=AGENT, reason="The run was closed.")
    taken_back = stored(request)
    assert taken_back.status == "withdrawn"
    assert taken_back.decided_at is not None
    with pytest.raises(RequestAlreadyDecided):
        withdraw(request.pk, actor=AGENT, reason="Again.")
    assert history() == ["approval.requested", "approval.withdrawn"]
    assert told.told == []


def test_an_approval_is_spent_once(told: Outcomes, rosa: User) -> None:
    request = ask()
    approve(request, rosa)
    spend(request.pk, actor=SYSTEM, action="pay")
    spent_at = stored(request).spent_at
    assert spent_at is not None
    with pytest.raises(ApprovalAlreadySpent):
        spend(request.pk, actor=SYSTEM, action="pay again")
    assert stored(request).spent_at == spent_at
    assert history().count("approval.spent") == 1


def test_only_an_approval_is_spent(told: Outcomes, rosa: User) -> None:
    pending, rejected, withdrawn = ask(), ask(), ask()
    reject(rejected, rosa)
    withdraw(withdrawn.pk, actor=AGENT, reason="Over.")
    for request in (pending, rejected, withdrawn):
        with pytest.raises(ApprovalNotGiven):
            spend(request.pk, actor=SYSTEM, action="pay")
    expire_overdue(now=pending.expires_at)
    with pytest.raises(ApprovalNotGiven):
        spend(pending.pk, actor=SYSTEM, action="pay")
    assert not ApprovalRequest.objects.exclude(spent_at=None).exists()
    assert "approval.spent" not in history()


def test_people_see_what_waits_in_their_tiers(told: Outcomes, rosa: User, clara: User) -> None:
    susi = factories.person("susi", Groups.SUPERVISORS)
    small, large, decided = ask("supervisor"), ask("dual"), ask("supervisor")
    approve(decided, rosa)

    def waiting(user: User) -> set[ApprovalRequest]:
        return set(ApprovalRequest.objects.pending().for_approver(user))

    assert waiting(rosa) == {small, large}
    assert waiting(susi) == {small}
    assert waiting(clara) == set()
    assert ApprovalRequest.objects.about("tests.thing", small.subject_id).get() == small
    assert not ApprovalRequest.objects.about("tests.thing", "nothing").exists()


def test_a_tier_is_made_once(tiers: dict[str, Tier]) -> None:
    again = ensure_tier("dual", actor=SYSTEM, title="Other", rank=99, quorum=9, groups=[])
    assert again == tiers["dual"]
    assert (again.rank, again.quorum, again.groups.count()) == (30, 2, 1)
