"""Eligibility to decide a request: checked at the vote, at the resolution, and when the approval is
used.
"""

from collections.abc import Iterable, Iterator
from itertools import islice

from django.db.models import Exists, OuterRef, QuerySet

from accounts.models import User
from accounts.people import is_named_by
from approvals import handlers
from approvals.errors import NotAnApprover, OwnAgent, OwnRequest
from approvals.models import ApprovalRequest, Tier, Vote
from audit.auditor_scope import scope_of
from common.errors import GovernanceError

# A count on a page says "more than" beyond this many.
MAX_COUNTED = 1_000
_CHUNK = 200
_TIERS = "_chancery_tiers"


def ensure_may_decide(request: ApprovalRequest, user: User) -> None:
    """Superusers are people too: every rule here binds them.

    Raises OwnRequest; OwnAgent for a person who answers for the agent, or for whom the work is done
    by the agent's word; NotAnApprover.
    """
    refusal = _refusal_by_request(request, user)
    if refusal is not None:
        raise refusal
    if not request.tier.owner_may_sign and user.pk in handlers.involved_now(request):
        raise OwnAgent


def refusal_for(request: ApprovalRequest, user: User) -> GovernanceError | None:
    try:
        ensure_may_decide(request, user)
    except GovernanceError as refusal:
        return refusal
    return None


def _refusal_by_request(request: ApprovalRequest, user: User) -> GovernanceError | None:
    """Return the reason in the request itself against this person, for lists of many requests.
    Users who came to own or sponsor the agent since are checked when they vote.
    """
    if request.requester_kind == "human" and request.requester_id == str(user.pk):
        return OwnRequest()
    is_involved = user.pk in request.conflicted_users or is_named_by(user, request.initiator)
    if is_involved and not request.tier.owner_may_sign:
        return OwnAgent()
    is_at_work = user.is_active and user.is_staff and scope_of(user) is None
    if not is_at_work or request.tier_id not in _tiers_of(user):
        return NotAnApprover()
    return None


def _tiers_of(user: User) -> frozenset[str]:
    """The tiers whose groups the person is in; looked up once for the instance."""
    known: frozenset[str] | None = getattr(user, _TIERS, None)
    if known is None:
        found = Tier.objects.filter(groups__user=user).values_list("slug", flat=True)
        known = frozenset(found)
        setattr(user, _TIERS, known)
    return known


def standing_votes(request: ApprovalRequest) -> tuple[list[Vote], list[tuple[Vote, str]]]:
    """The approvals at the request's tier whose voters may still decide it, and the others, each
    with the code of what speaks against it.

    Consent given at a lower tier before an escalation does not count for the higher one.
    """
    given = request.votes.standing().filter(answer=Vote.Answer.APPROVE, tier=request.tier_id)
    good, lost = [], []
    for vote in given.select_related("voter"):
        refusal = refusal_for(request, vote.voter)
        if refusal is None:
            good.append(vote)
        else:
            lost.append((vote, refusal.code))
    return good, lost


def is_backed(request: ApprovalRequest) -> bool:
    """Whether as many people stand behind the approval as its tier asks for, now."""
    good, _ = standing_votes(request)
    return len({vote.voter_id for vote in good}) >= max(request.quorum, 1)


def is_decidable(request: ApprovalRequest) -> bool:
    """Whether enough people are left who may decide it, whether they have voted or not."""
    able = [one for one in _members(request.tier_id) if refusal_for(request, one) is None]
    return len(able) >= request.quorum


def undecidable(requests: Iterable[ApprovalRequest]) -> list[ApprovalRequest]:
    """Those for which too few people are left."""
    members: dict[str, list[User]] = {}
    found = []
    for request in requests:
        if request.tier_id not in members:
            members[request.tier_id] = _members(request.tier_id)
        able = [
            one for one in members[request.tier_id] if _refusal_by_request(request, one) is None
        ]
        if len(able) < request.quorum:
            found.append(request)
    return found


def _members(tier: str) -> list[User]:
    people = User.objects.filter(is_active=True, is_staff=True, groups__tiers=tier).distinct()
    return list(people.order_by("pk"))


def waiting_for(user: User, *, after: str | None = None) -> Iterator[ApprovalRequest]:
    """The pending requests that the person may decide and has not voted on, oldest first; after the
    one with this key.
    """
    found = _candidates(user)
    last = after
    while True:
        rows = list((found.filter(pk__gt=last) if last else found)[:_CHUNK])
        yield from (row for row in rows if _refusal_by_request(row, user) is None)
        if len(rows) < _CHUNK:
            return
        last = str(rows[-1].pk)


def count_waiting_for(user: User) -> int:
    """Count the requests, up to MAX_COUNTED."""
    return sum(1 for _ in islice(waiting_for(user), MAX_COUNTED))


def _candidates(user: User) -> QuerySet[ApprovalRequest]:
    voted = Vote.objects.standing().filter(
        request=OuterRef("pk"), voter=user, tier=OuterRef("tier")
    )
    pending = ApprovalRequest.objects.pending().for_approver(user)
    own = pending.exclude(requester_kind="human", requester_id=str(user.pk))
    return own.exclude(Exists(voted)).select_related("tier").order_by("pk")
