"""Questions to people as these tests ask them: about nothing in particular."""

import itertools
from dataclasses import dataclass, field
from uuid import UUID

from accounts.models import User
from approvals.models import ApprovalRequest, Vote
from approvals.services import NewApprovalRequest, cast_vote, open_request, tier_terms
from audit.models import Event
from audit.services.recorder import Subject
from common.actors import Actor

KIND = "tests.question"
_things = itertools.count(1)
AGENT = Actor("agent", "tilda.prod", "tilda.prod")


@dataclass
class Outcomes:
    """What the floor above has been told, and by whom."""

    told: list[tuple[UUID, str, str]] = field(default_factory=list)
    refuse_with: Exception | None = None

    def __call__(self, request: ApprovalRequest, actor: Actor) -> None:
        if self.refuse_with is not None:
            raise self.refuse_with
        self.told.append((request.pk, str(request.status), actor.label))


def ask(
    tier: str = "supervisor", *, by: Actor = AGENT, answerable: tuple[int, ...] = ()
) -> ApprovalRequest:
    question = NewApprovalRequest(
        kind=KIND,
        title="May it?",
        subject=Subject("tests.thing", str(next(_things)), "a thing"),
        tier=tier_terms(tier),
        snapshot={"amount": 5},
        conflicted_users=answerable,
    )
    return open_request(question, actor=by)


def approve(request: ApprovalRequest, user: User, reason: str = "Fine.") -> ApprovalRequest:
    actor = Actor.from_user(user)
    return cast_vote(request.pk, actor=actor, answer=Vote.Answer.APPROVE, reason=reason)


def reject(request: ApprovalRequest, user: User, reason: str = "No.") -> ApprovalRequest:
    actor = Actor.from_user(user)
    return cast_vote(request.pk, actor=actor, answer=Vote.Answer.REJECT, reason=reason)


def stored(request: ApprovalRequest) -> ApprovalRequest:
    return ApprovalRequest.objects.get(pk=request.pk)


def history() -> list[str]:
    """What the log says of approvals, oldest first."""
    found = Event.objects.filter(type__startswith="approval.").order_by("id")
    return list(found.values_list("type", flat=True))
