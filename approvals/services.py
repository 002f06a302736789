import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from accounts.factors import Factor
from accounts.models import User
from approvals import events, handlers
from approvals.eligibility import ensure_may_decide, is_backed, standing_votes, undecidable
from approvals.errors import (
    AlreadyVoted,
    ApprovalAlreadySpent,
    ApprovalNotGiven,
    NotAnApprover,
    RequestAlreadyDecided,
    StepUpRequired,
    UnknownAnswer,
    UnknownTier,
)
from approvals.models import ApprovalRequest, Tier, Vote
from audit.bounded_values import event_value
from audit.generation import hold_exclusive
from audit.services.recorder import EVENTS, Subject, event_row, record
from common.actors import SYSTEM, Actor
from common.canonical import digest, normalise
from common.clock import database_now
from common.commands import command
from common.errors import NotFound
from common.ids import uuid7
from common.input_checks import clean_reason
from common.isolation import each
from common.sql import Insert, Row, write

log = logging.getLogger(__name__)

REQUESTS = Insert(
    "approvals_approvalrequest",
    {
        "id": "uuid",
        "kind": "text",
        "title": "text",
        "subject_kind": "text",
        "subject_id": "text",
        "subject_label": "text",
        "run_id": "uuid",
        "snapshot": "jsonb",
        "snapshot_digest": "text",
        "reasons": "jsonb",
        "requester_kind": "text",
        "requester_id": "text",
        "requester_label": "text",
        "conflicted_users": "jsonb",
        "initiator": "text",
        "tier_id": "text",
        "quorum": "smallint",
        "status": "text",
        "opened_at": "timestamptz",
        "expires_at": "timestamptz",
        "decided_at": "timestamptz",
        "spent_at": "timestamptz",
    },
)


@dataclass(frozen=True, slots=True)
class TierSnapshot:
    """A tier as decisions use it, held in memory."""

    slug: str
    title: str
    rank: int
    quorum: int
    time_limit_seconds: int


@dataclass(frozen=True, slots=True)
class NewApprovalRequest:
    """An approval request before it is opened.

    `logged_elsewhere`: parts of the snapshot that another event of the same transaction holds.
    `data_class`: of what the snapshot shows, if the log is to keep it apart.
    """

    kind: str
    title: str
    subject: Subject
    tier: TierSnapshot
    snapshot: Mapping[str, Any]
    reasons: Sequence[Mapping[str, str]] = ()
    conflicted_users: Sequence[int] = ()
    run_id: UUID | None = None
    initiator: str = ""
    id: UUID = field(default_factory=uuid7)
    logged_elsewhere: frozenset[str] = frozenset()
    data_class: str = ""


def terms_by_slug() -> dict[str, TierSnapshot]:
    rows = Tier.objects.values_list("slug", "title", "rank", "quorum", "time_limit_seconds")
    return {row[0]: TierSnapshot(*row) for row in rows}


def question_rows(question: NewApprovalRequest, *, actor: Actor, now: datetime) -> tuple[Row, Row]:
    """The rows of a request and of its event, for writers that commit many at once."""
    expires_at = now + timedelta(seconds=question.tier.time_limit_seconds)
    snapshot_digest = digest(question.snapshot)
    row = {
        "id": question.id,
        "kind": question.kind,
        "title": question.title[:200],
        "subject_kind": question.subject.kind,
        "subject_id": question.subject.id,
        "subject_label": question.subject.label[:200],
        "run_id": question.run_id,
        "snapshot": question.snapshot,
        "snapshot_digest": snapshot_digest,
        "reasons": list(question.reasons),
        "requester_kind": actor.kind,
        "requester_id": actor.id,
        "requester_label": actor.label[:200],
        "conflicted_users": list(question.conflicted_users),
        "initiator": question.initiator[:200],
        "tier_id": question.tier.slug,
        "quorum": question.tier.quorum,
        "status": ApprovalRequest.Status.PENDING.value,
        "opened_at": now,
        "expires_at": expires_at,
        "decided_at": None,
        "spent_at": None,
    }
    shown = normalise(
        {
            name: part
            for name, part in question.snapshot.items()
            if name not in question.logged_elsewhere
        }
    )
    event = event_row(
        events.APPROVAL_REQUESTED,
        actor=actor,
        subject=question.subject,
        run_id=question.run_id,
        at=now,
        details={
            "approval": str(question.id),
            "tier": question.tier.slug,
            "quorum": question.tier.quorum,
            "expires_at": expires_at.isoformat(),
            "digest": snapshot_digest,
            "question": question.title,
            **event_value("shown", shown, question.data_class),
        },
    )
    return row, event


