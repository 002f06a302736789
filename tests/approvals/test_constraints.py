"""Rules that the database keeps itself, whoever writes to it."""

from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from accounts.models import User
from approvals.models import ApprovalRequest, Tier, Vote
from approvals.services import spend
from common.actors import SYSTEM
from tests.approvals.questions import Outcomes, approve, ask, reject, stored

pytestmark = pytest.mark.django_db

# The frozen columns, each with another value as SQL.
OF_REQUESTS = {
    "kind": "'other'",
    "subject_kind": "'other'",
    "subject_id": "'another'",
    "title": "'Another'",
    "requester_label": "'another'",
    "reasons": """'[{"rule": "another"}]'""",
    "snapshot": """'{"amount": 6}'""",
    "snapshot_digest": "'other'",
    "requester_kind": "'human'",
    "requester_id": "'other'",
    "conflicted_users": "'[99]'",
    "opened_at": "'2001-01-01 00:00:00+00:00'",
}
OF_VOTES = {
    "request_id": "'01890000000070008000000000000000'",
    "voter_id": "voter_id + 1",
    "tier_id": "'dual'",
    "answer": "'reject'",
    "reason": "'other'",
    "snapshot_digest": "'other'",
    "factor": "'webauthn 1'",
    "cast_at": "'2001-01-01 00:00:00+00:00'",
}


def run(statement: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


def refused(rows: models.QuerySet[Any], **values: Any) -> None:
    before = list(rows.values())
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.update(**values)
    assert list(rows.values()) == before


def test_what_was_asked_is_never_changed(told: Outcomes) -> None:
    ask()
    before = ApprovalRequest.objects.values().get()
    for column, value in OF_REQUESTS.items():
        with pytest.raises(IntegrityError):
            run(f"UPDATE approvals_approvalrequest SET {column} = {value}")
    assert ApprovalRequest.objects.values().get() == before


def test_what_somebody_answered_is_never_changed(told: Outcomes, rosa: User) -> None:
    approve(ask(), rosa)
    before = Vote.objects.values().get()
    for column, value in OF_VOTES.items():
        with pytest.raises(IntegrityError):
            run(f"UPDATE approvals_vote SET {column} = {value}")
    assert Vote.objects.values().get() == before


def test_the_orm_does_not_change_them_either(told: Outcomes, rosa: User) -> None:
    request = ask()
    approve(request, rosa)
    refused(ApprovalRequest.objects.all(), snapshot={"amount": 6})
    refused(ApprovalRequest.objects.all(), conflicted_users=[99])
    refused(Vote.objects.all(), answer="reject")
    request.snapshot = {"amount": 6}
    with pytest.raises(IntegrityError), transaction.atomic():
        request.save()
    assert stored(request).snapshot == {"amount": 5}


def test_what_is_pending_has_no_time_of_decision_and_all_else_has(told: Outcomes) -> None:
    ask()
    requests = ApprovalRequest.objects.all()
    refused(requests, decided_at=timezone.now())
    for status in ("approved", "rejected", "expired", "withdrawn"):
        refused(requests, status=status)
        refused(requests, status="pending", decided_at=timezone.now())


def test_only_an_approved_request_is_spent(told: Outcomes, rosa: User) -> None:
    request = ask()
    requests = ApprovalRequest.objects.all()
    refused(requests, spent_at=timezone.now())
    reject(request, rosa)
    refused(requests, spent_at=timezone.now())
    for status in ("expired", "withdrawn"):
        refused(requests, status=status, spent_at=timezone.now())


def test_a_person_has_one_vote(told: Outcomes, rosa: User) -> None:
    request = ask("dual")
    approve(request, rosa)
    for answer in ("approve", "reject"):
        with pytest.raises(IntegrityError), transaction.atomic():
            Vote.objects.create(
                request=request,
                voter=rosa,
                tier=request.tier,
                answer=answer,
                reason="Again.",
                snapshot_digest="",
                cast_at=timezone.now(),
            )
    assert Vote.objects.count() == 1


@pytest.mark.parametrize("wrong", [{"reason": ""}, {"answer": "perhaps"}, {"answer": ""}])
def test_a_vote_is_a_known_answer_with_a_reason(
    told: Outcomes, rosa: User, wrong: dict[str, str]
) -> None:
    request = ask()
    values = {"answer": "approve", "reason": "Fine.", **wrong}
    with pytest.raises(IntegrityError), transaction.atomic():
        Vote.objects.create(
            request=request,
            voter=rosa,
            tier=request.tier,
            snapshot_digest="",
            cast_at=timezone.now(),
            **values,
        )
    assert not Vote.objects.exists()


def test_a_tier_makes_sense(tiers: dict[str, Tier]) -> None:
    dual = Tier.objects.filter(slug="dual")
    for values in (
        {"rank": 0},
        {"rank": tiers["manager"].rank},
        {"quorum": 0},
        {"time_limit_seconds": 0},
        {"on_timeout": "escalate"},
        {"escalate_to": "manager"},
        {"on_timeout": "shrug"},
        {"on_timeout": "escalate", "escalate_to": "dual"},
    ):
        refused(dual, **values)
    assert dual.update(on_timeout="escalate", escalate_to="manager") == 1


def test_a_tier_is_made_sensibly_or_not_at_all(tiers: dict[str, Tier]) -> None:
    for values in ({"rank": 0}, {"rank": 20}, {"rank": 50, "quorum": 0}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Tier.objects.create(slug="new", title="New", **values)
    assert not Tier.objects.filter(slug="new").exists()


def test_what_a_decision_rests_on_is_not_deleted(told: Outcomes, rosa: User) -> None:
    request = ask()
    approve(request, rosa)
    for thing in (rosa, Tier.objects.get(slug="supervisor"), stored(request)):
        with pytest.raises(ProtectedError):
            thing.delete()
    assert Vote.objects.count() == 1


def test_what_was_decided_is_not_decided_otherwise(told: Outcomes, rosa: User) -> None:
    request = approve(ask(), rosa)
    before = ApprovalRequest.objects.values().get()
    for change in ("status = 'rejected'", "status = 'pending', decided_at = NULL"):
        with pytest.raises(IntegrityError):
            run(f"UPDATE approvals_approvalrequest SET {change}")
    assert ApprovalRequest.objects.values().get() == before
    spend(request.pk, actor=SYSTEM, action="it")
    with pytest.raises(IntegrityError):
        run("UPDATE approvals_approvalrequest SET spent_at = NULL")
    assert stored(request).spent_at is not None


def test_questions_and_votes_are_never_removed(told: Outcomes, rosa: User) -> None:
    approve(ask(), rosa)
    for table in ("approvals_vote", "approvals_approvalrequest"):
        with pytest.raises(IntegrityError):
            run(f"DELETE FROM {table}")
    assert (Vote.objects.count(), ApprovalRequest.objects.count()) == (1, 1)
