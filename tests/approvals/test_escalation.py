"""When nobody decides in time: denied, or asked of the next tier."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Group

from accounts.models import Groups, User
from approvals import tasks
from approvals.errors import NotAnApprover
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import ensure_tier, expire_overdue
from audit.models import Event
from common.actors import SYSTEM
from tests import factories
from tests.approvals.questions import Outcomes, approve, ask, history, reject, stored
from tests.factories import Governed

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)


@pytest.fixture
def hasty(tiers: dict[str, Tier]) -> Tier:
    """Two supervisors within a minute; after that, two managers."""
    supervisors = Group.objects.get(name=Groups.SUPERVISORS)
    return ensure_tier(
        "hasty",
        actor=SYSTEM,
        title="Hasty",
        rank=11,
        quorum=2,
        groups=[supervisors],
        time_limit_seconds=60,
        escalate_to=tiers["dual"],
    )


def test_what_nobody_decides_in_time_is_denied(told: Outcomes) -> None:
    request = ask("supervisor")
    assert expire_overdue(now=request.expires_at - SECOND) == 0
    assert stored(request).status == "pending"
    assert expire_overdue(now=request.expires_at) == 1
    expired = stored(request)
    assert (expired.status, expired.decided_at) == ("expired", request.expires_at)
    assert told.told == [(request.pk, "expired", "Chancery")]
    assert Event.objects.get(type="approval.expired").details == {
        "approval": str(request.pk),
        "tier": "supervisor",
    }
    assert expire_overdue(now=request.expires_at + SECOND) == 0
    assert history() == ["approval.requested", "approval.expired"]


def test_a_tier_may_pass_the_question_on(told: Outcomes, hasty: Tier) -> None:
    request = ask("hasty")
    moment = request.expires_at + SECOND
    assert expire_overdue(now=moment) == 1
    passed_on = stored(request)
    assert (passed_on.status, passed_on.tier_id, passed_on.quorum) == ("pending", "dual", 2)
    assert passed_on.expires_at == moment + timedelta(days=1)
    assert told.told == []
    event = Event.objects.get(type="approval.escalated")
    assert event.details == {
        "approval": str(request.pk),
        "from_tier": "hasty",
        "to_tier": "dual",
    }
    assert expire_overdue(now=moment + SECOND) == 0
    assert expire_overdue(now=passed_on.expires_at) == 1
    assert stored(request).status == "expired"
    assert told.told == [(request.pk, "expired", "Chancery")]


def test_consent_given_before_an_escalation_does_not_count_after_it(
    told: Outcomes, hasty: Tier, rosa: User, ruben: User, olga: User
) -> None:
    request = ask("hasty")
    approve(request, rosa)
    expire_overdue(now=request.expires_at)
    approve(request, ruben)
    assert stored(request).status == "pending"
    assert told.told == []
    approve(request, olga)
    assert stored(request).status == "approved"
    tiers = Vote.objects.order_by("pk").values_list("voter__username", "tier_id")
    assert list(tiers) == [("rosa", "hasty"), ("ruben", "dual"), ("olga", "dual")]


def test_a_single_rejection_still_rejects_after_an_escalation(
    told: Outcomes, hasty: Tier, rosa: User
) -> None:
    request = ask("hasty")
    expire_overdue(now=request.expires_at)
    reject(request, rosa)
    assert told.told == [(request.pk, "rejected", "rosa")]


def test_the_lower_tier_decides_no_more_after_an_escalation(told: Outcomes, hasty: Tier) -> None:
    susi = factories.person("susi", Groups.SUPERVISORS)
    request = ask("hasty")
    expire_overdue(now=request.expires_at)
    with pytest.raises(NotAnApprover):
        approve(request, susi)
    assert not Vote.objects.exists()
    assert stored(request).status == "pending"


def test_what_has_been_decided_neither_expires_nor_escalates(
    told: Outcomes, hasty: Tier, rosa: User
) -> None:
    approved, rejected = ask("supervisor"), ask("hasty")
    approve(approved, rosa)
    reject(rejected, rosa)
    assert expire_overdue(now=approved.expires_at + SECOND) == 0
    assert [stored(approved).status, stored(rejected).status] == ["approved", "rejected"]


def test_the_longest_overdue_are_settled_first(told: Outcomes) -> None:
    requests = [ask("supervisor") for _ in range(3)]
    for days, request in zip((3, 1, 2), requests, strict=True):
        ApprovalRequest.objects.filter(pk=request.pk).update(
            expires_at=request.expires_at + timedelta(days=days)
        )
    late = requests[0].expires_at + timedelta(days=9)
    assert expire_overdue(now=late, limit=2) == 2
    assert [stored(request).status for request in requests] == ["pending", "expired", "expired"]
    assert expire_overdue(now=late) == 1


def test_the_sweeper_leaves_alone_what_is_not_due(told: Outcomes) -> None:
    request = ask("supervisor")
    assert tasks.expire_overdue() == 0
    assert stored(request).status == "pending"


def test_an_action_that_nobody_decides_on_is_not_carried_out(governed: Governed) -> None:
    action = governed.pay(governed.run(), 500).action
    request = ApprovalRequest.objects.get(subject_id=action.pk)
    expire_overdue(now=request.expires_at)
    action.refresh_from_db()
    assert (action.status, action.attempts_count) == ("expired", 0)
    assert governed.toolbox.effects == []