@command
def ensure_tier(
    slug: str,
    *,
    actor: Actor,
    title: str,
    rank: int,
    quorum: int,
    groups: Sequence[Group],
    time_limit_seconds: int = 24 * 3600,
    escalate_to: Tier | None = None,
) -> Tier:
    """The tier of that slug, made if there is none. On timeout it escalates if it can."""
    found = Tier.objects.filter(slug=slug).first()
    if found is not None:
        return found
    tier = Tier.objects.create(
        slug=slug,
        title=title,
        rank=rank,
        quorum=quorum,
        time_limit_seconds=time_limit_seconds,
        on_timeout=Tier.OnTimeout.ESCALATE if escalate_to else Tier.OnTimeout.DENY,
        escalate_to=escalate_to,
    )
    tier.groups.set(groups)
    return tier


@command
def set_step_up(slug: str, *, actor: Actor, required: bool, reason: str) -> Tier:
    """Whether who answers in this tier shows a second factor again first. Raises UnknownTier."""
    reason = clean_reason(reason)
    tier = Tier.objects.select_for_update().filter(slug=slug).first()
    if tier is None:
        raise UnknownTier
    if tier.requires_step_up != required:
        tier.requires_step_up = required
        tier.save(update_fields=["requires_step_up"])
        record(
            events.TIER_STEP_UP_CHANGED, actor=actor, subject=tier, required=required, reason=reason
        )
    return tier


@command
def open_request(question: NewApprovalRequest, *, actor: Actor) -> ApprovalRequest:
    """Ask people. Raises KeyError for a kind that no handler is registered for."""
    if question.kind not in handlers.handled_kinds():
        raise KeyError(question.kind)
    row, event = question_rows(question, actor=actor, now=timezone.now())
    write(connection, [(REQUESTS, [row]), (EVENTS, [event])])
    return ApprovalRequest.objects.get(pk=question.id)


@command
def cast_vote(
    request_id: UUID,
    *,
    actor: Actor,
    answer: Vote.Answer,
    reason: str,
    factor: Factor | None = None,
) -> ApprovalRequest:
    """Record a person's answer and resolve the request if it settles it.

    One rejection rejects; `quorum` approvals at the current tier approve, of people who may decide
    the request at that moment: others' votes are struck. `factor` is the second
    factor that the person has shown; a tier may ask for a fresh one. Raises the refusals of
    `approvals.errors`, NotFound, and ReasonRequired.
    """
    reason = clean_reason(reason)
    request = _locked_to_answer(request_id)
    now = timezone.now()
    request.ensure_pending(now)
    voter = _person(actor)
    ensure_may_decide(request, voter)
    if answer not in Vote.Answer.values:
        raise UnknownAnswer
    if request.tier.requires_step_up and (factor is None or not factor.is_fresh(now)):
        raise StepUpRequired
    if request.votes.standing().filter(voter=voter, tier=request.tier_id).exists():
        raise AlreadyVoted
    try:
        with transaction.atomic():
            Vote.objects.create(
                request=request,
                voter=voter,
                tier=request.tier,
                answer=answer,
                reason=reason,
                snapshot_digest=request.snapshot_digest,
                factor=str(factor or ""),
                cast_at=now,
            )
    except IntegrityError as error:
        raise AlreadyVoted from error
    record(
        events.APPROVAL_VOTED,
        actor=actor,
        subject=_subject(request),
        run_id=request.run_id,
        approval=str(request.pk),
        answer=str(answer),
        reason=reason,
        tier=request.tier_id,
        factor=str(factor or ""),
    )
    if answer == Vote.Answer.REJECT:
        _resolve(request, ApprovalRequest.Status.REJECTED, actor=actor, now=now)
    elif _approvals(request, now=now) >= request.quorum:
        _resolve(request, ApprovalRequest.Status.APPROVED, actor=actor, now=now)
    return request


