"""Statuses that are changed round the commands are reported, and those that commands change not."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import User
from actions.models import Action
from actions.services import redecision
from approvals.models import ApprovalRequest, Vote
from approvals.services import cast_vote, expire_overdue, withdraw
from audit.models import DbChange, Event
from audit.services.change_reconciliation import reconcile
from common.actors import SYSTEM, Actor
from tests import factories
from tests.factories import Governed

pytestmark = pytest.mark.django_db


def reported() -> list[str]:
    before = set(Event.objects.values_list("pk", flat=True))
    reconcile(settle=timedelta(seconds=-1))
    found = Event.objects.filter(type="record.bypass_detected").exclude(pk__in=before)
    return sorted(event.subject_kind for event in found)


def request_of(governed: Governed, amount: int = 500) -> ApprovalRequest:
    governed.pay(governed.run(), amount)
    return ApprovalRequest.objects.latest("opened_at")


def vote(request: ApprovalRequest, person: User, answer: str) -> None:
    cast_vote(request.pk, actor=Actor.from_user(person), answer=Vote.Answer(answer), reason="Seen.")


def test_what_commands_do_is_said(governed: Governed, rosa: User, ruben: User) -> None:
    vote(request_of(governed), rosa, "approve")
    redecision.resume(Action.objects.latest("decided_at").pk)
    vote(request_of(governed), rosa, "reject")
    withdraw(request_of(governed).pk, actor=SYSTEM, reason="No longer.")
    expire_overdue(now=request_of(governed).expires_at)
    request = request_of(governed, 5000)
    vote(request, rosa, "approve")
    rosa.groups.clear()
    vote(request, ruben, "approve")
    assert DbChange.objects.filter(table="approvals.approvalrequest").exists()
    assert [kind for kind in reported() if kind.startswith(("approvals", "actions"))] == []


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("approvals.approvalrequest", {"status": "expired", "decided_at": timezone.now()}),
        ("approvals.approvalrequest", {"status": "withdrawn", "decided_at": timezone.now()}),
    ],
)
def test_a_request_that_was_changed_in_the_database_is_reported(
    governed: Governed, rosa: User, kind: str, change: dict[str, Any]
) -> None:
    request = request_of(governed)
    reported()
    ApprovalRequest.objects.filter(pk=request.pk).update(**change)
    assert reported() == [kind]
    assert reported() == []


def test_so_is_a_vote_and_an_action(governed: Governed, rosa: User, ruben: User) -> None:
    request = request_of(governed)
    stranger = factories.person("stranger")
    reported()
    Vote.objects.create(
        request=request, voter=stranger, tier=request.tier, answer="approve", reason="x",
        snapshot_digest=request.snapshot_digest, cast_at=timezone.now(),
    )  # fmt: skip
    assert reported() == ["approvals.vote"]
    Action.objects.filter(status="waiting").update(status="withdrawn")
    assert reported() == ["actions.action"]


def test_one_event_explains_one_change(governed: Governed, rosa: User) -> None:
    """A vote beside a genuine one of the same request."""
    request = request_of(governed, 5000)
    vote(request, rosa, "approve")
    stranger = factories.person("stranger")
    Vote.objects.create(
        request=request, voter=stranger, tier=request.tier, answer="approve", reason="x",
        snapshot_digest=request.snapshot_digest, cast_at=timezone.now(),
    )  # fmt: skip
    assert "approvals.vote" in reported()