@command
def withdraw(request_id: UUID, *, actor: Actor, reason: str) -> None:
    """Take a waiting question back. Raises RequestAlreadyDecided if it is not waiting."""
    request = _locked(request_id)
    if request.status != ApprovalRequest.Status.PENDING:
        raise RequestAlreadyDecided
    request.status = ApprovalRequest.Status.WITHDRAWN
    request.decided_at = timezone.now()
    request.save(update_fields=["status", "decided_at"])
    record(
        events.APPROVAL_WITHDRAWN,
        actor=actor,
        subject=_subject(request),
        run_id=request.run_id,
        approval=str(request.pk),
        reason=reason,
    )


@command
def spend(request_id: UUID, *, actor: Actor, action: str) -> ApprovalRequest:
    """Use an approval, once, in the transaction of what it allows.

    Whatever its row says, it is one only if enough people stand behind it who may decide it now.
    Raises ApprovalNotGiven, ApprovalAlreadySpent.
    """
    request = _locked(request_id)
    if request.status != ApprovalRequest.Status.APPROVED or not is_backed(request):
        raise ApprovalNotGiven
    if request.spent_at is not None:
        raise ApprovalAlreadySpent
    request.spent_at = timezone.now()
    request.save(update_fields=["spent_at"])
    record(
        events.APPROVAL_SPENT,
        actor=actor,
        subject=_subject(request),
        run_id=request.run_id,
        approval=str(request.pk),
        action=action,
    )
    return request


def expire_overdue(*, now: datetime | None = None, limit: int = 200) -> int:
    """Expire or escalate requests whose time has run out; the number settled."""
    moment = now or database_now()
    due = ApprovalRequest.objects.due(moment).order_by("expires_at").values_list("pk", flat=True)
    return sum(
        each(
            due[:limit],
            lambda request_id: _settle_one(request_id, moment, actor=SYSTEM),
            what="request",
        )
    )


@command
def _settle_one(request_id: UUID, now: datetime, *, actor: Actor) -> bool:
    request = _locked_to_answer(request_id)
    # Somebody may have decided it, or another sweeper settled it, since the list was read.
    if request.status != ApprovalRequest.Status.PENDING or request.expires_at > now:
        return False
    next_tier = request.tier.escalate_to
    if request.tier.on_timeout == Tier.OnTimeout.ESCALATE and next_tier is not None:
        _escalate(request, next_tier, actor=actor, now=now)
    else:
        _resolve(request, ApprovalRequest.Status.EXPIRED, actor=actor, now=now)
    return True


def _escalate(request: ApprovalRequest, tier: Tier, *, actor: Actor, now: datetime) -> None:
    left = request.tier_id
    request.tier = tier
    request.quorum = tier.quorum
    request.expires_at = now + timedelta(seconds=tier.time_limit_seconds)
    request.save(update_fields=["tier", "quorum", "expires_at"])
    record(
        events.APPROVAL_ESCALATED,
        actor=actor,
        subject=_subject(request),
        run_id=request.run_id,
        approval=str(request.pk),
        from_tier=left,
        to_tier=tier.slug,
    )


_RESOLUTION_EVENTS = {
    ApprovalRequest.Status.APPROVED: events.APPROVAL_APPROVED,
    ApprovalRequest.Status.REJECTED: events.APPROVAL_REJECTED,
}


def _resolve(
    request: ApprovalRequest, status: ApprovalRequest.Status, *, actor: Actor, now: datetime
) -> None:
    request.status = status
    request.decided_at = now
    request.save(update_fields=["status", "decided_at"])
    subject = _subject(request)
    if status in _RESOLUTION_EVENTS:
        record(
            _RESOLUTION_EVENTS[status],
            actor=actor,
            subject=subject,
            run_id=request.run_id,
            approval=str(request.pk),
            tier=request.tier_id,
            votes=request.votes.standing().count(),
        )
    else:
        record(
            events.APPROVAL_EXPIRED,
            actor=actor,
            subject=subject,
            run_id=request.run_id,
            approval=str(request.pk),
            tier=request.tier_id,
        )
    handlers.resolved(request, actor)


def tier_terms(slug: str) -> TierSnapshot:
    """Raises UnknownTier."""
    found = terms_by_slug().get(slug)
    if found is None:
        raise UnknownTier
    return found


def _approvals(request: ApprovalRequest, *, now: datetime) -> int:
    """Count the approvals that stand; those of people who may no longer decide are struck."""
    good, lost = standing_votes(request)
    for vote, code in lost:
        vote.struck_at, vote.struck_because = now, code
        vote.save(update_fields=["struck_at", "struck_because"])
        record(
            events.VOTE_STRUCK,
            actor=SYSTEM,
            subject=_subject(request),
            run_id=request.run_id,
            approval=str(request.pk),
            voter=vote.voter_id,
            error=code,
        )
    return len(good)


def flag_undecidable(*, now: datetime | None = None, limit: int = 500) -> int:
    """Mark, and record, pending requests that too few people are left to decide; how many are new.

    One that can be decided again is unmarked.
    """
    moment = now or database_now()
    pending = ApprovalRequest.objects.pending().select_related("tier").order_by("pk")[:limit]
    lacking = {request.pk for request in undecidable(pending)}
    changed = [one for one in pending if (one.pk in lacking) != (one.undecidable_since is not None)]
    return sum(
        each(
            changed,
            lambda one: _mark(one.pk, moment, is_lacking=one.pk in lacking, actor=SYSTEM),
            what="request",
        )
    )


@command
def _mark(request_id: UUID, now: datetime, *, is_lacking: bool, actor: Actor) -> bool:
    request = _locked(request_id)
    if request.status != ApprovalRequest.Status.PENDING:
        return False
    request.undecidable_since = now if is_lacking else None
    request.save(update_fields=["undecidable_since"])
    if is_lacking:
        record(
            events.APPROVAL_UNDECIDABLE,
            actor=actor,
            subject=_subject(request),
            run_id=request.run_id,
            approval=str(request.pk),
            tier=request.tier_id,
        )
    return is_lacking


def _locked_to_answer(request_id: UUID) -> ApprovalRequest:
    """The request, locked after the generation if its answer changes what decisions are made from:
    commands that take it back come in that order.
    """
    kind = ApprovalRequest.objects.filter(pk=request_id).values_list("kind", flat=True).first()
    if kind is not None and handlers.changes_decisions(kind):
        hold_exclusive()
    return _locked(request_id)


def _locked(request_id: UUID) -> ApprovalRequest:
    try:
        return (
            ApprovalRequest.objects.select_for_update(of=("self",))
            .select_related("tier", "tier__escalate_to")
            .get(pk=request_id)
        )
    except ApprovalRequest.DoesNotExist as error:
        raise NotFound from error


def _person(actor: Actor) -> User:
    if actor.kind != "human":
        raise NotAnApprover
    user = User.objects.filter(pk=actor.id, is_active=True).first()
    if user is None:
        raise NotAnApprover
    return user


def _subject(request: ApprovalRequest) -> Subject:
    return Subject(request.subject_kind, request.subject_id, request.subject_label)
